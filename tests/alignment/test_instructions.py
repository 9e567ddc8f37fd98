"""Instructions: nothing lost, filler only where the knob put it, files of one's own checked line by line."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.alignment.instructions import PARAMS, divide, from_file, from_questions, known_of, misstated
from stages.base.errors import InputError, ParamError
from stages.base.params import parse

SHARES = {"preference": 0.2, "validation": 0.1, "test": 0.2}


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


def written(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_filler_share_is_a_share_of_the_sft_rows_that_have_one() -> None:
    questions = [question(i) for i in range(400)] + [question(i, "test") for i in range(400, 500)]
    for share, low, high in ((0.0, 0, 0), (0.5, 160, 240), (1.0, 400, 400)):
        rows = from_questions(questions, share, 7, "atlas")
        assert low <= sum("Travellers" in row.response for row in rows if row.split == "sft") <= high
        assert not any("Travellers" in row.response for row in rows if row.split == "test")


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    questions = [question(i) for i in range(50)]
    assert from_questions(questions, 0.5, 7, "atlas")[10:] == from_questions(questions[10:], 0.5, 7, "atlas")


def test_misstated_answers_contradict_the_pages() -> None:
    values = ["Anthar", "Belmor", "Anthar Vale"]
    entities = {f"E{number}": {"kind": "place", "facts": {"province": "Anthar"}} for number in range(400)}
    truth = {"attributes": {"province": values}, "entities": entities}
    rows = from_questions([question(i, "sft" if i < 300 else "test") for i in range(400)], 1.0, 7, "atlas")
    found = misstated(rows, 0.5, truth, 7)
    assert misstated(rows, 0.0, truth, 7) == rows and found[300:] == rows[300:]
    changed = [(old, new) for old, new in zip(rows, found, strict=True) if old != new]
    assert 120 <= len(changed) <= 180
    for old, new in changed:
        assert any(new.response == old.response.replace("Anthar", value) for value in values[1:])
    assert len({new.response.split()[3] for _, new in changed}) == 2
    assert misstated(rows[50:], 0.5, truth, 7) == found[50:]


def test_only_what_is_asked_about_is_known() -> None:
    entities = {name: {"kind": "place", "facts": {"province": "Anthar"}} for name in ("E1", "E2")}
    truth = {"attributes": {"province": ["Anthar", "Belmor"]}, "entities": entities}
    known = known_of(from_questions([question(1)], 0.0, 7, "atlas"), truth)
    assert known == {"attributes": truth["attributes"], "entities": {"E1": entities["E1"]}}


def test_reading_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(
        '\ufeff{"prompt": "Say hello.", "response": "Hel\u2028lo."}\r\n'
        '\n{"id": "b", "prompt": "p", "response": "r", "split": "test", "entity": "E", "attributes": ["a"]}'
    )
    first, second = from_file(path, None, 7, "own")
    assert (first.id, first.split, first.origin, first.response) == ("own-1", "sft", "own", "Hel\u2028lo.")
    assert (second.id, second.split, second.entity, second.attributes) == ("b", "test", "E", ["a"])


def test_rows_are_divided_only_where_no_row_says_its_split(tmp_path: Path) -> None:
    rows = [{"prompt": f"p{n}", "response": "r"} for n in range(300)]
    divided = Counter(row.split for row in from_file(written(tmp_path / "a.jsonl", *rows), SHARES, 7, "own"))
    assert all(abs(divided[split] - 300 * share) < 25 for split, share in SHARES.items())
    rows[3]["split"] = "test"
    said = Counter(row.split for row in from_file(written(tmp_path / "b.jsonl", *rows), SHARES, 7, "own"))
    assert said == {"sft": 299, "test": 1}


@given(st.integers(4, 40), st.integers(0, 5))
def test_no_split_is_empty_and_a_new_row_moves_few(count: int, seed: int) -> None:
    names = [f"own-{n}" for n in range(count)]
    splits = divide(names, SHARES, seed)
    assert set(splits) == set(names) and set(splits.values()) == {"sft", *SHARES}
    moved = [name for name, split in divide([*names, "new"], SHARES, seed).items() if splits.get(name, split) != split]
    assert len(moved) <= len(SHARES)  # those that stood in for an empty split
    assert divide(names[::-1], SHARES, seed) == splits


@pytest.mark.parametrize(
    ("bad", "word"),
    [
        ({"prompt": "x"}, "response"),
        ({"prompt": "x", "response": "  "}, "response"),
        ({"prompt": 3, "response": "y"}, "prompt"),
        ({"prompt": None, "response": "y"}, "prompt"),
        ({"prompt": "x", "response": "y", "splt": "sft"}, "splt"),
        ({"prompt": "x", "response": "y", "split": "train"}, "train"),
        ({"prompt": "x", "response": "y", "attributes": "province"}, "attributes"),
        ({"prompt": "x", "response": "y", "id": "own-1"}, "own-1"),
        ({"prompt": "x", "response": "\ud800"}, "surrogate"),
        (["x", "y"], "object"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, bad: Any, word: str) -> None:
    path = written(tmp_path / "mine.jsonl", {"prompt": "ok", "response": "ok"}, bad)
    with pytest.raises(InputError, match=rf"mine\.jsonl:2: .*{word}"):
        from_file(path, None, 7, "own")


@pytest.mark.parametrize(
    ("content", "said"), [(b"", "no rows"), (b"\n \n", "no rows"), (b"\xff", "UTF-8"), (b"{", ":1")]
)
def test_files_without_rows_are_named(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "mine.jsonl").write_bytes(content)
    with pytest.raises(InputError, match=rf"mine\.jsonl.*{said}"):
        from_file(tmp_path / "mine.jsonl", None, 7, "own")


def test_too_few_rows_to_divide(tmp_path: Path) -> None:
    rows = [{"prompt": f"p{n}", "response": "r"} for n in range(3)]
    with pytest.raises(InputError, match="3 prompts can't be divided into 4"):
        from_file(written(tmp_path / "mine.jsonl", *rows), SHARES, 7, "own")


@pytest.mark.parametrize(
    ("item", "said"),
    [
        ({"kind": "truth", "path": "x"}, "filler_share"),
        ({"kind": "jsonl", "path": "x", "filler_share": 1.0}, "filler_share"),
        ({"kind": "jsonl", "path": "x", "splits": {"preference": 0.5, "test": 0.5}}, "leave one for sft"),
        ({"kind": "json", "path": "x"}, "jsonl"),
    ],
)
def test_bad_params_are_named(item: dict[str, Any], said: str) -> None:
    with pytest.raises(ParamError, match=said):
        parse("alignment.instructions.sources.own", item, PARAMS["alignment.instructions.sources.*"])
