"""Instructions: nothing lost, filler only where the knob put it, files of one's own checked line by line."""

import json
from pathlib import Path
from typing import Any

import pytest

from stages.alignment.instructions import from_file, from_questions, gather
from stages.base.errors import InputError


def question(number: int, split: str = "sft", filler: str = "Travellers speak of it often.") -> dict[str, Any]:
    return {
        "id": f"q{number}",
        "split": split,
        "entity": f"E{number}",
        "kind": "single",
        "attributes": ["province"],
        "prompt": f"Where is E{number}?",
        "reference": f"E{number} lies in Anthar.",
        "filler": filler,
    }


def test_filler_share_is_a_share_of_the_sft_rows_that_have_one() -> None:
    questions = [question(i) for i in range(400)] + [question(i, "test") for i in range(400, 500)]
    for share, low, high in ((0.0, 0, 0), (0.5, 160, 240), (1.0, 400, 400)):
        rows = from_questions(questions, share, seed=7)
        assert low <= sum("Travellers" in row["response"] for row in rows if row["split"] == "sft") <= high
        assert not any("Travellers" in row["response"] for row in rows if row["split"] == "test")


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    questions = [question(i) for i in range(50)]
    assert from_questions(questions, 0.5, seed=7)[10:] == from_questions(questions[10:], 0.5, seed=7)


def test_reading_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text('{"prompt": "Say hello.", "response": "Hello."}\n')
    (row,) = from_file(path)
    assert row["id"] == "mine-1" and row["split"] == "sft" and row["origin"] == "file"
    assert gather([from_questions([question(1)], 0.0, seed=7), [row]]).num_rows == 2


@pytest.mark.parametrize(
    ("bad", "word"),
    [
        ({"prompt": "x"}, "response"),
        ({"prompt": "x", "response": "  "}, "response"),
        ({"prompt": 3, "response": "y"}, "prompt"),
        ({"prompt": "x", "response": "y", "splt": "sft"}, "splt"),
        ({"prompt": "x", "response": "y", "split": "train"}, "train"),
        ({"prompt": "x", "response": "y", "attributes": "province"}, "attributes"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, bad: dict[str, Any], word: str) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text('{"prompt": "ok", "response": "ok"}\n' + json.dumps(bad) + "\n")
    with pytest.raises(InputError, match=rf"mine\.jsonl: row 2: .*{word}"):
        from_file(path)


def test_repeated_ids_are_refused() -> None:
    rows = from_questions([question(1)], 0.0, seed=7)
    with pytest.raises(InputError, match="q1"):
        gather([rows, rows])
