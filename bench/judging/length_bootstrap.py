"""The bootstrap of a length-controlled rate: instructions drawn with replacement, the whole estimate made again."""

from dataclasses import dataclass, field

import numpy as np

from stages.base.errors import InputError
from stages.judging.statistics.length_control import estimated
from stages.judging.statistics.length_design import Design, squash
from stages.judging.statistics.logistic import SEPARATION_RIDGE, Estimate, Extra, sigmoid

_AT_ONCE = 1_000_000  # numbers in one array of resamples by rows
_LARGE, _STEPS = 30.0, 100  # a weight beyond the first is a diverging fit


@dataclass(frozen=True)
class Bootstrap:
    """Length-controlled rates of the resamples, in percent."""

    rates: np.ndarray = field(repr=False)
    standard_error: float

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Percentile interval."""
        low, high = np.quantile(self.rates, [0.5 - level / 2, 0.5 + level / 2])
        return float(low), float(high)


def bootstrap(design: Design, resamples: int, seed: int) -> Bootstrap:
    """Bootstrap over instructions, given difficulty and gamed rows; the scale of the lengths is estimated anew too.

    The slow check of `LengthControlled.lc_standard_error`.
    """
    if design.by_definition:
        return Bootstrap(np.full(resamples, 50.0), 0.0)
    full, n = estimated(design), len(design.y)
    generator = np.random.default_rng(seed)
    rates = []
    for start in range(0, resamples, size := max(1, _AT_ONCE // n)):
        counts = generator.multinomial(n, np.full(n, 1 / n), size=min(size, resamples - start)).astype(np.float64)
        mean = counts @ design.delta / n
        variance = np.maximum(counts @ design.delta**2 - n * mean**2, 0.0) / (n - 1)
        squashed = squash(design.delta, np.sqrt(variance[:, None]))
        fixed = [design.fixed[:, k] for k in range(design.fixed.shape[1])]
        w = resampled([squashed, *fixed], design.y, counts, full, design.extra)
        rates.append(100 * (counts * sigmoid(w[:, 1:] @ design.fixed.T)).sum(1) / n)
    drawn = np.concatenate(rates)
    return Bootstrap(drawn, float(drawn.std(ddof=1)))


def resampled(
    columns: list[np.ndarray], y: np.ndarray, counts: np.ndarray, fixed: Estimate, extra: Extra | None
) -> np.ndarray:
    """Weights [resamples, k] of each resample, by Newton steps from the full sample's.

    columns: k arrays, each [n] or [resamples, n]; counts [resamples, n]: how often each row was drawn. `extra` rows are
    in every resample. A resample without a finite maximum gets SEPARATION_RIDGE, as the estimate itself would.
    """
    w = np.tile(fixed.weights, (len(counts), 1))
    ridge = np.full(len(counts), SEPARATION_RIDGE if fixed.separated else 0.0)
    k = len(columns)
    identity = np.eye(k)
    if extra is not None:  # each row's outer product with itself
        products = (extra.x[:, :, None] * extra.x[:, None, :]).reshape(len(extra.x), -1)
    for _ in range(_STEPS):
        p = sigmoid(sum(w[:, [i]] * columns[i] for i in range(k)))  # type: ignore[arg-type]
        residual, curvature = counts * (y - p), counts * p * (1 - p)
        gradient = np.stack([(residual * column).sum(1) for column in columns], axis=1) - ridge[:, None] * w
        hessian = ridge[:, None, None] * identity
        for i in range(k):
            weighted = curvature * columns[i]
            for j in range(i, k):
                hessian[:, i, j] = hessian[:, j, i] = hessian[:, i, j] + (weighted * columns[j]).sum(1)
        if extra is not None:
            p = sigmoid(w @ extra.x.T)
            gradient += (extra.weights * (extra.y - p)) @ extra.x
            hessian += ((extra.weights * p * (1 - p)) @ products).reshape(-1, k, k)
        step = np.linalg.solve(hessian + 1e-12 * identity, gradient[..., None])[..., 0]
        w += step * np.minimum(1, 5 / np.maximum(np.abs(step).max(1, keepdims=True), 1e-300))
        diverging = np.abs(w).max(1) > _LARGE
        w[diverging], ridge[diverging] = 0.0, SEPARATION_RIDGE
        if not diverging.any() and np.abs(step).max() < 1e-8:
            return w
    raise InputError(f"bootstrap: resamples don't converge in {_STEPS} steps; look for extreme lengths")
