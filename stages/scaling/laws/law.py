"""The parametric law L(N, D) = E + A·N^-α + B·D^-β (Hoffmann et al. 2022, equation 2) and its algebra."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

NAMES = ("A", "B", "E", "alpha", "beta")


class Optimum(NamedTuple):
    """Parameters and tokens that minimise the law on C = 6·N·D."""

    N: float
    D: float

    @property
    def tokens_per_parameter(self) -> float:
        return self.D / self.N


@dataclass(frozen=True)
class Law:
    """Loss in nats per token; N in parameters, D in tokens."""

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
        scale = (self.alpha * self.A / (self.beta * self.B)) ** (1 / (self.alpha + self.beta))
        tokens_times_parameters = float(C) / 6
        n = scale * tokens_times_parameters**self.a
        return Optimum(n, tokens_times_parameters / n)

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
        k, gamma = frontiers(np.array([[self.A, self.B, self.E, self.alpha, self.beta]]))
        return float(k[0]), float(gamma[0])

    def as_dict(self) -> dict[str, float]:
        return {name: float(getattr(self, name)) for name in NAMES}


def frontiers(laws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`Law.frontier` of many laws: (k, γ), each (n,), of rows (A, B, E, α, β); NaN where α or β isn't positive."""
    A, B, _, alpha, beta = laws.T
    with np.errstate(all="ignore"):
        scale = (alpha * A / (beta * B)) ** (1 / (alpha + beta))
        gamma = alpha * beta / (alpha + beta)
        return (A * scale**-alpha + B * scale**beta) * 6**gamma, gamma


@dataclass(frozen=True)
class Forecast:
    law: Law
    draws: np.ndarray  # (draws, 5): A, B, E, alpha, beta
    noise: float  # standard deviation of log loss of a run around the law
    level: float
    count: str  # which N the law is in: total or non_embedding

    @classmethod
    def of(cls, fit: Mapping[str, Any]) -> "Forecast":
        law = fit["transformer"]
        draws = np.array(law["draws"], dtype=np.float64)
        return cls(Law(*(law[name] for name in NAMES)), draws, fit["noise"], fit["level"], fit["count"])

    def interval(self, n: float, tokens: float, seed: int) -> tuple[float, float]:
        """For the loss one new run would reach: the law's uncertainty, and the noise of runs around it."""
        A, B, E, alpha, beta = self.draws.T
        values = E + A * n**-alpha + B * tokens**-beta
        values = values * np.exp(self.noise * np.random.default_rng(seed).standard_normal(values.size))
        low, high = np.quantile(values, [(1 - self.level) / 2, (1 + self.level) / 2])
        return float(low), float(high)
