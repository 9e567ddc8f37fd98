"""Intervals of rates in percent: the one place that says what a rate's interval is, for the pipeline and for imports.

A judged rate is a mean of preferences in 0..1, soft or hard. Gaffke's bounds (Gaffke 2005; Learned-Miller and Thomas
2020, arXiv:1905.06208) hold for the mean of any bounded variable and are Clopper and Pearson's for wins and losses: the
upper one is a quantile of the mean under random weights, all as likely, of the sample and one more value of 1; the
lower one of the sample and one more value of 0. They stay within 0..100, are never of zero width, and shrink with the
spread of the preferences where these are soft.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.special import betaincinv, ndtri, stdtrit, xlogy
from scipy.stats import beta, norm

PRIOR_ROWS = 3.0  # after the rule of three: what n equal rows leave open is 3 / n
NEAR = 1e-9  # from a value at which the distribution of the mean has no density


class Bounds(NamedTuple):
    low: float
    high: float


def mean_bounds(values: Sequence[float] | np.ndarray, level: float = 0.95) -> Bounds:
    """Of the mean of independent values in 0..1, at the same scale. (0, 1) for no values."""
    y = np.sort(np.asarray(values, dtype=np.float64))
    if y.size == 0:
        return Bounds(0.0, 1.0)
    tail = (1 - level) / 2
    return Bounds(1.0 - _upper(1.0 - y[::-1], tail), _upper(y, tail))


def rate_bounds(wins: Sequence[float] | np.ndarray, level: float = 0.95) -> Bounds:
    """`mean_bounds` in percent."""
    low, high = mean_bounds(wins, level)
    return Bounds(100 * low, 100 * high)


def exact_deviance(
    wins: float, n: float, spread: float = 1.0, degrees: float = np.inf, level: float = 0.95
) -> tuple[float, float]:
    """How far below the maximum, in twice the log-likelihood of n comparisons, the exact bounds of their rate lie.

    What a profile likelihood of verdicts is held against: Clopper and Pearson's bounds where `spread` is 1. A smaller
    or larger spread (variance over that of wins and losses) makes them those of n / spread comparisons. degrees: of
    freedom left, for the quantile of Student's t in the place of the normal one where the spread was estimated.
    Infinite for an end that is 0 or 1.
    """
    tail, rate, effective = (1 - level) / 2, wins / n, n / spread
    won = rate * effective
    widened = (stdtrit(degrees, 1 - tail) / ndtri(1 - tail)) ** 2 if np.isfinite(degrees) and degrees >= 1 else 1.0
    low = betaincinv(won, effective - won + 1, tail) if rate > 0 else 0.0
    high = betaincinv(won + 1, effective - won, 1 - tail) if rate < 1 else 1.0

    def deviance(bound: float) -> float:
        if not 0 < bound < 1:
            return float("inf")
        return float(widened * 2 * n * (xlogy(rate, rate / bound) + xlogy(1 - rate, (1 - rate) / (1 - bound))))

    return deviance(low), deviance(high)


def shrunk(spread: float, rows: float) -> float:
    """The variance of preferences over that of wins and losses, found in some rows, with PRIOR_ROWS of wins and losses
    beside them: a few rows that lie close to each other say little about the spread of the next ones."""
    return (spread * rows + PRIOR_ROWS) / (rows + PRIOR_ROWS)


def likelihood_end(
    loss: Callable[[float], float], start: float, best: float, step: float, allowed: float, farthest: float
) -> float:
    """The parameter at which twice the log-likelihood is `allowed` below its bound; infinite where it never is.

    loss: the least negative log-likelihood with a parameter, `best` its bound; start: near the estimate; step: about
    one standard error, its sign the direction of this end; farthest: beyond is infinite. Sought on the root of twice
    the log-likelihood, which is close to a line.
    """
    infinite = float(np.copysign(np.inf, step))
    if not np.isfinite(allowed):
        return infinite
    goal = float(np.sqrt(allowed))

    def excess(at: float) -> float:
        return float(np.sqrt(max(2 * (loss(at) - best), 0.0))) - goal

    near, back = start, -step * goal
    while excess(near) >= 0:  # what keeps the estimate finite keeps it away from the bound
        if abs(near) >= farthest:
            return infinite
        near, back = float(np.clip(near + back, -farthest, farthest)), 2 * back
    step *= goal
    while abs(near) < farthest or near * step < 0:
        far = float(np.clip(near + step, -farthest, farthest))
        if excess(far) >= 0:
            return float(brentq(excess, near, far, xtol=1e-4, rtol=1e-8))
        near, step = far, 2 * step
    return infinite


def _upper(y: np.ndarray, tail: float) -> float:
    """1 - tail quantile of the randomly weighted mean of y and 1."""
    n, lowest = y.size, float(y.min())
    if lowest >= 1.0:
        return 1.0
    same = y == 1.0
    rest = y[~same]
    if float(rest.max()) - lowest < NEAR:  # two values: 1 and another; the weight of 1 is Beta distributed
        ones = int(same.sum())
        return lowest + (1.0 - lowest) * float(beta.ppf(1 - tail, ones + 1, n - ones))
    values = np.append(y, 1.0)
    low, high = lowest + NEAR * (1 - lowest), 1.0 - NEAR * (1 - lowest)
    return float(brentq(lambda t: weighted_mean_cdf(values, t) - (1 - tail), low, high, xtol=1e-10))


def weighted_mean_cdf(values: np.ndarray, t: float) -> float:
    """P(Σ G_i · values_i / Σ G_i ≤ t) for independent exponential G: Lugannani and Rice's saddlepoint approximation of
    the sum of G_i · (values_i - t), whose cumulant generating function is -Σ log(1 - s · (values_i - t)).
    """
    c = values - t
    most, least = float(c.max()), float(c.min())
    if least >= 0:
        return 0.0
    if most <= 0:
        return 1.0
    low, high = (1 - 1e-12) / least, (1 - 1e-12) / most
    s = brentq(lambda x: float((c / (1 - x * c)).sum()), low, high, xtol=1e-14)
    k = -float(np.log1p(-s * c).sum())
    second = float(((c / (1 - s * c)) ** 2).sum())
    w, u = float(np.sign(s)) * np.sqrt(max(-2 * k, 0.0)), s * np.sqrt(second)
    if abs(w) < 1e-6:
        third = 2 * float(((c / (1 - s * c)) ** 3).sum())
        return 0.5 - third / (6 * np.sqrt(2 * np.pi) * second**1.5)
    # P(Q <= 0) of Q = Σ G c at its saddlepoint s with K'(s) = 0.
    return float(norm.cdf(w) + norm.pdf(w) * (1 / w - 1 / u))
