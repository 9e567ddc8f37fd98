"""JSON Lines: where a line ends, and what a file that is none says."""

import bz2
import gzip
import json
import lzma
from pathlib import Path

import pytest
import zstandard

from stages.base.errors import InputError
from stages.base.files import json_lines, read_jsonl, write_jsonl

ROWS = [{"text": f"one{mark}two"} for mark in ("\u2028", "\u2029", "\u0085", "\x0b", "\x0c", "\x1c", "\r", "\n")]


def test_lines_end_at_newlines_only(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, ROWS)
    assert read_jsonl(path) == ROWS
    path.write_text("\ufeff" + "\r\n\r\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS), newline="")
    assert list(json_lines(path)) == [(1 + 2 * number, row) for number, row in enumerate(ROWS)]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"a": 1}\n{"text": "caf\xe9"}\n', r"rows.jsonl:2: not a readable UTF-8 file \(byte 0xe9, as in Latin-1\)"),
        (b"{}\n{\n", "rows.jsonl:2: not valid JSON"),
        (b"[" * 100_000, "rows.jsonl:1: not valid JSON"),
        (None, "not found"),
    ],
)
def test_what_is_no_such_file_is_named_in_one_line(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "rows.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=said) as ended:
        read_jsonl(path)
    assert "\n" not in str(ended.value)


PACKED = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstandard.compress}


@pytest.mark.parametrize("ending", PACKED)
def test_compressed_lines_are_lines_and_damage_is_one_line(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"rows.jsonl{ending}"
    content = "\ufeff".encode() + b"".join(json.dumps(row).encode() + b"\n" for row in ROWS * 50)
    path.write_bytes(PACKED[ending](content[:1000]) + PACKED[ending](content[1000:]))
    assert read_jsonl(path) == ROWS * 50
    for damaged in (PACKED[ending](content)[:-9], content):  # cut off, and not compressed
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=f"rows.jsonl{ending}: damaged near byte") as ended:
            read_jsonl(path)
        assert "\n" not in str(ended.value)
