"""Power laws in one variable (Kaplan et al. 2020): L(C), L(N) and L(D) along the lower envelope of the runs."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from stages.base.errors import InputError
from stages.scaling.laws.runs import positive
from stages.scaling.laws.solver import FLOOR, SIZE, Problem, evaluate, polish

EXPONENTS = np.geomspace(0.01, 2.0, 40)  # where the search starts
RESAMPLES = 500


@dataclass(frozen=True)
class PowerLaw:
    """L(x) = floor + (scale / x)^exponent; Kaplan et al.'s laws have no floor.

    `interval`: exponent, scale and floor under resampled residuals of `level`. `rms`: of the residuals of log loss.
    """

    exponent: float
    scale: float
    floor: float
    n: int
    rms: float
    interval: Mapping[str, tuple[float, float]]

    def predict(self, x: ArrayLike) -> np.ndarray | float:
        loss = self.floor + (self.scale / np.asarray(x, dtype=np.float64)) ** self.exponent
        return float(loss) if loss.ndim == 0 else loss


def envelope(x: ArrayLike, loss: ArrayLike) -> np.ndarray:
    """Indices, by rising x, of the runs that no run with as much x or less beats: x alone limits only these."""
    at, value = positive("x", x), positive("loss", loss)
    kept, best = [], np.inf
    for row in np.lexsort((value, at)):
        if value[row] < best:
            kept.append(int(row))
            best = value[row]
    return np.array(kept, dtype=int)


def fit_power_law(
    x: ArrayLike, loss: ArrayLike, *, floor: bool, huber_delta: float = 1e-3, level: float = 0.95, seed: int = 0
) -> PowerLaw:
    """By the sum of Huber terms of log residuals, as the law in N and D.

    Raises InputError for bad values, or fewer distinct x than parameters + 1 (no residual would be left to judge by).
    """
    at, value = positive("x", x), positive("loss", loss)
    if at.size != value.size:
        raise InputError(f"columns differ in length: x {at.size}, loss {value.size}")
    parameters = 3 if floor else 2
    if np.unique(at).size <= parameters:
        raise InputError(f"{np.unique(at).size} distinct x: a power law of {parameters} parameters needs more")
    middle, z = float(np.log(at).mean()), np.log(value)
    down = middle - np.log(at)
    covariates = np.stack([np.ones_like(z), down, np.ones_like(z)])[:parameters]
    terms = (SIZE, SIZE, FLOOR)[:parameters]
    none = np.zeros(parameters)
    problem = Problem(covariates, terms, z, huber_delta, True, none, none)
    theta, objective = polish(_starts(at, value, middle, floor), problem, iterations=1000, tolerance=1e-14)
    best = theta[[int(np.argmin(objective))]]
    gaps = evaluate(best, problem, z).residual[0]
    rng = np.random.default_rng(seed)
    # Residuals are what resampling draws: of an envelope's runs themselves, a handful, it would often drop the ends.
    spread = gaps * (z.size / max(1, z.size - parameters)) ** 0.5
    target = z + gaps + rng.choice(spread, (RESAMPLES, z.size))
    draws, _ = polish(np.repeat(best, RESAMPLES, 0), problem, target=target, iterations=200, tolerance=1e-9)
    tails = [(1 - level) / 2, (1 + level) / 2]
    low, high = np.quantile(_natural(draws, middle), tails, axis=0)
    names = ("exponent", "scale", "floor")
    exponent, scale, lowest = _natural(best, middle)[0].tolist()
    interval = {name: (float(a), float(b)) for name, a, b in zip(names, low, high, strict=True)}
    return PowerLaw(exponent, scale, lowest, z.size, float(np.sqrt(np.mean(gaps**2))), interval)


def _starts(x: np.ndarray, loss: np.ndarray, middle: float, floor: bool) -> np.ndarray:
    """For each exponent of a grid the best scale and floor by least squares; without a floor, the line in logs."""
    if not floor:
        slope, level = np.polyfit(np.log(x) - middle, np.log(loss), 1)
        return np.array([[level, -slope]])
    starts = []
    for exponent in EXPONENTS:
        column = np.exp(-exponent * (np.log(x) - middle))
        (scale, lowest), *_ = np.linalg.lstsq(np.column_stack([column, np.ones_like(column)]), loss, rcond=None)
        least = 1e-3 * loss.min()
        starts.append([np.log(max(scale, least)), exponent, np.log(max(lowest, least))])
    return np.array(starts)


def _natural(theta: np.ndarray, middle: float) -> np.ndarray:
    """Rows (exponent, scale, floor): (scale / x)^γ = exp(level - γ (log x - middle))."""
    level, exponent = theta[:, 0], theta[:, 1]
    floor = np.exp(theta[:, 2]) if theta.shape[1] == 3 else np.zeros(len(theta))
    with np.errstate(over="ignore"):  # an exponent near 0 has no scale
        return np.column_stack([exponent, np.exp(level / exponent + middle), floor])
