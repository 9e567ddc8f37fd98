"""From one model's annotations to the rows of the length-controlled regression: columns, alignment, refusals."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from stages.base.errors import InputError
from stages.judging.statistics.columns import column, column_names
from stages.judging.statistics.logistic import Extra

GAMED_WEIGHT = 0.2  # total weight of the regularising rows per instruction, spread over the gamed models
DISTINCT = 1e-3  # least root mean square, of a column in -1..1, that tells the length weight from the bias
MOST = 100.0  # a difficulty is a logit and a standardised length a few units: beyond, a table holds something else

Align = Literal["index", "position", "compat"]


@dataclass(frozen=True)
class Design:
    """Rows of one model with a preference, and the rows that its rate is predicted for."""

    names: tuple[str, ...]  # of all weights: "length", "difficulty" where one was given, "bias"
    y: np.ndarray  # [n], in [0, 1]
    index: np.ndarray  # [n], true instruction indices
    delta: np.ndarray  # [n]: baseline's minus output's characters
    scale: float  # what each delta is divided by
    fixed: np.ndarray  # [n, f]: difficulty and a column of ones
    predicted: np.ndarray  # [m, f]: `fixed` of the rows that the rate is the mean over
    judged: np.ndarray  # [n]: the place of each row among `predicted`
    extra: Extra | None
    n_missing: int

    @property
    def x(self) -> np.ndarray:
        return np.column_stack([squash(self.delta, self.scale), self.fixed])

    def rows(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """x, y and weights of all rows that are fitted, the regularising ones last."""
        x, y, weights = self.x, self.y, np.ones(len(self.y))
        if self.extra is None:
            return x, y, weights
        return (
            np.vstack([x, self.extra.x]),
            np.concatenate([y, self.extra.y]),
            np.concatenate([weights, self.extra.weights]),
        )

    @property
    def by_definition(self) -> bool:
        """A model against itself: no difference anywhere and nothing but draws. That is 50, whatever regularises."""
        return not self.delta.any() and bool((self.y == 0.5).all())

    @property
    def unidentified(self) -> str:
        """Why the annotations can't tell a preference for length from one for the model; "" where they can."""
        if self.delta.any() and not self.scale > 0:
            return (
                f"every answer is {abs(self.delta[0]):g} characters {'shorter' if self.delta[0] > 0 else 'longer'} "
                "than the baseline's, so length and quality can't be told apart"
            )
        if self.extra is not None or not self.delta.any():
            return ""
        squashed = squash(self.delta, self.scale)
        rest = squashed - self.fixed @ np.linalg.lstsq(self.fixed, squashed, rcond=None)[0]
        if float(np.sqrt((rest**2).mean())) < DISTINCT:
            return "the differences in length are all but the same, so length and quality can't be told apart"
        return ""


def squash(delta: np.ndarray, scale: Any) -> np.ndarray:
    """tanh(delta / scale), 0 where all deltas are equal."""
    return np.tanh(delta / np.where(scale > 0, scale, 1.0)) * (scale > 0)


def prepare(annotations: Any, difficulty: Any = None, gamed: Any = None, align: Align = "index") -> Design:
    """See `length_control.fit`, whose arguments these are and which says what raises InputError."""
    index = column(annotations, "instruction_index", np.int64)
    preference = column(annotations, "preference", np.float64)
    delta = column(annotations, "len_baseline", np.float64) - column(annotations, "len_output", np.float64)
    values, counts = np.unique(index, return_counts=True)
    if (counts > 1).any():
        raise InputError(f"annotations: instruction_index {values[counts > 1][0]} is there {counts.max()} times")
    known = ~np.isnan(preference)
    bad = known & (preference != 0) & ~((preference >= 1) & (preference <= 2))
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise InputError(f"annotations: row {row}: preference {preference[row]} isn't in 1..2")
    if known.sum() < 2:
        raise InputError(
            f"annotations: {int(known.sum())} of {len(known)} rows have a preference; at least 2 are needed"
        )
    unmeasured = ~np.isfinite(delta) & known
    if unmeasured.any():
        raise InputError(f"annotations: row {int(np.flatnonzero(unmeasured)[0])}: a length is no number")

    official = align != "index"  # the official code scales and predicts with every row, judged or not
    measured = known if not official else np.isfinite(delta)
    fixed = np.ones((len(index), 1))
    if difficulty is not None:
        wanted = np.arange(len(index)) if official else index
        fixed = np.column_stack([_difficulty(difficulty, wanted, official), fixed])
    names = ("length", *(("difficulty",) if difficulty is not None else ()), "bias")
    return Design(
        names=names,
        y=np.where(preference[known] == 0, 0.5, preference[known] - 1),
        index=index[known],
        delta=delta[known],
        scale=float(delta[measured].std(ddof=1)),
        fixed=fixed[known],
        predicted=fixed if official else fixed[known],
        judged=np.flatnonzero(known) if official else np.arange(known.sum()),
        extra=None if gamed is None else regularising_rows(gamed, with_difficulty="difficulty" in names),
        n_missing=int((~known).sum()),
    )


def measured_column(table: Any, name: str, what: str) -> np.ndarray:
    """A column of moderate finite numbers. Raises InputError naming the first that isn't one."""
    values = column(table, name, np.float64, what)
    bad = np.flatnonzero(~(np.abs(values) <= MOST))
    if len(bad):
        raise InputError(f"{what}: row {int(bad[0])}: `{name}` is {values[bad[0]]:g}, not within -{MOST:g}..{MOST:g}")
    return values


def _difficulty(table: Any, wanted: np.ndarray, by_position: bool) -> np.ndarray:
    keys = column(table, "instruction_index", np.int64, "difficulty")
    values = measured_column(table, "instruction_difficulty", "difficulty")
    order = np.argsort(keys, kind="stable")
    again = np.flatnonzero(np.diff(keys[order]) == 0)
    if len(again) and not by_position:
        raise InputError(f"difficulty: instruction_index {keys[order][again[0]]} is there twice")
    keys, values = np.arange(len(keys)) if by_position else keys[order], values[order]
    if not len(keys):
        raise InputError("difficulty: there are no rows")
    place = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
    unknown = keys[place] != wanted
    if unknown.any():
        raise InputError(f"difficulty: no instruction_index {wanted[unknown][0]} ({unknown.sum()} are unknown)")
    return values[place]


def regularising_rows(gamed: Any, *, with_difficulty: bool) -> Extra:
    """Rows with the bias column at 0: they tie the other weights to the baseline's own gamed versions.

    Raises InputError naming the first row that can't be used.
    """
    x = [np.tanh(column(gamed, "std_delta_len", np.float64, "gamed"))]
    if with_difficulty:
        x.append(measured_column(gamed, "instruction_difficulty", "gamed"))
    y = column(gamed, "preference_surrogate_0to1", np.float64, "gamed")
    bad = np.flatnonzero(~np.isfinite(x[0]) | ~((y >= 0) & (y <= 1)))
    if len(bad):
        raise InputError(f"gamed: row {int(bad[0])}: no length, or a preference outside 0..1")
    if "model" not in column_names(gamed):
        raise InputError("gamed: column `model` is missing")
    names = gamed["model"]
    models = names.nunique() if hasattr(names, "nunique") else len(set(np.asarray(names).tolist()))
    return Extra(np.column_stack([*x, np.zeros(len(y))]), y, np.full(len(y), GAMED_WEIGHT / max(models, 1)))
