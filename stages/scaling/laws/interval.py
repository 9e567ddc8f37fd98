"""Estimates with their intervals, from resampled values."""

from typing import NamedTuple

import numpy as np
from scipy import stats

UNBOUNDED = 1e300
FURTHEST = 0.01  # share of resamples beyond the estimate, below which its bias isn't corrected further


class Estimate(NamedTuple):
    value: float
    low: float
    high: float


class Tails(NamedTuple):
    """How an interval ends: the share of draws beyond each end, and whether resampling's bias is corrected."""

    below: float
    corrected: bool


def of_resamples(level: float, n: int, parameters: int) -> Tails:
    """For a fit of `parameters` parameters refitted on n runs drawn with replacement.

    Resampling shows (n - parameters) / n of the variance, so percentiles are expanded, as Hesterberg 2015 ("What
    teachers should know about the bootstrap") does for a mean; and they are corrected for bias (Efron 1981).
    Plain percentiles of 36 runs' 95 % intervals cover the truth between 92 and 99 times in 100, these 95 to 98.
    """
    below, free = (1 - level) / 2, max(1, n - parameters)
    return Tails(float(stats.norm.cdf(stats.t.ppf(below, free) * (n / free) ** 0.5)), corrected=True)


def of_posterior(level: float) -> Tails:
    """For draws of a posterior: their own percentiles."""
    return Tails((1 - level) / 2, corrected=False)


def estimate(value: float, draws: np.ndarray, tails: Tails) -> Estimate:
    """NaN ends where no draw has a value; a draw without bound counts as one."""
    known = np.clip(draws[~np.isnan(draws)], -UNBOUNDED, UNBOUNDED)
    if not known.size:
        return Estimate(float(value), float("nan"), float("nan"))
    ends = np.array([tails.below, 1 - tails.below])
    if tails.corrected:
        under = (np.mean(known < value) + np.mean(known <= value)) / 2
        bias = stats.norm.ppf(np.clip(under, FURTHEST, 1 - FURTHEST))
        ends = stats.norm.cdf(2 * bias + stats.norm.ppf(ends))
    low, high = np.quantile(known, ends)
    return Estimate(float(value), float(low), float(high))
