"""Intervals of scores from their items: exact for shares, clustered where items come in groups. What compares models is
in `base.paired`.

One implementation for all: `base.stats` and `base.crossed`. Items of one passage are not independent, and a standard
error that says so is up to three times as large (Miller 2024, "Adding error bars to evals", section 2).
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from stages.base.contracts.evaluation import Score
from stages.base.crossed import Estimate, contrast
from stages.base.paired import cluster_ids
from stages.base.stats import share_interval

LEVEL = 0.95
EXACT = "exact binomial"
Weights = Literal["size", "equal"]


def score(
    values: Sequence[float], clusters: Sequence[str] | None = None, most: float = 1.0, least: float = 0.0
) -> Score:
    """Mean of the items' values, each from `least` to `most`, with its 95 % interval.

    clusters: which group each item is in, "" for none. Groups of one item each are none: then shares of right and wrong
    have Clopper and Pearson's exact interval, other values Student's. With groups it is by Miller's clustered standard
    error; where all values agree that is 0, and the exact interval counts each group as one item.
    """
    x = np.asarray(values, dtype=np.float64)
    groups = cluster_ids(clusters) if clusters is not None else None
    if not x.size:
        return Score(mean=None, n=0)
    count = 0 if groups is None else int(groups.max()) + 1
    if groups is None and most == 1 and np.isin(x, (0.0, 1.0)).all():
        return _exact(float(x.sum()), x.size, x.size)
    if count == 1 or x.size == 1:
        why = "none: one item" if x.size == 1 else "none: all items are in one group"
        return Score(mean=float(x.mean()), n=x.size, clusters=count, method=why)
    if most == 1 and np.ptp(x) == 0 and x[0] in (0.0, 1.0):
        found = _exact(x[0] * count, count, x.size)
        return found.model_copy(update={"clusters": count, "method": f"{EXACT}, a group counted as one item"})
    apart = contrast([x[None]], [1.0], clusters=[groups])
    return _of(apart, "t" if groups is None else "t, clustered", x.size, most, least)


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


def seeds_apart(
    a: Sequence[Sequence[float]], b: Sequence[Sequence[float]], clusters: Sequence[str] | None = None
) -> Estimate:
    """Two models' difference, a − b, each [seeds, items] on the same items; their seeds are independent samples."""
    groups = cluster_ids(clusters) if clusters is not None else None
    tables = [np.asarray(one, dtype=np.float64) for one in (a, b)]
    return contrast(tables, [1.0, -1.0], pair_seeds=False, clusters=[groups, groups])


def _exact(count: float, n: int, items: int) -> Score:
    mean, low, high = share_interval(round(count), n, LEVEL)
    return Score(mean=mean, low=low, high=high, n=items, method=EXACT)


def _of(found: Estimate, method: str, n: int, most: float = 1.0, least: float = 0.0) -> Score:
    low, high = found.interval(LEVEL)
    mean = float(found.effect)
    return Score(
        mean=mean,
        low=None if np.isnan(low) else max(least, float(low)),
        high=None if np.isnan(high) else min(most, float(high)),
        n=n,
        clusters=int(found.n_clusters),
        method=method,
    )
