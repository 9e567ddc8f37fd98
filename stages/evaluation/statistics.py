"""Intervals and comparisons of scores from their items: exact for shares, clustered where items come in groups, paired
where two models answered the same ones.

One implementation for all: `base.stats` and `base.crossed`. Items of one passage are not independent, and a standard
error that says so is up to three times as large; two models' scores on the same items are correlated, and their
difference is known better than either (Miller 2024, "Adding error bars to evals", sections 2 and 4).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np

from stages.base import crossed
from stages.base.contracts.evaluation import Score
from stages.base.crossed import Estimate, contrast
from stages.base.stats import share_interval

LEVEL = 0.95
EXACT = "exact binomial"
Weights = Literal["size", "equal"]


def score(values: Sequence[float], clusters: Sequence[str] | None = None) -> Score:
    """Mean of the items' values, each from 0 to 1, with its 95 % interval.

    clusters: which group each item is in, "" for none. Groups of one item each are none: then shares of right and wrong
    have Clopper and Pearson's exact interval, other values Student's. With groups it is by Miller's clustered standard
    error; where all values agree that is 0, and the exact interval counts each group as one item.
    """
    x = np.asarray(values, dtype=np.float64)
    groups = cluster_ids(clusters) if clusters is not None else None
    if not x.size:
        return Score(mean=None, n=0)
    count = 0 if groups is None else int(groups.max()) + 1
    if groups is None and np.isin(x, (0.0, 1.0)).all():
        return _exact(float(x.sum()), x.size, x.size)
    if count == 1 or x.size == 1:
        why = "none: one item" if x.size == 1 else "none: all items are in one group"
        return Score(mean=float(x.mean()), n=x.size, clusters=count, method=why)
    if np.ptp(x) == 0 and x[0] in (0.0, 1.0):
        found = _exact(x[0] * count, count, x.size)
        return found.model_copy(update={"clusters": count, "method": f"{EXACT}, a group counted as one item"})
    return _of(contrast([x[None]], [1.0], clusters=[groups]), "t" if groups is None else "t, clustered", x.size)


def cluster_ids(clusters: Sequence[str]) -> np.ndarray | None:
    """Integers for `crossed.contrast`; None where no two items share a group."""
    own = [name or f"\0{place}" for place, name in enumerate(clusters)]
    names, ids = np.unique(own, return_inverse=True)
    return ids if len(names) < len(own) else None


def stratified(values: Mapping[str, Sequence[float]], weights: Weights) -> Score:
    """Of items by stratum (subject): the weighted mean of the strata's means, and an interval from the spread within
    them alone, as which subjects are asked is no matter of chance.

    weights: `size` (every item alike: the plain mean) or `equal` (every subject alike, as the Open LLM Leaderboard v1
    takes MMLU). Strata of one item have no spread; with such the interval is that of all items together (`size`), or
    none.
    """
    strata = [np.asarray(own, dtype=np.float64) for own in values.values() if len(own)]
    n = sum(len(own) for own in strata)
    if not strata:
        return Score(mean=None, n=0)
    share = [len(own) / n if weights == "size" else 1 / len(strata) for own in strata]
    if min(len(own) for own in strata) == 1:
        if weights == "size":
            return score(np.concatenate(strata).tolist())
        mean = float(sum(part * own.mean() for part, own in zip(share, strata, strict=True)))
        return Score(mean=mean, n=n, method="none: a subject has one item")
    found = contrast([own[None] for own in strata], share, pair_items=False)
    return _of(found, "t, stratified by subject", n)


def over_seeds(table: Sequence[Sequence[float]], clusters: Sequence[str] | None = None) -> Score:
    """Of the same model trained from several seeds, [seeds, items]: the interval is over both (`base.crossed`)."""
    x = np.asarray(table, dtype=np.float64)
    groups = cluster_ids(clusters) if clusters is not None else None
    method = f"t, over {len(x)} seeds and items{', clustered' * (groups is not None)}"
    return _of(contrast([x], [1.0], clusters=[groups]), method, x.shape[1])


def _exact(count: float, n: int, items: int) -> Score:
    mean, low, high = share_interval(round(count), n, LEVEL)
    return Score(mean=mean, low=low, high=high, n=items, method=EXACT)


def _of(found: Estimate, method: str, n: int) -> Score:
    low, high = found.interval(LEVEL)
    mean = float(found.effect)
    return Score(
        mean=mean,
        low=None if np.isnan(low) else max(0.0, float(low)),
        high=None if np.isnan(high) else min(1.0, float(high)),
        n=n,
        clusters=int(found.n_clusters),
        method=method,
    )


@dataclass(frozen=True)
class Difference:
    """One model's score minus another's over the items that both answered."""

    n: int
    clusters: int
    difference: float
    low: float
    high: float
    p: float  # two-sided, of no difference
    visible: float  # the smallest true difference that such data show with a power of 80 %
    correlation: float  # of the two models' values over the items; NaN where one of them never varies

    def items_needed(self, effect: float) -> int:
        """Items of this kind at which a difference of `effect` is visible, by the square root of their number."""
        return int(np.ceil(self.n * (self.visible / effect) ** 2))


def difference(
    a: Mapping[str, float], b: Mapping[str, float], clusters: Mapping[str, str] | None = None
) -> Difference | None:
    """a − b by item, paired; None for fewer than two items in common (or all of one group)."""
    shared = sorted(a.keys() & b.keys())
    if len(shared) < 2:
        return None
    x, y = (np.array([[one[item] for item in shared]]) for one in (a, b))
    groups = cluster_ids([clusters.get(item, "") for item in shared]) if clusters else None
    if groups is not None and groups.max() == 0:
        return None
    found = contrast([x, y], [1.0, -1.0], clusters=[groups, groups])
    low, high = found.interval(LEVEL)
    varies = np.ptp(x) > 0 and np.ptp(y) > 0
    return Difference(
        n=len(shared),
        clusters=int(found.n_clusters),
        difference=float(found.effect),
        low=float(low),
        high=float(high),
        p=float(found.p_two_sided()),
        visible=found.visible(),
        correlation=float(np.corrcoef(x[0], y[0])[0, 1]) if varies else float("nan"),
    )


def compare(
    values: Mapping[str, Mapping[str, float]], clusters: Mapping[str, str] | None = None
) -> tuple[dict[tuple[str, str], Difference], dict[str, int]]:
    """(Differences of all pairs of models, better one first; model → tier) of model → item → value.

    Tiers go by accuracy on the items, with Holm's adjustment over all pairs (`crossed.tiers`).
    """
    means = {model: float(np.mean(list(own.values()))) for model, own in values.items() if own}
    order = sorted(means, key=lambda model: (-means[model], model))
    found = {(a, b): difference(values[a], values[b], clusters) for a, b in combinations(order, 2)}
    p = {pair: 1.0 if one is None else one.p for pair, one in found.items()}
    return {pair: one for pair, one in found.items() if one is not None}, crossed.tiers(means, p, 1 - LEVEL)


def rank_flips(scores: Mapping[str, Mapping[str, float]]) -> list[tuple[str, str, str, str]]:
    """(protocol, another, model, model) wherever the first model is ahead under the first protocol and behind under the
    other one. scores: protocol → model → mean."""
    flips = []
    for one, other in combinations(scores, 2):
        for a, b in combinations(sorted(scores[one].keys() & scores[other].keys()), 2):
            here, there = scores[one][a] - scores[one][b], scores[other][a] - scores[other][b]
            if here * there < 0:
                flips.append((one, other, *((a, b) if here > 0 else (b, a))))
    return flips
