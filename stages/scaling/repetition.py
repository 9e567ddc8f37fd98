"""What repeated tokens and excess parameters are worth (Muennighoff et al. 2023, "Scaling Data-Constrained Language
Models", equations 5 and 6).
"""

from dataclasses import dataclass

import numpy as np

from stages.scaling.law import Law, Optimum

DATA_DECAY = 15.387756  # R*_D and R*_N of appendix A, fitted on 182 runs of 7 M to 9 B parameters, 1 to 500 epochs
PARAMETER_DECAY = 5.309743
GRID = 2001
REFINEMENTS = 3


def worth(unique: np.ndarray | float, total: np.ndarray | float, decay: float) -> np.ndarray:
    """U + U·R*·(1 - exp(-R/R*)) with R = total/unique - 1: what `total`, of which `unique` differ, is worth in fresh
    ones. No more than U·(1 + R*), however often they are repeated; all of `total` where nothing is repeated.
    """
    u, seen = np.asarray(unique, dtype=np.float64), np.asarray(total, dtype=np.float64)
    repeats = np.maximum(seen / u - 1, 0.0)
    return np.minimum(seen, u) - u * decay * np.expm1(-repeats / decay)


@dataclass(frozen=True)
class DataConstrained:
    """L = E + A·N'^-α + B·D'^-β with at most `unique` different tokens.

    Parameters beyond those that are compute-optimal for the unique tokens count for less too, even in one pass: with
    the paper's own law. A law fitted on runs larger than that holds their price already; `parameter_decay=inf` then.
    """

    law: Law
    unique: float
    data_decay: float = DATA_DECAY
    parameter_decay: float = PARAMETER_DECAY

    def predict(self, N: np.ndarray | float, D: np.ndarray | float) -> np.ndarray:
        n, d = np.asarray(N, dtype=np.float64), np.asarray(D, dtype=np.float64)
        unique = np.minimum(d, self.unique)
        fitting = np.minimum(n, optimal_size(self.law, unique))
        parameters = n if np.isinf(self.parameter_decay) else worth(fitting, n, self.parameter_decay)
        return np.asarray(self.law.predict(parameters, worth(unique, d, self.data_decay)))

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
