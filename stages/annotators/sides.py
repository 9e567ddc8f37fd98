"""Whether a judge names one side whatever stands there."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

ONE_SIDED = 1e-6  # p-value below which a preference for the side shown first is no accident
NEARLY_ALWAYS = 0.9  # share of verdicts for one side beyond which it is a failure and not a leaning


@dataclass(frozen=True)
class Sides:
    """How often the answer shown first wins; draws and missing verdicts are left out."""

    first: int
    n: int
    p_value: float  # two-sided, of a fair coin

    @property
    def share(self) -> float:
        return self.first / self.n if self.n else float("nan")

    @property
    def one_sided(self) -> bool:
        return self.p_value < ONE_SIDED and not 1 - NEARLY_ALWAYS < self.share < NEARLY_ALWAYS


def side_preference(preference: Sequence[float] | np.ndarray, output_first: Sequence[bool] | np.ndarray) -> Sides:
    """preference [n]: 1 baseline .. 2 output; output_first [n]: whether the output stood before the baseline."""
    votes, first = np.asarray(preference, dtype=np.float64), np.asarray(output_first, dtype=bool)
    decided = np.isfinite(votes) & (votes != 0) & (votes != 1.5)
    wins = (votes[decided] > 1.5) == first[decided]
    n, count = len(wins), int(wins.sum())
    return Sides(count, n, float(binomtest(count, n).pvalue) if n else 1.0)
