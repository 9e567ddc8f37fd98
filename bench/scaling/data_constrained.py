"""The whole law of Muennighoff et al. 2023 (equations 5 and 6), to compare our price of repeated tokens with theirs.

It also discounts parameters beyond the compute-optimal number for the unique tokens. The plan doesn't: a ladder on a
small corpus is made of such models, and its law has measured them.
"""

from dataclasses import dataclass

import numpy as np

from stages.scaling.budget.repetition import DATA_DECAY, worth
from stages.scaling.laws.law import Law, Optimum

PARAMETER_DECAY = 5.309743  # R*_N of appendix A
GRID = 2001
REFINEMENTS = 3


@dataclass(frozen=True)
class DataConstrained:
    """L = E + A·N'^-α + B·D'^-β with at most `unique` different tokens."""

    law: Law
    unique: float

    def predict(self, N: np.ndarray | float, D: np.ndarray | float) -> np.ndarray:
        n, d = np.asarray(N, dtype=np.float64), np.asarray(D, dtype=np.float64)
        unique = np.minimum(d, self.unique)
        fitting = np.minimum(n, optimal_size(self.law, unique))
        return np.asarray(self.law.predict(worth(fitting, n, PARAMETER_DECAY), worth(unique, d, DATA_DECAY)))

    def optimum(self, C: float) -> Optimum:
        """The best (N, D) at C FLOPs with this data: a search over log N, refined."""
        centre, span = float(np.log(self.law.optimum(C).N)), float(np.log(1e3))
        for _ in range(REFINEMENTS):
            log_n = np.linspace(centre - span, centre + span, GRID)
            loss = self.predict(np.exp(log_n), float(C) / 6 / np.exp(log_n))
            centre, span = float(log_n[int(np.argmin(loss))]), span / 100
        n = float(np.exp(centre))
        return Optimum(n, float(C) / (6 * n))


def optimal_size(law: Law, tokens: np.ndarray | float) -> np.ndarray:
    """The N whose compute-optimal run has this many tokens."""
    g = (law.alpha * law.A / (law.beta * law.B)) ** (1 / (law.alpha + law.beta))  # Hoffmann et al. 2022, equation 4
    return g * (g * np.asarray(tokens, dtype=np.float64)) ** (law.a / law.b)
