"""`trainyard scaling fit`: the scaling laws of anyone's table of runs, or of ladders, outside the pipeline."""

import argparse
import math
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from stages.base.errors import InputError, ParamError
from stages.base.files import atomic_path, write_json
from stages.base.terminal import shown_json

if TYPE_CHECKING:
    from stages.scaling.laws.parametric import Options
    from stages.scaling.tables.table import RunTable

EXAMPLE = """\
examples:
  trainyard scaling fit runs.csv --out laws --column loss=c4_val
  trainyard scaling fit mine=data/scaling/ladder theirs=../theirs/data/scaling/ladder --out both --json
"""
NUMBERS, PAGE = "scaling.json", "scaling.html"


def register(subparsers: argparse._SubParsersAction) -> None:
    command = subparsers.add_parser("scaling", help="scaling laws of anyone's table of runs")
    actions = command.add_subparsers(dest="action", required=True, metavar="action")
    action = actions.add_parser("fit", help="fit the laws and write their page", epilog=EXAMPLE)
    add = action.add_argument
    add(
        "runs", nargs="+",
        help="CSV with N, D or C, loss (nats per token), optionally recipe, run, lr, batch, …; or ladders to compare, "
        "each [NAME=]data/scaling/ladder of a project",
    )  # fmt: skip
    add("--out", type=Path, required=True, metavar="DIR", help="gets scaling.html and scaling.json")
    add(
        "--column", action="append", default=[], metavar="NAME=COLUMN",
        help="which column of the file holds what, e.g. loss=c4_val; may be repeated",
    )  # fmt: skip
    add("--huber-delta", type=float, default=1e-3, help="of log residuals (default: 1e-3)")
    add("--level", type=float, default=0.9, help="of intervals (default: 0.9)")
    add("--seed", type=int, default=0)
    add("--json", action="store_true", help="print scaling.json in place of the summary")
    action.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from stages.scaling.laws.parametric import Options

    chosen = Options(huber_delta=options.huber_delta, level=options.level, seed=options.seed)
    return fit(options.runs, options.out, options.column, chosen, options.json)


def fit(runs: Sequence[str], folder: Path, columns: Sequence[str], options: "Options", as_json: bool = False) -> int:
    """Write `scaling.json` and `scaling.html`. `runs`: a CSV, or folders of ladders, each with NAME= before it or not.
    `columns`: NAME=COLUMN, which column of the CSV holds what.
    """
    from stages.publishing.scaling.page import scaling_page
    from stages.scaling.study.study import fit_recipes, study, summary

    _check(options)
    table, title = _read(runs, _named(columns))
    for warning in table.warnings:
        print(f"trainyard: warning: {title}: {warning}", file=sys.stderr)
    with _prepared(folder):  # before minutes are spent on fits
        result = study(table, fit_recipes(table, options), options)
        page = scaling_page(result, title)
        try:
            write_json(folder / NUMBERS, result.model_dump(mode="json"))
            with atomic_path(folder / PAGE) as temporary:
                temporary.write_text(page, encoding="utf-8")
        except OSError as error:
            raise InputError(f"--out {folder}: {error.strerror or error}") from None
    if as_json:
        print(shown_json(result.model_dump(mode="json")))
        return 0
    for line in summary(result):
        print(line)
    print(f"page: {folder / PAGE}")
    return 0


def _read(runs: Sequence[str], columns: dict[str, str]) -> tuple["RunTable", str]:
    """The table, and what to call it."""
    from stages.scaling.tables.ladders import read_ladders
    from stages.scaling.tables.table import read_table

    named = [_ladder(given) for given in runs]
    if len(runs) == 1 and not named[0][1].is_dir():
        return read_table(Path(runs[0]), columns), Path(runs[0]).stem
    if columns:
        raise ParamError("--column is for a CSV; the numbers of a ladder have their names")
    for place, (name, folder) in enumerate(named):
        if not folder.is_dir():
            raise InputError(f"{folder}: not a folder; give one CSV, or folders of ladders to compare")
        if name in dict(named[:place]):
            raise ParamError(f"{runs[place]}: there is another {name}; say NAME={folder}")
    return read_ladders(named), ", ".join(name for name, _ in named)


def _ladder(given: str) -> tuple[str, Path]:
    """NAME=FOLDER, or a folder under its own name, which may have a = in it."""
    name, equals, folder = given.partition("=")
    return (name, Path(folder)) if equals and not Path(given).is_dir() else (given, Path(given))


def _check(options: "Options") -> None:
    if not 0.5 < options.level < 1:
        raise ParamError(f"--level must lie between 0.5 and 1, got {options.level:g}")
    if not (math.isfinite(options.huber_delta) and options.huber_delta > 0):
        raise ParamError(f"--huber-delta must be a positive number, got {options.huber_delta:g}")
    if options.seed < 0:
        raise ParamError(f"--seed must not be negative, got {options.seed}")


def _named(columns: Sequence[str]) -> dict[str, str]:
    from stages.scaling.tables.table import NAMES

    standard = {name.lower(): name for name in NAMES}
    found: dict[str, str] = {}
    for given in columns:
        name, equals, column = given.partition("=")
        known = standard.get(name.strip().lower())
        if not equals or not column.strip() or known is None:
            raise ParamError(f"--column {given}: say NAME=COLUMN with a NAME of {', '.join(NAMES)}")
        if known in found:
            raise ParamError(f"--column {known} is given twice; keep one")
        if column.strip() in found.values():
            raise ParamError(f"--column takes `{column.strip()}` twice; a column holds one thing")
        found[known] = column.strip()
    return found


@contextmanager
def _prepared(folder: Path) -> Iterator[None]:
    """The folder, which goes again where no page comes. Raises InputError for one that files can't be written to."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {folder}: {error.strerror or error}; name a folder that can be written") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"--out {folder}: not writable; name another folder")
    for name in (NUMBERS, PAGE):
        if (folder / name).is_dir():
            raise InputError(f"--out {folder}: {name} is a folder there; remove it or name another folder")
    try:
        yield
    except BaseException:
        with suppress(OSError):  # not empty: it holds what others wrote meanwhile
            for path in missing:
                path.rmdir()
        raise
