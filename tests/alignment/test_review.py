"""Human edits: applied by id to the text that was read, and named by file and line where they speak of another."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stages.alignment.data.records import GENERATED, Instruction
from stages.alignment.self_instruct import files_in, table_of
from stages.alignment.writing.review import Written, edited, read_edits, to_review, worth_a_look
from stages.base.errors import InputError


def written(number: int, **changes: Any) -> Written:
    row = Instruction(
        f"self_instruct-1-{number}", "sft", "self_instruct", "", [], f"Prompt {number}?", f"Answer {number}."
    )
    return replace(Written(row, 1, ("s0",), "base model", None, 0.1 * number), **changes)


ROWS = [written(n) for n in range(5)]


def edits_of(path: Path, *lines: dict[str, Any]) -> list[Any]:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return read_edits(path)


def line(number: int, verdict: str | None, **more: Any) -> dict[str, Any]:
    return {"id": ROWS[number].row.id, "verdict": verdict, "reviewer": "ana", **more}


def test_the_filled_in_list_is_applied(tmp_path: Path) -> None:
    offered = to_review(ROWS, 4)
    assert [one["instruction"] for one in offered] == ["Prompt 4?", "Prompt 3?", "Prompt 2?", "Prompt 1?"]
    offered[0] |= {"verdict": "drop", "reviewer": "ana", "reason": "wrong"}
    offered[1] |= {"verdict": "edit", "reviewer": "ben", "response": "Better."}
    offered[2] |= {"verdict": "keep", "reviewer": "ben"}
    left, counts = edited(ROWS, edits_of(tmp_path / "edits.jsonl", *offered))
    assert [row.row.response for row in left] == ["Answer 0.", "Answer 1.", "Answer 2.", "Better."]
    assert [(row.edited_by, row.checked_by) for row in left] == [("", ""), ("", ""), ("", "ben"), ("ben", "ben")]
    assert counts == {"reviewed": 3, "review_keep": 1, "review_drop": 1, "review_edit": 1}
    table = table_of(left)
    assert table.schema.equals(GENERATED) and table["parents"].to_pylist()[0] == ["s0"]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (
            line(1, "keep") | {"id": "self_instruct-9-9"},
            "no row `self_instruct-9-9` was written, or it reads otherwise",
        ),
        (line(1, "keep", response="Other."), "changes a text; say edit"),
        (line(1, "edit"), "changes no text; say keep"),
        (line(1, "edit", response=" "), "response"),
        (line(1, "change"), "verdict"),
        (line(1, "keep") | {"reviewer": None}, "reviewer"),
        (line(1, "keep", respons="x"), "unknown key `respons`"),
        (line(0, "drop", reviewer="ben"), "ben says drop of .* and ana at .*edits.jsonl:1 keep"),
        (["keep"], "object"),
    ],
)
def test_what_is_wrong_is_named_by_its_line(tmp_path: Path, bad: Any, said: str) -> None:
    with pytest.raises(InputError, match=rf"edits\.jsonl:2: .*{said}"):
        edited(ROWS, edits_of(tmp_path / "edits.jsonl", line(0, "keep"), bad))


def test_several_people_may_say_the_same(tmp_path: Path) -> None:
    lines = [line(0, "edit", reviewer=name, response="Better.") for name in ("ana", "ben", "ana")]
    left, counts = edited(ROWS, edits_of(tmp_path / "edits.jsonl", *lines))
    assert left[0].edited_by == left[0].checked_by == "ana, ben" and counts["reviewed"] == 1


def test_what_the_annotation_page_writes_is_read(tmp_path: Path) -> None:
    offered = Path(tmp_path, "to_review.jsonl")
    offered.write_text("".join(json.dumps(row) + "\n" for row in to_review(ROWS, 5)))
    page = [
        {"id": ROWS[2].row.id, "instruction": "Prompt 2?", "response": "New.", "verdict": "edit", "reviewer": "Ida",
         "reason": ""},
        {"id": ROWS[3].row.id, "verdict": "keep", "reviewer": "Ida", "reason": ""},
    ]  # fmt: skip
    left, _ = edited(ROWS, edits_of(tmp_path / "edits.jsonl", *page))
    assert (left[2].row.response, left[2].edited_by, left[3].checked_by) == ("New.", "Ida", "Ida")


def test_lines_without_a_verdict_and_other_files_of_the_folder_say_nothing(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("how to")
    (tmp_path / ".kept").write_text("")
    assert edits_of(tmp_path / "a.jsonl", line(0, None)) == []
    assert files_in(tmp_path) == [tmp_path / "a.jsonl"] and files_in(tmp_path / "a.jsonl") == [tmp_path / "a.jsonl"]


def test_the_least_sure_and_the_disputed_come_first() -> None:
    rows = [
        written(0, overlap=0.1, logprob=-0.1, agreement=0.9),
        written(1, overlap=0.1, logprob=-3.0, agreement=0.1),
        written(2, overlap=0.6, logprob=-0.2, agreement=0.9),
    ]
    assert [one["id"][-1] for one in to_review(rows, 3)] == ["1", "2", "0"]
    assert worth_a_look(rows)[0] == 0 and max(worth_a_look(rows)) < 1
    some = [replace(rows[0], logprob=None), *rows[1:]]
    assert worth_a_look(some)[1] == pytest.approx(2 / 3 / 2), "what isn't known of all rows counts for none"
    assert to_review([], 3) == [] == to_review(rows, 0)
