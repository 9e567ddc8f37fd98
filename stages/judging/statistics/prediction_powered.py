"""A judged win rate corrected by known truth: power-tuned prediction-powered inference.

Angelopoulos, Duchi and Zrnic 2023 (PPI++, arXiv:2311.01453). Where some comparisons have a verdict that is known to be
right, the mean of truth minus λ times the judge on those, plus λ times the judge on the others, is free of the judge's
bias, whatever that is; λ is chosen so that it varies least, and is 0 for a judge that says nothing.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from stages.judging.statistics.intervals import Bounds, mean_bounds

FEWEST = 20  # known verdicts, below which their covariance with the judge's says too little


class Corrected(NamedTuple):
    """In percent."""

    rate: float
    low: float
    high: float
    n: int  # comparisons with a known verdict
    power: float  # λ: 0 where only known verdicts count, up to 1


def corrected(
    judged: Sequence[float] | np.ndarray, truth: Sequence[float] | np.ndarray, level: float = 0.95
) -> Corrected | None:
    """judged [n]: the judge's preferences in 0..1, NaN for none; truth [n]: the right ones, NaN where unknown.

    The known ones must be drawn from all at random. The interval adds the exact bounds of both means in quadrature
    (Zou and Donner 2008). None for fewer than FEWEST known verdicts.
    """
    f, y = np.asarray(judged, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    both, others = np.isfinite(y) & np.isfinite(f), f[~np.isfinite(y) & np.isfinite(f)]
    if both.sum() < FEWEST:
        return None
    y, f = y[both], f[both]
    if not len(others):
        low, high = mean_bounds(y, level)
        return Corrected(100 * float(y.mean()), 100 * low, 100 * high, len(y), 0.0)
    n, more = len(y), len(others)
    spread = float(np.concatenate([f, others]).var(ddof=1))
    covariance = float(np.cov(y, f)[0, 1])
    power = float(np.clip(covariance / ((1 + n / more) * spread), 0, 1)) if spread > 0 else 0.0
    errors = y - power * f  # in -power..1
    own = mean_bounds((errors + power) / (1 + power), level)
    error = Bounds(*(end * (1 + power) - power for end in own))
    judge = mean_bounds(others, level)
    wrong, said = float(errors.mean()), float(others.mean())
    estimate = wrong + power * said
    below = float(np.hypot(wrong - error.low, power * (said - judge.low)))
    above = float(np.hypot(error.high - wrong, power * (judge.high - said)))
    rate, low, high = (100 * float(end) for end in np.clip([estimate, estimate - below, estimate + above], 0, 1))
    return Corrected(rate, low, high, n, power)
