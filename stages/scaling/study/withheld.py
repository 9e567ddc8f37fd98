"""The test of a law: refit it without the runs of most compute, and predict them."""

from dataclasses import dataclass

import numpy as np

from stages.base.errors import InputError
from stages.base.seeds import derive
from stages.scaling.laws.estimate import Belief, Options, believe
from stages.scaling.laws.interval import Estimate
from stages.scaling.tables.table import RunTable


@dataclass(frozen=True)
class Withheld:
    """`rows` index the table; `belief` is of the other runs. Without a law of those, both are empty, for `reason`."""

    rows: tuple[int, ...]
    predicted: tuple[Estimate, ...]
    errors: tuple[float, ...]  # predicted / reached - 1
    belief: Belief | None
    reason: str = ""

    @property
    def mean_abs_error(self) -> float | None:
        return float(np.mean(np.abs(self.errors))) if self.errors else None

    @property
    def max_abs_error(self) -> float | None:
        return float(np.max(np.abs(self.errors))) if self.errors else None


def withhold(table: RunTable, count: int, fewest: int, options: Options) -> Withheld:
    """Leave out the `count` runs of most compute (equal ones by their name); `fewest` must remain."""
    order = sorted(range(len(table.loss)), key=lambda i: (table.C[i], table.run[i]))
    kept, out = order[:-count], order[-count:]
    if len(kept) < fewest:
        return Withheld((), (), (), None, f"{len(kept)} runs would be left, a law needs {fewest}")
    try:
        belief = believe(table.rows(kept).runs(), options)
    except InputError as error:
        return Withheld((), (), (), None, str(error))
    predicted = tuple(
        belief.new_run(table.N[i], table.D[i], options.level, derive(options.seed, f"{table.run[i]}:{i}")) for i in out
    )
    errors = tuple(float(p.value / table.loss[i] - 1) for p, i in zip(predicted, out, strict=True))
    return Withheld(tuple(out), predicted, errors, belief)
