"""Whether the published leaderboard says what the table of judging says: cell by cell, so that an edit is named."""

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from stages.base.artifacts import LEADERBOARD
from stages.base.contracts.leaderboard import Leaderboard
from stages.base.errors import TrainyardError
from stages.base.files import read_json
from stages.publishing.leaderboard.files import as_csv, as_json, published_rows
from stages.publishing.lineage.chain import Finding
from stages.publishing.lineage.project import Project

CSV, JSON = "reports/leaderboard.csv", "reports/leaderboard.json"
Rows = dict[str, dict[str, Any]]


def edited_cells(project: Project, row: str | None = None) -> Iterator[Finding]:
    """Cells of the published rows, or of one, that differ from data/judging/leaderboard/leaderboard.json."""
    table = project.files.place(LEADERBOARD)
    if table is None:
        return
    try:
        board = Leaderboard.model_validate_json(table.read_bytes())
    except ValidationError as error:
        problem = error.errors()[0]
        yield Finding(LEADERBOARD, f"`{'.'.join(map(str, problem['loc']))}`: {problem['msg']}; `dvc repro leaderboard`")
        return
    rows = published_rows(board)
    for path, read, written in ((CSV, _csv_rows, as_csv(rows)), (JSON, _json_rows, as_json(rows, board))):
        place = project.files.place(path)
        if place is None:
            yield Finding(path, "not here")
            continue
        try:
            found = read(place.read_bytes().decode("utf-8"))
        except (csv.Error, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            yield Finding(path, "not readable as a leaderboard; restore it with `git checkout` or `dvc repro board`")
            continue
        yield from _differences(path, found, read(written), row)


def _csv_rows(text: str) -> Rows:
    return {row["model"]: row for row in csv.DictReader(io.StringIO(text, newline=""), strict=True)}


def _json_rows(text: str) -> Rows:
    return {row["model"]: row for row in json.loads(text)["rows"]}


def _differences(path: str, found: Rows, right: Rows, row: str | None) -> Iterator[Finding]:
    remedy = f"edited since it was made from {LEADERBOARD}; `dvc repro board` or `git checkout` puts it right"
    for model in dict.fromkeys([*right, *found]):
        if row is not None and model != row:
            continue
        if model not in found or model not in right:
            yield Finding(path, f"row `{model}` {'is gone' if model in right else 'is of no judged model'}: {remedy}")
            continue
        for name in dict.fromkeys([*right[model], *found[model]]):
            shown, true = found[model].get(name), right[model].get(name)
            if shown != true:
                yield Finding(path, f"row `{model}`: `{name}` is {_cell(shown)}, should be {_cell(true)}: {remedy}")


def _cell(cell: Any) -> str:
    return "missing" if cell is None else "empty" if cell == "" else str(cell)[:80]


def row_scores(row: str) -> str:
    """The row's numbers, for the first line; nothing where the table is not here."""
    try:
        rows = read_json(LEADERBOARD)["rows"]
        entry: dict[str, Any] = next((entry for entry in rows if entry["model"] == row), {})
    except (TrainyardError, KeyError, TypeError):
        return ""
    numbers = {k: v for k, v in sorted(entry.items()) if isinstance(v, int | float) and not isinstance(v, bool)}
    return ": " + ", ".join(f"{key} {value:.4g}" for key, value in numbers.items()) if numbers else ""
