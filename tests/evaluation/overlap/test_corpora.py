"""Corpora of others: what is read of them, a piece at a time, and what is refused by file and line."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.base.errors import InputError
from stages.evaluation.overlap import corpora
from stages.evaluation.overlap.corpora import batches_of, corpus_files, read_corpus

DOCUMENTS = ["The first one.", "Ein zweites: Größe — 東京 \u2028 same line", "", "half \ud800 pair"]
READ = [*DOCUMENTS[:3], "half ? pair"]


def read(*names: str | Path, field: str = "text") -> list[dict]:
    seen: list[int] = []
    tables = list(read_corpus(corpus_files([str(name) for name in names]), field, seen.append))
    assert sum(seen) == sum(file.bytes for file in corpus_files([str(name) for name in names]))
    return [row for table in tables for row in table.to_pylist()]


def lines(**more: object) -> bytes:
    rows = [{"id": i, "text": text, "url": f"https://example.org/{i}"} | more for i, text in enumerate(DOCUMENTS)]
    return "\n\n".join(json.dumps(row) for row in rows).encode()


@pytest.mark.parametrize(
    ("name", "packed"),
    [
        ("a.jsonl", lambda content: content),
        ("a.jsonl.gz", gzip.compress),
        ("a.json.gz", lambda content: gzip.compress(content[:50]) + gzip.compress(content[50:])),
        ("a.jsonl.zst", zstandard.ZstdCompressor().compress),
        ("a.ndjson.zst", lambda c: zstandard.compress(c[:70]) + zstandard.compress(c[70:])),
    ],
)
def test_lines_of_json_packed_or_not(tmp_path: Path, name: str, packed) -> None:
    (tmp_path / name).write_bytes(packed(lines()))
    rows = read(tmp_path / name)
    assert [row["text"] for row in rows] == READ
    assert [(row["id"], row["url"]) for row in rows[1:2]] == [("1", "https://example.org/1")]
    assert rows[0]["source"] == name and all(row["offset"] == 0 for row in rows)


def test_a_document_without_a_text_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl"
    path.write_text('{"id": "a", "text": null}\n{"id": "b", "text": "words"}\n')
    tables = read_corpus(corpus_files([str(path)]), "text", lambda _: None)
    assert [row["id"] for table in tables for row in table.to_pylist()] == ["b"]


def test_a_url_in_the_metadata_and_another_field(tmp_path: Path) -> None:
    row = {"content": "text", "metadata": {"url": "https://example.org", "source": "web"}}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    (found,) = read(tmp_path / "a.jsonl", field="content")
    assert (found["id"], found["url"], found["source"]) == ("a.jsonl:1", "https://example.org", "web")


def test_parquet_and_text_and_folders_and_patterns(tmp_path: Path) -> None:
    table = pa.table({"text": ["one", None, "three"], "url": ["u1", "u2", None], "other": [1, 2, 3]})
    (tmp_path / "sub").mkdir()
    pq.write_table(table, tmp_path / "sub" / "b.parquet")
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo")
    (tmp_path / "sub" / "notes.pdf").write_bytes(b"%PDF")
    rows = read(tmp_path)
    assert [row["text"] for row in rows] == ["one\r\ntwo", "one", "three"]
    assert rows[1]["id"] == "b.parquet:0" and rows[1]["url"] == "u1"
    assert [row["text"] for row in read(f"{tmp_path}/**/*.parquet", tmp_path / "sub" / "b.parquet")] == ["one", "three"]


@settings(deadline=None)
@given(st.lists(st.text("ab é\n", max_size=60), max_size=6), st.integers(5, 20), st.integers(5, 40))
def test_pieces_make_the_document_and_part_no_word(texts: list[str], piece: int, batch: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpora, "PIECE", piece)
        patch.setattr(corpora, "BATCH_BYTES", batch)
        rows = [r for t in batches_of((str(i), "s", "", text) for i, text in enumerate(texts)) for r in t.to_pylist()]
    for number, text in enumerate(texts):
        pieces = [row for row in rows if row["id"] == str(number)]
        assert "".join(row["text"] for row in pieces) == text
        for row, following in zip(pieces, [*pieces[1:], None], strict=True):
            assert text.encode()[row["offset"] :].startswith(row["text"].encode())
            if following and max(map(len, text.split()), default=0) < piece - 1:
                assert row["text"][-1:].isspace() or following["text"][:1].isspace()


def test_a_long_text_file_is_one_document_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpora, "PIECE", 1000)
    text = " ".join(f"wört{i}" for i in range(2000))
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(text.encode()))
    rows = read(tmp_path / "a.txt.gz")
    assert len(rows) > 10 and "".join(row["text"] for row in rows) == text
    assert {row["id"] for row in rows} == {"a.txt.gz"}
    assert all(text.encode()[row["offset"] :].startswith(row["text"].encode()) for row in rows)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", b'{"text": "a"}\n{"text": 3}', "a.jsonl:2: no text in `text`.*--field"),
        ("a.jsonl", b'{"body": "a"}', "a.jsonl:1: no text in `text` .there is: body"),
        ("a.jsonl", b"[1, 2]", "a.jsonl:1: no text"),
        ("a.jsonl", b'{"text": "a"', "a.jsonl:1: not valid JSON"),
        ("a.jsonl", b'{"text": "\xe9"}', "a.jsonl:1: not UTF-8"),
        ("a.txt", b"caf\xe9", "a.txt: not UTF-8"),
        ("a.jsonl.gz", b"not packed", "a.jsonl.gz: can't be read"),
        ("a.jsonl.gz", gzip.compress(lines())[:-20], "a.jsonl.gz: can't be read"),
        ("a.jsonl.zst", b"not packed at all", "a.jsonl.zst: can't be read"),
        ("a.parquet", b"PAR1", "a.parquet: not a readable parquet"),
        ("a.pdf", b"%PDF", "not a corpus by its name"),
    ],
)
def test_what_cant_be_read_is_one_line(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=said):
        read(tmp_path / name)


def test_no_such_file_or_column(tmp_path: Path) -> None:
    pq.write_table(pa.table({"body": ["a"], "text": [1]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="column `text` is int64, no text"):
        read(tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"no column `txt` .there is: body, text"):
        read(tmp_path / "a.parquet", field="txt")
    with pytest.raises(InputError, match="no such file"):
        read(tmp_path / "*.jsonl")
