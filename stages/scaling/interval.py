"""Estimates with their intervals, from resampled values."""

from typing import NamedTuple

import numpy as np
from scipy import stats


class Estimate(NamedTuple):
    value: float
    low: float
    high: float


def tails(level: float, n: int | None = None, parameters: int = 5) -> list[float]:
    """Quantiles of resampled values that an interval of `level` ends at; `n` None if they are no resamples of n runs.

    Resampling n runs shows (n - parameters) / n of the variance, so its percentiles are expanded, as Hesterberg 2015
    ("What teachers should know about the bootstrap") does for a mean. Without it, 95 % intervals of 36 runs cover the
    truth 92 times in 100.
    """
    below = (1 - level) / 2
    if n is not None and n > parameters:
        free = n - parameters
        below = float(stats.norm.cdf(stats.t.ppf(below, free) * (n / free) ** 0.5))
    return [below, 1 - below]


def estimate(value: float, resampled: np.ndarray, ends: list[float]) -> Estimate:
    """NaN ends where no resample has a finite value."""
    finite = resampled[np.isfinite(resampled)]
    if not finite.size:
        return Estimate(float(value), float("nan"), float("nan"))
    low, high = np.quantile(finite, ends)
    return Estimate(float(value), float(low), float(high))
