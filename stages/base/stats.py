"""Intervals for means and paired differences (normal theory; Student's t, as samples can be small), and for shares."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import betaincinv, stdtrit


class Interval(NamedTuple):
    mean: float
    low: float
    high: float


def mean_interval(values: Sequence[float] | np.ndarray, level: float = 0.95) -> Interval:
    """Mean of independent values with a two-sided t interval; NaN bounds for fewer than two values."""
    x = np.asarray(values, dtype=np.float64)
    mean = float(x.mean()) if x.size else float("nan")
    if x.size < 2:
        return Interval(mean, float("nan"), float("nan"))
    half = float(stdtrit(x.size - 1, 0.5 + level / 2)) * float(x.std(ddof=1)) / x.size**0.5
    return Interval(mean, mean - half, mean + half)


def ratio_contributions(top: Sequence[float] | np.ndarray, bottom: Sequence[float] | np.ndarray) -> np.ndarray:
    """One number an item, [n]; their mean is Σ top / Σ bottom, and their spread that of this ratio, to first order.

    Such as bits and bytes of documents: n · (top − ratio · bottom) / Σ bottom, about the ratio (Cochran 1977, "Sampling
    Techniques", §6.4). So ratios of sums have intervals, and paired differences, as means have.
    """
    x, y = np.asarray(top, dtype=np.float64), np.asarray(bottom, dtype=np.float64)
    ratio = x.sum() / y.sum()
    return ratio + len(x) * (x - ratio * y) / y.sum()


def share_interval(count: int, n: int, level: float = 0.95) -> Interval:
    """`count` of n, as a share, with Clopper and Pearson's exact bounds; NaN for n = 0."""
    if n == 0:
        return Interval(float("nan"), float("nan"), float("nan"))
    tail = (1 - level) / 2
    low = float(betaincinv(count, n - count + 1, tail)) if count else 0.0
    high = float(betaincinv(count + 1, n - count, 1 - tail)) if count < n else 1.0
    return Interval(count / n, low, high)


def paired_interval(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray, level: float = 0.95) -> Interval:
    """Mean of a - b with its interval; `a[i]` and `b[i]` are two systems' values on the same item."""
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if x.shape != y.shape:
        raise ValueError(f"paired values need equal lengths, got {x.shape} and {y.shape}")
    return mean_interval(x - y, level)
