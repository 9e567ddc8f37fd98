"""Several tasks as one number: five ways that leaderboards have."""

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from pydantic import Field, model_validator

from stages.base.contracts import Contract
from stages.base.errors import InputError
from stages.base.paired import win_rates

Aggregation = Literal["size_weighted", "mean", "mean_win_rate", "normalised", "centred"]


class Member(Contract):
    """A task of a group, with what the group says of it otherwise than its own file."""

    task: str
    metric: str | None = None
    over: dict[str, Any] = Field(default={})

    @model_validator(mode="before")
    @classmethod
    def _flat(cls, value: Any) -> Any:
        """A name (also of a group), or `{task: name, num_fewshot: 25, …}`."""
        if isinstance(value, str):
            return {"task": value}
        if not isinstance(value, Mapping) or "over" in value:
            return value
        given = dict(value)
        name = given.pop("task", None) or given.pop("group", None)
        return {"task": name, "metric": given.pop("metric", None), "over": given}


class Group(Contract):
    """A file with `group` and a list of tasks, as lm-eval has them; `metric` and `aggregation` are ours."""

    group: str
    task: tuple[Member, ...]
    metric: str = "acc"
    aggregation: Aggregation = "size_weighted"
    """`size_weighted`  mean over all items (MMLU)
    `mean`           mean of the tasks' scores (Open LLM Leaderboard 1)
    `mean_win_rate`  share of the other models that a model beats on a task, over tasks (HELM)
    `normalised`     mean of max(0, score - chance) / (1 - chance) (Open LLM Leaderboard 2)
    `centred`        mean of (score - chance) / (1 - chance), below zero too (CORE of DataComp-LM)"""
    group_alias: str | None = None
    metadata: dict[str, Any] = Field(default={})
    file: str = ""

    @model_validator(mode="before")
    @classmethod
    def _harness(cls, value: Any) -> Any:
        """lm-eval's `aggregate_metric_list` says metric and weighting; its group tasks may be one name."""
        given = dict(value)
        listed = given.pop("aggregate_metric_list", None)
        for one in listed if isinstance(listed, list) else [] if listed is None else [listed]:
            if not isinstance(one, Mapping) or "metric" not in one:
                raise ValueError(f"aggregate_metric_list: an entry names a `metric`, got {str(one)[:40]}")
            if one.get("aggregation", "mean") != "mean":
                raise ValueError(f"aggregate_metric_list: aggregation `{one['aggregation']}` is none that is read")
            given.setdefault("metric", one["metric"])
            given.setdefault("aggregation", "size_weighted" if one.get("weight_by_size", True) else "mean")
        given["task"] = _flat(given.get("task"))
        given.pop("tag", None)
        over = {name: given.pop(name) for name in list(given) if name not in cls.model_fields}
        if over:
            given["task"] = [{**over, **(one if isinstance(one, Mapping) else {"task": one})} for one in given["task"]]
        return given


def _flat(members: Any) -> list[Any]:
    """Members, with those of groups that are written out inside the group: a group's score is of its tasks."""
    if not isinstance(members, list):
        return [] if members is None else [members]
    found: list[Any] = []
    for one in members:
        inside = isinstance(one, Mapping) and isinstance(one.get("task"), list)
        found += _flat(one["task"]) if inside else [one]
    return found


class TaskScore(NamedTuple):
    """Of one model on one task, by the group's metric: higher is better, in [0, 1] but for win rates."""

    score: float
    chance: float
    items: int


def aggregate(group: Group, results: Mapping[str, Mapping[str, TaskScore]]) -> dict[str, float]:
    """Score of the group by model, from those of its tasks by model and task (`group.task`, groups in it resolved).

    NaN for a model without a score on one of the tasks, and for the win rate of a model without another. Ties count
    half a win. Raises InputError for a group without tasks.
    """
    names = [member.task for member in group.task]
    if not names:
        raise InputError(f"{group.file}: the group `{group.group}` has no tasks")
    whole = {model: [scores[name] for name in names] for model, scores in results.items() if set(names) <= set(scores)}
    return {model: _joined(group.aggregation, model, whole) if model in whole else math.nan for model in results}


def _joined(how: Aggregation, model: str, whole: Mapping[str, list[TaskScore]]) -> float:
    own = whole[model]
    match how:
        case "size_weighted":
            return sum(one.score * one.items for one in own) / sum(one.items for one in own)
        case "mean":
            return sum(one.score for one in own) / len(own)
        case "normalised":
            return sum(max(0.0, centred(one)) for one in own) / len(own)
        case "centred":
            return sum(centred(one) for one in own) / len(own)
        case "mean_win_rate":
            tasks = {str(place): {name: one[place].score for name, one in whole.items()} for place in range(len(own))}
            return win_rates(tasks).get(model, math.nan)


def centred(one: TaskScore) -> float:
    """0 at chance, 1 at the top."""
    return (one.score - one.chance) / (1 - one.chance)
