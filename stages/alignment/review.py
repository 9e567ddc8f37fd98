"""People look at what a model wrote: which rows they are shown, and what they say about them.

`to_review.jsonl` holds the rows most worth a look. A copy of it with `verdict` and `reviewer` filled in is the file of
edits: a verdict belongs to the very text that was read (`digest`).
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stages.alignment.formats import Row
from stages.alignment.records import Instruction
from stages.base.errors import InputError
from stages.base.files import json_lines

VERDICTS = ("keep", "drop", "edit")
KEYS = ("id", "digest", "verdict", "reviewer", "reason", "instruction", "response")
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

    @property
    def digest(self) -> str:
        """Of the text as the model wrote it."""
        return hashlib.sha256(f"{self.row.prompt}\x1f{self.row.response}".encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Edit:
    """What a person says of one row; `place` is its file and line."""

    place: str
    id: str
    digest: str
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
            "id": rows[i].row.id, "digest": rows[i].digest, "verdict": None, "reviewer": None, "reason": None,
            "instruction": rows[i].row.prompt, "response": rows[i].row.response,
            "generation": rows[i].generation, "worth": round(worth[i], 4), "overlap": round(rows[i].overlap, 4),
            "logprob": rows[i].logprob, "agreement": rows[i].agreement, "other_response": rows[i].other_response,
        }
        for i in chosen
    ]  # fmt: skip


def read_edits(path: Path) -> list[Edit]:
    """Lines with a verdict; one without is a row that nobody has looked at yet. Raises InputError naming file and line
    of one that is misspelt, lacks its reviewer, or speaks of a row that another line speaks of."""
    found: dict[str, Edit] = {}
    for number, values in json_lines(path):
        place = f"{path}:{number}"
        if not isinstance(values, dict):
            raise InputError(f"{place}: must be an object, not {values!r:.60}")
        if unknown := sorted(set(values) - {*KEYS, *SHOWN_TOO}):
            raise InputError(f"{place}: unknown key `{unknown[0]}`; known: {', '.join(KEYS)}")
        row = Row(place, number, {key: value for key, value in values.items() if value is not None})
        if "verdict" not in row.values:
            continue
        verdict, name = row.text("verdict"), row.text("id")
        if verdict not in VERDICTS:
            raise InputError(f"{place}: `verdict` is {verdict!r:.40}; known: {', '.join(VERDICTS)}, or null")
        if name in found:
            raise InputError(f"{place}: `{name}` has a verdict at {found[name].place} already; keep one")
        found[name] = Edit(
            place, name, row.text("digest"), verdict, row.text("reviewer"), row.text("reason", ""),
            row.text("instruction") if "instruction" in row.values else "",
            row.text("response") if "response" in row.values else "",
        )  # fmt: skip
    return list(found.values())


def edited(rows: Sequence[Written], edits: Sequence[Edit]) -> tuple[list[Written], dict[str, int]]:
    """(The rows that are left, with what people changed; counts of their verdicts). Raises InputError naming file and
    line of an edit of a row that isn't there or that reads otherwise by now, and of one whose verdict and texts don't
    agree."""
    known = {row.row.id: row for row in rows}
    said = {edit.id: _checked(edit, known) for edit in edits}
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
    verdicts = Counter(edit.verdict for edit in edits)
    return left, {"reviewed": len(edits), **{f"review_{verdict}": verdicts[verdict] for verdict in VERDICTS}}


def _checked(edit: Edit, rows: Mapping[str, Written]) -> Edit:
    again = "review `to_review.jsonl` anew, or take the line out"
    row = rows.get(edit.id)
    if row is None:
        raise InputError(f"{edit.place}: no row `{edit.id}` was written; {again}")
    if edit.digest != row.digest:
        raise InputError(f"{edit.place}: `{edit.id}` reads otherwise by now ({row.row.prompt[:60]!r}); {again}")
    changed = (edit.instruction or row.row.prompt, edit.response or row.row.response) != (
        row.row.prompt, row.row.response,
    )  # fmt: skip
    if changed != (edit.verdict == "edit") and edit.verdict != "drop":
        other = "changes no text; say keep" if edit.verdict == "edit" else "changes a text; say edit"
        raise InputError(f"{edit.place}: `verdict` is {edit.verdict} and the line {other}")
    return edit
