"""Files as pages: charsets, names, links, and tables made to fill the memory."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.base.errors import InputError
from stages.corpus.sources.files import SUFFIXES, read_file
from stages.corpus.sources.locations import files_at
from stages.corpus.sources.occurrences import Occurrences
from stages.corpus.sources.raw import Raw, unwrap

LIMIT = 1_000_000
# Prints the problems of a table and the MiB that reading it took at most.
READER = """
import json, resource, sys
from collections import Counter
from pathlib import Path
from stages.corpus.sources.files import read_file
path = Path(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
problems = Counter(raw.problem for raw in read_file(path, path.name, 1_000_000))
print(json.dumps([problems, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024]))
"""


def read(path: Path, limit: int = LIMIT) -> list[Raw]:
    return list(read_file(path, path.name, limit))


@pytest.mark.parametrize(
    ("rows", "options"),
    [
        (64, {"use_dictionary": False}),  # one page of the file, inflated 30,000-fold
        (64, {}),  # a dictionary of one text
        (4, {"use_dictionary": False, "compression": "none"}),
    ],
    ids=["page", "dictionary", "plain"],
)
def test_a_table_never_fills_the_memory(tmp_path, rows, options):
    path = tmp_path / "bomb.parquet"
    pq.write_table(pa.table({"text": ["a" * 10_000_000] * rows}), path, **({"compression": "zstd"} | options))
    problems, grown = json.loads(subprocess.check_output([sys.executable, "-c", READER, str(path)], text=True))
    assert problems == {"too_large": rows} and grown < 200


def test_what_is_too_large_costs_its_row(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["one", "x" * 2000, "three"], "url": ["http://u/", "v", None]}), path)
    found = read(path, 1000)
    assert [(raw.url, raw.problem) for raw in found] == [
        ("http://u/", ""), ("file:///a.parquet#2", "too_large"), ("file:///a.parquet#3", ""),
    ]  # fmt: skip
    assert found[1].where == "a.parquet:2" and "2,000" in found[1].detail


def no_utf8(*texts: bytes) -> pa.StringArray:
    binary = pa.array(texts, pa.binary())
    return pa.StringArray.from_buffers(len(texts), *binary.buffers()[1:])


def test_bytes_that_are_not_utf8_are_replaced_and_remarked(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": no_utf8(b"caf\xe9", b"a\0", b"fine"), "url": no_utf8(b"a", b"b", b"\xff")}), path)
    found = read(path)
    assert [unwrap(raw.html) for raw in found] == ["caf\ufffd", "a\0", "fine"]
    assert [raw.remarks for raw in found] == [("wrong_charset",), ("nul_bytes",), ("wrong_charset",)]
    assert [raw.url for raw in found] == ["a", "b", "\ufffd"]
    lines = tmp_path / "a.jsonl"
    lines.write_bytes(b'\xef\xbb\xbf{"text": "one"}\n{"text": "caf\xe9"}\n{"html": "<p>a\\u0000"}\n')
    found = read(lines)
    assert [raw.problem for raw in found] == [""] * 3 and unwrap(found[0].html) == "one"
    assert [raw.remarks for raw in found] == [(), ("wrong_charset",), ("nul_bytes",)]


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["<p>1", None]), pa.array(["<p>1", None], pa.large_string()), pa.array([b"<p>1", None]),
        pa.array(["<p>1", None], pa.string_view()), pa.array(["<p>1", None]).dictionary_encode(),
    ],
    ids=lambda column: str(column.type),
)  # fmt: skip
def test_text_of_every_layout_is_read(tmp_path, column):
    pq.write_table(pa.table({"html": column, "text": ["x", "two"]}), tmp_path / "a.parquet")
    found = read(tmp_path / "a.parquet")
    assert found[0].html == b"<p>1" and unwrap(found[1].html) == "two" and not found[0].remarks


@pytest.mark.parametrize("column", [[["x"]], [1]])
def test_a_table_without_text_is_named(tmp_path, column):
    pq.write_table(pa.table({"text": column}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"a\.parquet.*html, text, content"):
        read(tmp_path / "a.parquet")


def test_links_that_lead_in_circles_are_read_once(tmp_path):
    (tmp_path / "z.html").write_text("<p>")
    (tmp_path / "again").symlink_to(tmp_path)
    assert files_at(tmp_path, None, SUFFIXES) == {tmp_path / "z.html": "z.html"}


def test_a_name_that_no_url_can_hold_is_an_error(tmp_path):
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.html")).write_text("<p>")
    with pytest.raises(InputError, match=r"caf.*isn't UTF-8") as caught:
        files_at(tmp_path, "*", SUFFIXES)
    assert str(caught.value).isprintable()


def test_occurrences_count_as_a_counter_does():
    urls = [f"http://a/{number * 7919 % 5003 % (number + 1)}" for number in range(20_000)] + ["\ud800", "?"]
    counted, expected = Occurrences(), Counter()
    for url in urls:
        assert counted.earlier(url) == expected[url]
        expected[url] += 1
