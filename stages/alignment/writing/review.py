"""People look at what a model wrote: which rows they are shown, and what they say about them.

`to_review.jsonl` holds the rows most worth a look. A copy of it with `verdict` and `reviewer` filled in is a file of
edits, and so is what the annotation page writes. A row's id hangs on its text, so that a verdict is of what was read.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stages.alignment.data.formats import Row
from stages.alignment.data.records import Instruction
from stages.base.errors import InputError
from stages.base.files import json_lines

VERDICTS = ("keep", "drop", "edit")
KEYS = ("id", "verdict", "reviewer", "reason", "instruction", "response")
SHOWN_TOO = ("generation", "worth", "overlap", "logprob", "agreement", "other_response")  # of to_review.jsonl


@dataclass(frozen=True)
class Written:
    """A machine-written instruction and where it comes from: a row of `records.GENERATED`."""

    row: Instruction
    generation: int
    parents: tuple[str, ...]
    written_by: str
    classification: bool | None
    overlap: float
    logprob: float | None = None
    agreement: float | None = None
    other_response: str = ""
    edited_by: str = ""
    checked_by: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Edit:
    """What a person says of one row; `place` is its file and line."""

    place: str
    id: str
    verdict: str
    reviewer: str
    reason: str
    instruction: str
    response: str


def worth_a_look(rows: Sequence[Written]) -> list[float]:
    """0 … 1 of each row: the mean of its places, as shares of all rows, by how near it is to what was kept before, how
    unsure the writer is of the response (uncertainty sampling, Lewis & Gale 1994) and how far two responses differ
    (query by committee, Seung et al. 1992). What isn't known of the rows doesn't count."""
    signals = [
        [row.overlap for row in rows],
        [-row.logprob for row in rows if row.logprob is not None],
        [-row.agreement for row in rows if row.agreement is not None],
    ]
    known = [values for values in signals if values and len(values) == len(rows)]
    return [
        sum(sum(v < values[i] for v in values) for values in known) / len(known) / len(rows) for i in range(len(rows))
    ]


def to_review(rows: Sequence[Written], count: int) -> list[dict[str, Any]]:
    """The `count` rows most worth a look, the most first, as lines to be filled in."""
    worth = worth_a_look(rows)
    chosen = sorted(range(len(rows)), key=lambda index: (-worth[index], index))[:count]
    return [
        {
            "id": rows[i].row.id, "verdict": None, "reviewer": None, "reason": None,
            "instruction": rows[i].row.prompt, "response": rows[i].row.response,
            "generation": rows[i].generation, "worth": round(worth[i], 4), "overlap": round(rows[i].overlap, 4),
            "logprob": rows[i].logprob, "agreement": rows[i].agreement, "other_response": rows[i].other_response,
        }
        for i in chosen
    ]  # fmt: skip


def read_edits(path: Path) -> list[Edit]:
    """Lines with a verdict; one without is a row that nobody has looked at yet. Raises InputError naming file and line
    of one that is misspelt or lacks its reviewer."""
    found = []
    for number, values in json_lines(path):
        place = f"{path}:{number}"
        if not isinstance(values, dict):
            raise InputError(f"{place}: must be an object, not {values!r:.60}")
        if unknown := sorted(set(values) - {*KEYS, *SHOWN_TOO}):
            raise InputError(f"{place}: unknown key `{unknown[0]}`; known: {', '.join(KEYS)}")
        row = Row(place, number, {key: value for key, value in values.items() if value is not None})
        if "verdict" not in row.values:
            continue
        verdict = row.text("verdict")
        if verdict not in VERDICTS:
            raise InputError(f"{place}: `verdict` is {verdict!r:.40}; known: {', '.join(VERDICTS)}, or null")
        texts = [row.text(key) if key in row.values else "" for key in ("instruction", "response")]
        found.append(Edit(place, row.text("id"), verdict, row.text("reviewer"), row.text("reason", ""), *texts))
    return found


def agreed(edits: Sequence[Edit]) -> dict[str, Edit]:
    """The edit of each id; of those on which several people say the same, with all their names. Raises InputError
    naming both places where they don't."""
    found: dict[str, Edit] = {}
    for edit in edits:
        first = found.setdefault(edit.id, edit)
        if first is edit:
            continue
        if (first.verdict, first.instruction, first.response) != (edit.verdict, edit.instruction, edit.response):
            raise InputError(
                f"{edit.place}: {edit.reviewer} says {edit.verdict} of `{edit.id}`, and {first.reviewer} at "
                f"{first.place} {first.verdict}, or another text; keep one"
            )
        names = dict.fromkeys((*first.reviewer.split(", "), edit.reviewer))
        found[edit.id] = replace(first, reviewer=", ".join(names))
    return found


def edited(rows: Sequence[Written], edits: Sequence[Edit]) -> tuple[list[Written], dict[str, int]]:
    """(The rows that are left, with what people changed; counts of their verdicts). Raises InputError naming file and
    line of an edit of a row that isn't there, or no longer as it was read, of one whose verdict and texts don't agree,
    and of two that contradict each other."""
    known = {row.row.id: row for row in rows}
    said = {name: _checked(edit, known) for name, edit in agreed(edits).items()}
    left = []
    for row in rows:
        edit = said.get(row.row.id)
        if edit is None:
            left.append(row)
        elif edit.verdict != "drop":
            text = replace(
                row.row, prompt=edit.instruction or row.row.prompt, response=edit.response or row.row.response
            )
            changed = edit.reviewer if edit.verdict == "edit" else ""
            left.append(replace(row, row=text, edited_by=changed, checked_by=edit.reviewer, reason=edit.reason))
    verdicts = Counter(edit.verdict for edit in said.values())
    return left, {"reviewed": len(said), **{f"review_{verdict}": verdicts[verdict] for verdict in VERDICTS}}


def _checked(edit: Edit, rows: Mapping[str, Written]) -> Edit:
    again = "review `to_review.jsonl` anew, or take the line out"
    row = rows.get(edit.id)
    if row is None:
        raise InputError(f"{edit.place}: no row `{edit.id}` was written, or it reads otherwise by now; {again}")
    changed = (edit.instruction or row.row.prompt, edit.response or row.row.response) != (
        row.row.prompt, row.row.response,
    )  # fmt: skip
    if changed != (edit.verdict == "edit") and edit.verdict != "drop":
        other = "changes no text; say keep" if edit.verdict == "edit" else "changes a text; say edit"
        raise InputError(f"{edit.place}: `verdict` is {edit.verdict} and the line {other}")
    return edit
