"""The bootstrap of a length-controlled rate: instructions drawn with replacement, the whole estimate made again."""

from dataclasses import dataclass, field

import numpy as np

from stages.base.errors import InputError
from stages.judging.statistics.length_control import estimated
from stages.judging.statistics.length_design import Design, squash
from stages.judging.statistics.logistic import resampled, sigmoid

_AT_ONCE = 1_000_000  # numbers in one array of resamples by rows


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

    The slow check of `LengthControlled.lc_standard_error`, and its replacement where a few extreme lengths carry the
    estimate. Raises InputError for fewer than 2 resamples.
    """
    if resamples < 2:
        raise InputError(f"bootstrap: {resamples} resamples; at least 2 are needed")
    if design.by_definition:
        return Bootstrap(np.full(resamples, 50.0), 0.0)
    full, n, c = estimated(design), len(design.y), len(design.controlled)
    generator = np.random.default_rng(seed)
    rates = []
    for start in range(0, resamples, size := max(1, _AT_ONCE // n)):
        counts = generator.multinomial(n, np.full(n, 1 / n), size=min(size, resamples - start)).astype(np.float64)
        mean = counts @ design.deltas / n
        variance = np.maximum(counts @ design.deltas**2 - n * mean**2, 0.0) / (n - 1)
        squashed = [squash(design.deltas[:, k], np.sqrt(variance[:, [k]])) for k in range(c)]
        fixed = [design.fixed[:, k] for k in range(design.fixed.shape[1])]
        w = resampled([*squashed, *fixed], design.y, counts, full, design.extra)
        rates.append(100 * (counts * sigmoid(w[:, c:] @ design.fixed.T)).sum(1) / n)
    drawn = np.concatenate(rates)
    return Bootstrap(drawn, float(drawn.std(ddof=1)))
