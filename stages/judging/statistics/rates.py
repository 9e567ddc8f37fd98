"""Length-controlled rates of every model in one table of annotations, and what was wrong with its rows."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.base.errors import InputError
from stages.judging.statistics.columns import column, column_names
from stages.judging.statistics.length_control import LengthControlled, fit
from stages.judging.statistics.length_design import Align
from stages.judging.statistics.problems import Problem, screen


@dataclass(frozen=True)
class Rates:
    models: dict[str, LengthControlled]
    problems: list[Problem]


def fit_models(
    annotations: Any,
    *,
    difficulty: Any = None,
    gamed: Any = None,
    align: Align = "index",
    style: Sequence[str] = (),
    models: Collection[str] | None = None,
    baseline: str | None = None,
) -> Rates:
    """`length_control.fit` for each model of a table with a column `model`; the baseline has 50 by definition.

    models: those expected, by default all that the table names. Rows that can't be used are left out and named in
    `problems` (see `problems.screen`); a model that can't be fitted is named there too, with the reason.
    """
    instructions = (
        None if difficulty is None else column(difficulty, "instruction_index", np.int64, "difficulty").tolist()
    )
    usable, problems = screen(annotations, models=models, instructions=instructions, baseline=baseline)
    names = np.asarray(annotations["model"]).astype(str)
    wanted = ["instruction_index", "preference", "len_output", "len_baseline"]
    wanted += [f"{name}_{side}" for name in style for side in ("output", "baseline")]
    columns = {name: column(annotations, name, np.float64)[usable] for name in wanted}
    gamed = None if gamed is None else {name: np.asarray(gamed[name]) for name in column_names(gamed)}
    fitted: dict[str, LengthControlled] = {}
    found, code = np.unique(names[usable], return_inverse=True)
    order = np.argsort(code, kind="stable")
    for model, rows in zip(found.tolist(), np.split(order, np.cumsum(np.bincount(code))[:-1]), strict=True):
        table = {name: values[rows] for name, values in columns.items()}
        if model == baseline:  # whatever a noisy judge says of two equal answers
            table |= {"preference": np.full(len(rows), 1.5), "len_output": table["len_baseline"]}
            table |= {f"{name}_output": table[f"{name}_baseline"] for name in style}
        else:
            decided = table["preference"][~np.isnan(table["preference"])]
            if len(decided) and decided.min() == decided.max() != 1.5:
                what = f"every preference is {decided[0]:g}: the judge may not have read the answers"
                problems.append(Problem(None, model, None, what))
        try:
            fitted[model] = fit(table, difficulty=difficulty, gamed=gamed, align=align, style=style)
        except InputError as error:
            problems.append(Problem(None, model, None, str(error)))
    return Rates(fitted, problems)
