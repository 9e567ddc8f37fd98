"""Scaling laws, the runs they are fitted to, and their algebra.

`Law` is L(N, D) = E + A·N^-α + B·D^-β (Hoffmann et al. 2022, equation 2), `PowerLaw` L(x) = floor + (scale / x)^γ
(Kaplan et al. 2020). Losses are in nats per token; N are parameters, D tokens, C FLOPs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from stages.base.contracts.fit import Fit
from stages.base.errors import InputError
from stages.scaling.laws.solver import FLOOR, SIZE, Problem, evaluate, polish

NAMES = ("A", "B", "E", "alpha", "beta")
STARTS = np.geomspace(0.01, 2.0, 40)  # exponents at which the search for a power law begins
RESAMPLES = 500


class Runs(NamedTuple):
    """Each of shape (n,)."""

    N: np.ndarray
    D: np.ndarray
    loss: np.ndarray


def positive(name: str, values: ArrayLike) -> np.ndarray:
    """A float64 vector of finite positive numbers; float so that 6·N·D can't overflow int64 at 9.2e18.

    Raises InputError naming the column and the first bad rows (0-based).
    """
    try:
        column = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"column `{name}` is not numeric: {error}") from None
    if column.ndim != 1:
        raise InputError(f"column `{name}` must be one-dimensional, got shape {column.shape}")
    bad = np.flatnonzero(~(np.isfinite(column) & (column > 0)))
    if bad.size:
        shown = ", ".join(f"{row} ({column[row]:g})" for row in bad[:5])
        raise InputError(f"column `{name}` must be finite and positive; bad rows: {shown}; drop or correct them")
    return column


def columns_of(**given: ArrayLike) -> list[np.ndarray]:
    """Each column by its name, checked. Raises InputError for a bad value or for columns of different lengths."""
    columns = [positive(name, values) for name, values in given.items()]
    if len({column.size for column in columns}) > 1:
        sizes = ", ".join(f"{name} {column.size}" for name, column in zip(given, columns, strict=True))
        raise InputError(f"columns differ in length: {sizes}")
    return columns


class Optimum(NamedTuple):
    """Parameters and tokens that minimise the law on C = 6·N·D."""

    N: float
    D: float

    @property
    def tokens_per_parameter(self) -> float:
        return self.D / self.N


@dataclass(frozen=True)
class Law:
    A: float
    B: float
    E: float
    alpha: float
    beta: float

    def predict(self, N: ArrayLike, D: ArrayLike) -> np.ndarray | float:
        """Loss at N parameters and D tokens, broadcast; a float for two scalars."""
        n, d = np.asarray(N, dtype=np.float64), np.asarray(D, dtype=np.float64)
        loss = self.E + self.A * n**-self.alpha + self.B * d**-self.beta
        return float(loss) if loss.ndim == 0 else loss

    def optimum(self, C: float) -> Optimum:
        """Compute-optimal (N, D) at C FLOPs: N = G (C/6)^a, D = (C/6)/N, G = (αA / βB)^(1/(α+β)) (equation 4)."""
        n, d = optima(self.numbers, C)[0].tolist()
        return Optimum(n, d)

    @property
    def a(self) -> float:
        """Exponent of N* in C."""
        return self.beta / (self.alpha + self.beta)

    @property
    def b(self) -> float:
        """Exponent of D* in C."""
        return self.alpha / (self.alpha + self.beta)

    @property
    def frontier(self) -> tuple[float, float]:
        """(k, γ) of the least loss at C FLOPs, which is exactly E + k·C^-γ: γ = αβ/(α+β)."""
        k, gamma = frontiers(self.numbers)
        return float(k[0]), float(gamma[0])

    @property
    def numbers(self) -> np.ndarray:
        """(1, 5): A, B, E, α, β."""
        return np.array([[getattr(self, name) for name in NAMES]])


def optima(laws: np.ndarray, C: float) -> np.ndarray:
    """Compute-optimal (N, D) of many laws, (n, 2), of rows (A, B, E, α, β); NaN where α or β isn't positive."""
    A, B, _, alpha, beta = laws.T
    with np.errstate(all="ignore"):
        n = (alpha * A / (beta * B)) ** (1 / (alpha + beta)) * (float(C) / 6) ** (beta / (alpha + beta))
        return np.column_stack([n, float(C) / 6 / n])


def frontiers(laws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`Law.frontier` of many laws: (k, γ), each (n,), of rows (A, B, E, α, β); NaN where α or β isn't positive."""
    A, B, _, alpha, beta = laws.T
    with np.errstate(all="ignore"):
        scale = (alpha * A / (beta * B)) ** (1 / (alpha + beta))
        gamma = alpha * beta / (alpha + beta)
        return (A * scale**-alpha + B * scale**beta) * 6**gamma, gamma


def losses(laws: np.ndarray, N: ArrayLike, D: ArrayLike) -> np.ndarray:
    """Loss of each law, (n,), at one point or at a point of its own; NaN where an exponent has no bound."""
    A, B, E, alpha, beta = laws.T
    with np.errstate(all="ignore"):
        return np.asarray(E + A * np.asarray(N, np.float64) ** -alpha + B * np.asarray(D, np.float64) ** -beta)


@dataclass(frozen=True)
class Forecast:
    """What fit.json says of runs that haven't been made."""

    law: Law
    draws: np.ndarray  # (draws, 5): A, B, E, alpha, beta
    noise: float  # standard deviation of log loss of a run around the law
    level: float
    count: str  # which N the law is in: total or non_embedding

    @classmethod
    def of(cls, fit: Fit) -> "Forecast":
        law = Law(fit.law.A, fit.law.B, fit.law.E, fit.law.alpha, fit.law.beta)
        return cls(law, np.array(fit.draws, dtype=np.float64), fit.noise, fit.level, fit.count)

    def interval(self, n: float, tokens: float, seed: int) -> tuple[float, float]:
        """For the loss one new run would reach: the law's uncertainty, and the noise of runs around it."""
        values = losses(self.draws, n, tokens)
        values = values * np.exp(self.noise * np.random.default_rng(seed).standard_normal(values.size))
        low, high = np.quantile(values, [(1 - self.level) / 2, (1 + self.level) / 2])
        return float(low), float(high)


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
    """Indices, by rising x, of the runs that no other run beats with as much x or less: the lower envelope."""
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
    at, value = columns_of(x=x, loss=loss)
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
    exponent, scale, lowest = _natural(best, middle)[0].tolist()
    ends = zip(("exponent", "scale", "floor"), low, high, strict=True)
    interval = {name: (float(a), float(b)) for name, a, b in ends}
    return PowerLaw(exponent, scale, lowest, z.size, float(np.sqrt(np.mean(gaps**2))), interval)


def _starts(x: np.ndarray, loss: np.ndarray, middle: float, floor: bool) -> np.ndarray:
    """For each exponent of a grid the best scale and floor by least squares; without a floor, the line in logs."""
    if not floor:
        slope, level = np.polyfit(np.log(x) - middle, np.log(loss), 1)
        return np.array([[level, -slope]])
    starts = []
    for exponent in STARTS:
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
