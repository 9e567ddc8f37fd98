"""From one model's annotations to the rows of the length-controlled regression: columns, alignment, refusals."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from stages.base.errors import InputError
from stages.judging.statistics.columns import column
from stages.judging.statistics.logistic import Extra

GAMED_WEIGHT = 0.2  # total weight of the regularising rows per instruction, spread over the gamed models

Align = Literal["index", "position", "compat"]


@dataclass(frozen=True)
class Design:
    """Rows of one model with a preference, and the rows that its rate is predicted for."""

    controlled: tuple[str, ...]  # "length", then style features: differences that the prediction sets to 0
    names: tuple[str, ...]  # of all weights: controlled, "difficulty" where one was given, "bias"
    y: np.ndarray  # [n], in [0, 1]
    index: np.ndarray  # [n], true instruction indices
    deltas: np.ndarray  # [n, c]: baseline's minus output's, in the feature's unit
    scales: np.ndarray  # [c], what each delta is divided by
    fixed: np.ndarray  # [n, f]: difficulty and a column of ones
    predicted: np.ndarray  # [m, f]: `fixed` of the rows that the rate is the mean over
    judged: np.ndarray  # [n]: the place of each row among `predicted`
    extra: Extra | None
    n_missing: int

    @property
    def x(self) -> np.ndarray:
        return np.hstack([squash(self.deltas, self.scales), self.fixed])

    @property
    def by_definition(self) -> bool:
        """A model against itself: no difference anywhere and nothing but draws. That is 50, whatever regularises."""
        return not self.deltas.any() and bool((self.y == 0.5).all())


def squash(deltas: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """tanh(delta / scale), 0 where all deltas are equal. Shapes broadcast over the last axis."""
    return np.tanh(deltas / np.where(scales > 0, scales, 1.0)) * (scales > 0)


def prepare(
    annotations: Any, difficulty: Any = None, gamed: Any = None, align: Align = "index", style: Sequence[str] = ()
) -> Design:
    """See `length_control.fit`, whose arguments these are and which says what raises InputError."""
    index = column(annotations, "instruction_index", np.int64)
    preference = column(annotations, "preference", np.float64)
    controlled = ("length", *style)
    pairs = [("len_output", "len_baseline"), *((f"{name}_output", f"{name}_baseline") for name in style)]
    deltas = np.column_stack(
        [column(annotations, theirs, np.float64) - column(annotations, ours, np.float64) for ours, theirs in pairs]
    )
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
    unmeasured = ~np.isfinite(deltas).all(1) & known
    if unmeasured.any():
        raise InputError(f"annotations: row {int(np.flatnonzero(unmeasured)[0])}: a length or style count is no number")

    official = align != "index"  # the official code scales and predicts with every row, judged or not
    measured = known if not official else np.isfinite(deltas).all(1)
    fixed = np.ones((len(index), 1))
    if difficulty is not None:
        fixed = np.column_stack(
            [_difficulty(difficulty, np.arange(len(index)) if official else index, official), fixed]
        )
    names = (*controlled, *(("difficulty",) if difficulty is not None else ()), "bias")
    return Design(
        controlled=controlled,
        names=names,
        y=np.where(preference[known] == 0, 0.5, preference[known] - 1),
        index=index[known],
        deltas=deltas[known],
        scales=deltas[measured].std(0, ddof=1),
        fixed=fixed[known],
        predicted=fixed if official else fixed[known],
        judged=np.flatnonzero(known) if official else np.arange(known.sum()),
        extra=None if gamed is None else _gamed_rows(gamed, names),
        n_missing=int((~known).sum()),
    )


def _difficulty(table: Any, wanted: np.ndarray, by_position: bool) -> np.ndarray:
    keys = column(table, "instruction_index", np.int64, "difficulty")
    values = column(table, "instruction_difficulty", np.float64, "difficulty")
    order = np.argsort(keys, kind="stable")
    keys, values = np.arange(len(keys)) if by_position else keys[order], values[order]
    place = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
    unknown = keys[place] != wanted
    if unknown.any():
        raise InputError(f"difficulty: no instruction_index {wanted[unknown][0]} ({unknown.sum()} are unknown)")
    return values[place]


def _gamed_rows(gamed: Any, names: tuple[str, ...]) -> Extra:
    """Rows with the bias column at 0: they tie the other weights to the baseline's own gamed versions."""
    sources = {"length": "std_delta_len", "difficulty": "instruction_difficulty"}
    x = [column(gamed, sources.get(name, f"std_delta_{name}"), np.float64, "gamed") for name in names[:-1]]
    squashed = [values if name == "difficulty" else np.tanh(values) for name, values in zip(names, x, strict=False)]
    y = column(gamed, "preference_surrogate_0to1", np.float64, "gamed")
    models = len(set(np.asarray(gamed["model"]).tolist()))
    return Extra(np.column_stack([*squashed, np.zeros(len(y))]), y, np.full(len(y), GAMED_WEIGHT / models))
