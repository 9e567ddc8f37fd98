"""A contrast of arms over seeds and items: its estimate and its variance from both sources at once.

A run's value on an item is arm + seed + item + what is left. Where all seeds answer the same items, the effects of
seeds and of items are crossed, and neither shrinks with the number of the other. The variance of a mean over both is

    V = V_seed + V_item − V_both

with V_seed the variance of the mean over seeds of the seeds' means, V_item that over items (or clusters of items) of
the items' means, and V_both what both count (two-way analysis of variance; Owen 2007, "The pigeonhole bootstrap"; with
clusters, Cameron, Gelbach and Miller 2011). It is never taken smaller than V_seed or V_item alone. Degrees of freedom
are Satterthwaite's, or the mean of those of seeds and items where that is fewer: harmonic, weighted by V_seed and
V_item. With clusters, V_item is the square of Miller's clustered standard error (2024, "Adding error bars to evals")
times G / (G − 1) for G clusters.

Arrays may have leading axes, such as of simulated repetitions; every number of the result then has them too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.special import nctdtrinc, stdtr, stdtrit

Array = np.ndarray
ROUNDING = 1e-12  # a standard error below this share of the values is none


class Bounds(NamedTuple):
    low: Any
    high: Any


@dataclass(frozen=True)
class Estimate:
    """effect, standard_error, df: floats, or arrays over the leading axes. Variances as in contracts.claim."""

    effect: Any
    standard_error: Any
    df: Any
    seed_variance: Any = None
    item_variance: Any = None
    residual_variance: Any = None
    n_seeds: int = 0
    n_items: int = 0
    n_clusters: int = 0

    def interval(self, level: float) -> Bounds:
        """Two-sided, by Student's t."""
        half = stdtrit(self.df, 0.5 + level / 2) * self.standard_error
        return Bounds(self.effect - half, self.effect + half)

    def visible(self, alpha: float = 0.05, power: float = 0.8) -> float:
        """The smallest true effect that data like these would have shown: `smallest_visible`."""
        return smallest_visible(float(self.standard_error), float(self.df), alpha, power)

    def p_above(self, null: float = 0.0) -> Any:
        """One-sided, of the hypothesis that the effect is `null` or less. Without any spread it is 0 or 1."""
        gap = np.asarray(self.effect) - null
        with np.errstate(divide="ignore", invalid="ignore"):
            tested = stdtr(self.df, -gap / self.standard_error)
        near = np.abs(gap) <= ROUNDING * np.maximum(np.abs(null), np.abs(self.effect))
        return np.where(np.asarray(self.standard_error) > 0, tested, np.where((gap > 0) & ~near, 0.0, 1.0))[()]

    def p_below(self, null: float = 0.0) -> Any:
        return Estimate(-np.asarray(self.effect), self.standard_error, self.df).p_above(-null)

    def p_two_sided(self, null: float = 0.0) -> Any:
        return np.minimum(1.0, 2 * np.minimum(self.p_above(null), self.p_below(null)))[()]

    def p_equivalent(self, margin: float) -> Any:
        """Two one-sided tests (Schuirmann 1987): of the hypothesis that the effect is `margin` or more from 0."""
        return np.maximum(self.p_above(-margin), self.p_below(margin))[()]


def smallest_visible(standard_error: float, df: float, alpha: float = 0.05, power: float = 0.8) -> float:
    """The smallest true effect that a two-sided t test calls one with this power, by the noncentral t distribution."""
    return standard_error * float(nctdtrinc(df, 1 - power, stdtrit(df, 1 - alpha / 2))) if standard_error else 0.0


class Part(NamedTuple):
    """A mean's variance from one source, and its degrees of freedom."""

    variance: Array
    df: float


def contrast(
    tables: Sequence[Array],
    weights: Sequence[float],
    *,
    pair_seeds: bool = True,
    pair_items: bool = True,
    clusters: Sequence[Array | None] | None = None,
) -> Estimate:
    """Σ weight · mean of the table, its standard error and degrees of freedom.

    tables: one an arm, [..., seeds, items]; one column where a run is one number. pair_seeds: row s of every table is
    the same seed; else the arms' seeds are independent samples (Welch). pair_items: column i of every table is the same
    item. clusters: of each table, which group each column is in, as integers; None where each stands alone. Paired
    items share the first one. One row, or one column, leaves that source of variance out; both leave nothing to
    estimate a variance from: ValueError.
    """
    groups = list(clusters) if clusters else [None] * len(tables)
    seeds, items = [t.shape[-2] for t in tables], [t.shape[-1] for t in tables]
    if max(seeds) == 1 and max(items) == 1:
        raise ValueError("one seed and one item: no variance can be estimated")
    if max(seeds) > 1 == min(seeds) or max(items) > 1 == min(items):
        raise ValueError("one table has one seed or item and another has several")
    if (pair_seeds and len(set(seeds)) > 1) or (pair_items and len(set(items)) > 1):
        raise ValueError(f"paired tables differ in shape: {seeds} seeds, {items} items")
    weighted = [w * table for w, table in zip(weights, tables, strict=True)]
    effect = sum(table.mean((-2, -1)) for table in weighted)
    scale = np.max([np.abs(table).max((-2, -1)) for table in weighted], axis=0)
    apart = list(zip(weighted, groups, strict=True))
    both = [(_total(weighted), groups[0])] if pair_seeds and pair_items else apart
    by_seed = [_total([t.mean(-1) for t in weighted])] if pair_seeds else [t.mean(-1) for t in weighted]
    by_item = (
        [(_total([t.mean(-2) for t in weighted]), groups[0])] if pair_items else [(t.mean(-2), g) for t, g in apart]
    )
    seed = [_seeds(means) for means in by_seed] if max(seeds) > 1 else []
    item = [_items(means, group) for means, group in by_item] if max(items) > 1 else []
    shared = [_both(table, group) for table, group in both] if seed and item else []
    variance, df = _combine(seed, item, shared)
    error = np.sqrt(variance)
    n_seeds, n_items = min(seeds), min(items)
    return Estimate(
        effect=np.where(np.abs(effect) <= ROUNDING * scale, 0.0, effect)[()],
        standard_error=np.where(error <= ROUNDING * scale, 0.0, error)[()],
        df=df[()],
        seed_variance=_component(seed, shared, n_seeds) if seed else None,
        item_variance=_component(item, shared, n_items) if item else None,
        residual_variance=(_sum(shared) * n_seeds * n_items)[()] if shared else None,
        n_seeds=n_seeds,
        n_items=n_items if n_items > 1 else 0,
        n_clusters=min(group.max() + 1 for group in groups if group is not None) if groups[0] is not None else 0,
    )


def _total(arrays: Sequence[Array]) -> Array:
    return np.sum(np.broadcast_arrays(*arrays), axis=0)


def _sum(parts: Sequence[Part]) -> Any:
    return sum((part.variance for part in parts), np.float64(0.0))


def _component(source: Sequence[Part], shared: Sequence[Part], n: int) -> Any:
    """Variance of one source's effects, never below 0: its part without what both sources count, per unit of it."""
    return (np.maximum(_sum(source) - _sum(shared), 0.0) * n)[()]


def _seeds(means: Array) -> Part:
    n = means.shape[-1]
    return Part(means.var(-1, ddof=1) / n, n - 1)


def _items(means: Array, clusters: Array | None) -> Part:
    n = means.shape[-1]
    if clusters is None:
        return Part(means.var(-1, ddof=1) / n, n - 1)
    sizes = np.bincount(clusters)
    totals = (means - means.mean(-1, keepdims=True)) @ _membership(clusters)
    return Part((totals**2).sum(-1) / n**2 * _few(sizes), _cluster_df(sizes))


def _both(table: Array, clusters: Array | None) -> Part:
    """From what is left in a cell after the means of its row and its column."""
    seeds, n = table.shape[-2:]
    left = table - table.mean(-1, keepdims=True) - table.mean(-2, keepdims=True) + table.mean((-2, -1), keepdims=True)
    if clusters is None:
        return Part((left**2).sum((-2, -1)) / ((seeds - 1) * (n - 1) * seeds * n), (seeds - 1) * (n - 1))
    sizes = np.bincount(clusters)
    totals = left @ _membership(clusters)
    variance = (totals**2).sum((-2, -1)) * _few(sizes) / ((seeds - 1) * seeds * n**2)
    return Part(variance, (seeds - 1) * _cluster_df(sizes))


def _membership(clusters: Array) -> Array:
    return np.equal.outer(clusters, np.arange(clusters.max() + 1)).astype(np.float64)


def _few(sizes: Array) -> float:
    return len(sizes) / (len(sizes) - 1) if len(sizes) > 1 else np.nan


def _cluster_df(sizes: Array) -> float:
    """Groups of unequal sizes count as fewer: by how uneven their totals' variances are if a group's items agree
    (Satterthwaite); G − 1 for G groups of one size."""
    squares = sizes.astype(np.float64) ** 2
    return float(squares.sum() ** 2 / (squares**2).sum() - 1)


def _combine(seed: Sequence[Part], item: Sequence[Part], shared: Sequence[Part]) -> tuple[Array, Array]:
    by_seed, by_item = _sum(seed), _sum(item)
    variance = np.asarray(by_seed + by_item - _sum(shared))
    df = _satterthwaite(variance, [*seed, *item, *shared])
    if seed and item:
        # A few seeds that lie close by chance hide in Satterthwaite's squares: bench/experiment/calibration.py.
        seed_df, item_df = _satterthwaite(by_seed, seed), _satterthwaite(by_item, item)
        total = by_seed + by_item
        share = np.where(total > 0, by_seed / np.where(total > 0, total, 1.0), 1.0)
        joint = 1 / (share / seed_df + (1 - share) / item_df)
        if min(part.df for part in seed) == 1:
            # One degree of freedom tells how seeds differ: nothing is subtracted, or 12 % of equal arms would be called
            # different.
            return total, np.maximum(np.where(total > 0, np.sqrt(seed_df * joint), df), 1.0)
        df = np.minimum(df, joint)
        # Where a source adds nothing, both terms estimate the same: the larger one, with its own degrees of freedom.
        for alone, own in ((by_seed, seed_df), (by_item, item_df)):
            df, variance = np.where(variance < alone, own, df), np.maximum(variance, alone)
    return variance, np.maximum(df, 1.0)


def _satterthwaite(variance: Any, parts: Sequence[Part]) -> Array:
    spread = np.asarray(sum(part.variance**2 / part.df for part in parts))
    fewest = min(part.df for part in parts)
    return np.where(spread > 0, np.asarray(variance) ** 2 / np.where(spread > 0, spread, 1.0), fewest)


def slope_weights(levels: Sequence[float]) -> Array:
    """Weights of the arms' means in the least-squares slope over their levels, per unit of level."""
    x = np.asarray(levels, dtype=np.float64)
    centred = x - x.mean()
    return centred / (centred**2).sum()


def holm(p: Sequence[float]) -> Array:
    """Adjusted p values of tests made together (Holm 1979): below alpha where the family's error rate is alpha."""
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    steps = values[order] * np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def tiers(means: Mapping[str, float], p: Mapping[tuple[str, str], float], alpha: float = 0.05) -> dict[str, int]:
    """Name → tier, from 1, the largest mean first; one that can't be told from the first of a tier is in it.

    p: of the comparison of two, under their names in either order, not yet adjusted: Holm's adjustment is made here.
    """
    pairs = list(p)
    adjusted = holm([p[pair] for pair in pairs])
    apart = {frozenset(pair) for pair, value in zip(pairs, adjusted, strict=True) if value < alpha}
    placed: dict[str, int] = {}
    first, tier = "", 0
    for name in sorted(means, key=lambda name: (-means[name], name)):
        if not placed or frozenset((first, name)) in apart:
            first, tier = name, tier + 1
        placed[name] = tier
    return placed
