"""Several tasks as one number."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from stages.base.contracts import Contract

Aggregation = Literal["size_weighted", "mean", "mean_win_rate", "normalised", "centred"]


class Group(Contract):
    """Tasks (or groups) by name, and how a score of all is made of theirs."""

    group: str
    task: tuple[str, ...]
    metric: str = "acc"
    aggregation: Aggregation = "size_weighted"
    group_alias: str | None = None


class TaskScore(NamedTuple):
    score: float
    chance: float
    items: int


def aggregate(group: Group, results: Mapping[str, Mapping[str, TaskScore]]) -> dict[str, float]:
    """Score of the group by model, from those of its tasks by model and task; NaN where a task's is missing."""
    raise NotImplementedError
