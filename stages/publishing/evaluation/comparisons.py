"""Models beside each other on the same items: paired differences, tiers, and orders that a protocol turns around."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from stages.base import paired
from stages.base.contracts import Contract, Number
from stages.base.contracts.evaluation import LOWER_IS_BETTER
from stages.base.crossed import holm


class Asked(NamedTuple):
    """What a table's row is about."""

    task: str
    protocol: str


@dataclass(frozen=True)
class Answers:
    """One model's value of the main metric on each item, and the cluster of those items that have one."""

    values: Mapping[str, float]
    clusters: Mapping[str, str]


class Paired(Contract):
    """Two models on the items that both were asked; differences in the metric's own unit (a share of 1)."""

    task: str
    protocol: str
    metric: str
    a: str
    b: str
    difference: float
    """a minus b."""
    low: float
    """95 % interval, clustered where items come in clusters."""
    high: float
    p: float
    """Two-sided, of no difference; not adjusted."""
    p_adjusted: float
    """By Holm's method over all pairs of models under this task and protocol."""
    visible: Number
    """The smallest true difference that such data show with 80 % power."""
    n: int
    clusters: int

    @property
    def apart(self) -> bool:
        """The interval leaves out 0."""
        return self.low > 0 or self.high < 0


class Flip(Contract):
    """Two models, in the order of params.yaml, that stand in one order under a protocol and the other under another."""

    task: str
    a: str
    b: str
    ahead: str
    """Protocol under which `a` is ahead."""
    behind: str
    certain: bool
    """Both differences are apart from 0 (95 % intervals)."""


class Comparisons(Contract):
    """`data/publishing/evaluation_report/comparisons.json`."""

    pairs: list[Paired]
    flips: list[Flip]
    tiers: dict[str, dict[str, dict[str, int]]]
    """Task → protocol → model → tier, from 1: one that can't be told from the first of a tier is in it."""

    def between(self, asked: Asked, model: str, other: str) -> Paired | None:
        """`model` minus `other`, whichever way round it was compared."""
        for pair in self.pairs:
            if (pair.task, pair.protocol) == asked and {pair.a, pair.b} == {model, other}:
                return pair if pair.a == model else _turned(pair)
        return None

    def tier(self, asked: Asked, model: str) -> int | None:
        return self.tiers.get(asked.task, {}).get(asked.protocol, {}).get(model)


def _turned(pair: Paired) -> Paired:
    turned = {"a": pair.b, "b": pair.a, "difference": -pair.difference, "low": -pair.high, "high": -pair.low}
    return pair.model_copy(update=turned)


def compare(answers: Mapping[Asked, Mapping[str, Answers]], metrics: Mapping[Asked, str]) -> Comparisons:
    """All pairs of models under each task and protocol that `metrics` knows. metrics: of each, the main metric.

    A pair with fewer than two items (or clusters) in common has no comparison.
    """
    pairs: list[Paired] = []
    tiers: dict[str, dict[str, dict[str, int]]] = {}
    for asked, by_model in answers.items():
        if asked not in metrics or len(by_model) < 2:
            continue
        sign = -1 if metrics[asked] in LOWER_IS_BETTER else 1
        values = {model: {item: sign * x for item, x in one.values.items()} for model, one in by_model.items()}
        clusters = {item: cluster for one in by_model.values() for item, cluster in one.clusters.items()}
        found, placed = paired.compare(values, clusters)
        adjusted = holm([one.p for one in found.values()])
        for (a, b), one, p in zip(found, found.values(), adjusted, strict=True):
            ends = sorted((sign * one.low, sign * one.high))
            pairs.append(
                Paired(
                    task=asked.task, protocol=asked.protocol, metric=metrics[asked], a=a, b=b,
                    difference=sign * one.difference, low=ends[0], high=ends[1], p=one.p, p_adjusted=float(p),
                    visible=one.visible, n=one.n, clusters=one.clusters,
                )
            )  # fmt: skip
        tiers.setdefault(asked.task, {})[asked.protocol] = placed
    found_all = Comparisons(pairs=pairs, flips=[], tiers=tiers)
    return found_all.model_copy(update={"flips": [*_flips(answers, metrics, found_all)]})


def _flips(
    answers: Mapping[Asked, Mapping[str, Answers]], metrics: Mapping[Asked, str], found: Comparisons
) -> Iterator[Flip]:
    means: dict[str, dict[str, dict[str, float]]] = {}
    for asked, by_model in answers.items():
        if asked in metrics:
            sign = -1 if metrics[asked] in LOWER_IS_BETTER else 1
            own = {
                model: sign * float(np.mean([*one.values.values()])) for model, one in by_model.items() if one.values
            }
            means.setdefault(asked.task, {})[asked.protocol] = own
    for task, protocols in means.items():
        order = list(dict.fromkeys(model for own in protocols.values() for model in own))
        turned = [
            (a, b, one, other) if order.index(a) < order.index(b) else (b, a, other, one)
            for one, other, a, b in paired.rank_flips(protocols)
        ]
        for a, b, ahead, behind in sorted(turned, key=lambda row: [*map(order.index, row[:2])]):
            pairs = [found.between(Asked(task, protocol), a, b) for protocol in (ahead, behind)]
            certain = all(pair is not None and pair.apart for pair in pairs)
            yield Flip(task=task, a=a, b=b, ahead=ahead, behind=behind, certain=certain)
