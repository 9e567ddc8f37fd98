"""Instructions: nothing lost, filler only where the knob put it, files of one's own checked line by line."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.alignment.instructions import PARAMS, divide, from_file, known_of
from stages.base.errors import InputError, ParamError
from stages.base.params import parse

SHARES = {"preference": 0.2, "validation": 0.1, "test": 0.2}


def written(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_only_what_is_asked_about_is_known() -> None:
    entities = {name: {"kind": "place", "facts": {"province": "Anthar"}} for name in ("E1", "E2")}
    truth = {"attributes": {"province": ["Anthar", "Belmor"]}, "entities": entities}
    known = known_of([{"entity": "E1"}], truth)
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
