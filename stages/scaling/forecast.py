"""A fitted law as fit.json carries it: the prediction and its interval, without the fitting code."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.scaling.law import NAMES, Law


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
