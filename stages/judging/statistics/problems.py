"""What is wrong with a table of annotations, row by row: nothing is dropped or averaged without being named here."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import binomtest

from stages.judging.statistics.columns import column, column_names

ONE_SIDED = 1e-6  # p-value below which a preference for the side shown first is no accident
NEARLY_ALWAYS = 0.9  # share of verdicts for one side beyond which it is a failure and not a leaning


@dataclass(frozen=True)
class Problem:
    row: int | None  # position in the table; None where the problem is that there is no row
    model: str
    instruction_index: int | None
    what: str


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


def screen(
    annotations: Any,
    *,
    models: Collection[str] | None = None,
    instructions: Collection[int] | None = None,
    baseline: str | None = None,
) -> tuple[np.ndarray, list[Problem]]:
    """(Rows that can be used [k], problems) of a table with the columns of `length_control.fit` and `model`.

    models: those expected; rows of others are unknown, and those without rows are missing. instructions: indices
    expected of every model; without them, all that any model has. baseline: must be among the models, and the column
    `baseline`, where there is one, must name it.

    A NaN preference is a problem, but its row is kept: `fit` counts it as missing. A repeated annotation is used once
    where the copies agree, not at all where they don't.
    """
    names = np.asarray(annotations["model"]).astype(str)
    index = column(annotations, "instruction_index", np.int64)
    preference = column(annotations, "preference", np.float64)
    lengths = np.column_stack([column(annotations, name, np.float64) for name in ("len_output", "len_baseline")])
    problems: list[Problem] = []

    def report(rows: np.ndarray, what: str) -> None:
        problems.extend(Problem(int(row), str(names[row]), int(index[row]), what) for row in rows)

    unknown = ~np.isin(names, list(models)) if models is not None else np.zeros(len(names), bool)
    report(np.flatnonzero(unknown), "unknown model")
    other = np.zeros(len(names), bool)
    if baseline is not None and "baseline" in column_names(annotations):
        other = np.asarray(annotations["baseline"]).astype(str) != baseline
        report(np.flatnonzero(other), f"judged against another baseline than `{baseline}`")
    empty = np.isnan(preference)
    report(np.flatnonzero(empty), "no preference")
    outside = ~empty & (preference != 0) & ~((preference >= 1) & (preference <= 2))
    for bad in np.flatnonzero(outside):
        report(np.array([bad]), f"preference {preference[bad]:g} isn't in 1..2")
    unmeasured = ~(np.isfinite(lengths) & (lengths >= 0)).all(1)
    report(np.flatnonzero(unmeasured), "no length")
    usable = ~(unknown | other | outside | unmeasured)

    found, code = np.unique(names, return_inverse=True)
    rows = np.flatnonzero(usable)
    rows = rows[np.lexsort((rows, index[rows], code[rows]))]
    ends = np.flatnonzero((np.diff(code[rows]) != 0) | (np.diff(index[rows]) != 0)) + 1
    for copies in np.split(rows, ends) if len(ends) < len(rows) - 1 else []:
        if len(copies) > 1:
            agree = all(_same(preference[copies[0]], preference[row]) for row in copies[1:])
            rest = copies[1:] if agree else copies
            report(rest, "repeats an earlier row" if agree else "annotated twice, differently")
            usable[rest] = False

    if instructions is None:
        wanted = np.unique(index[usable])
    else:
        wanted = np.unique(np.fromiter(instructions, np.int64))
        foreign = np.flatnonzero(usable & ~np.isin(index, wanted))
        report(foreign, "unknown instruction")
        usable[foreign] = False
    there = dict(zip(found.tolist(), _grouped(index, code, ~other & ~unknown, len(found)), strict=True))
    expected = set(found.tolist()) if models is None else set(models)
    for model in sorted(expected):
        if model not in there:
            problems.append(Problem(None, model, None, "the model has no rows"))
        else:
            lacking = np.setdiff1d(wanted, there[model])
            problems += [Problem(None, model, int(key), "no row") for key in lacking]
    if baseline is not None and models is not None and baseline not in models:
        problems.append(Problem(None, baseline, None, "the baseline isn't among the models"))
    return np.flatnonzero(usable), problems


def side_preference(preference: Sequence[float] | np.ndarray, output_first: Sequence[bool] | np.ndarray) -> Sides:
    """preference [n]: 1 baseline .. 2 output; output_first [n]: whether the output stood before the baseline."""
    votes, first = np.asarray(preference, dtype=np.float64), np.asarray(output_first, dtype=bool)
    decided = np.isfinite(votes) & (votes != 0) & (votes != 1.5)
    wins = (votes[decided] > 1.5) == first[decided]
    n, count = len(wins), int(wins.sum())
    return Sides(count, n, float(binomtest(count, n).pvalue) if n else 1.0)


def _grouped(values: np.ndarray, code: np.ndarray, kept: np.ndarray, count: int) -> list[np.ndarray]:
    """values of the kept rows, by code."""
    rows = np.flatnonzero(kept)
    rows = rows[np.argsort(code[rows], kind="stable")]
    return np.split(values[rows], np.searchsorted(code[rows], np.arange(1, count)))


def _same(a: float, b: float) -> bool:
    return bool(a == b or (np.isnan(a) and np.isnan(b)))
