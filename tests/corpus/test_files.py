"""Files as pages: charsets, names, links, and tables made to fill the memory."""

import bz2
import gzip
import hashlib
import json
import lzma
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from stages.base.compressed import open_compressed, read_lines
from stages.base.errors import InputError, ParamError
from stages.base.params import parse
from stages.corpus.source import Source
from stages.corpus.sources.files import SUFFIXES, read_file
from stages.corpus.sources.locations import files_at, read_addresses
from stages.corpus.sources.occurrences import Occurrences
from stages.corpus.sources.raw import Raw, is_empty, unwrap, wrap
from stages.corpus.sources.stores import copy, expand

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


COMPRESS = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstandard.compress}
ROWS = b"".join(b'{"text": "row %d %s"}\n' % (n, hashlib.sha256(b"%d" % n).hexdigest().encode()) for n in range(3000))

FIRST = ROWS.splitlines(keepends=True)[0]


@pytest.mark.parametrize("ending", COMPRESS)
def test_compressed_files_are_read_as_what_they_are(tmp_path, ending):
    contents = {"a.html": b"<p>hi", "b.txt": "größer".encode(), "c.md": b"# x", "d.jsonl": ROWS, "e.ndjson": FIRST}
    for name, content in contents.items():
        (tmp_path / f"{name}{ending}").write_bytes(COMPRESS[ending](content))
    (tmp_path / "f.json").write_text("{}")  # settings of a program, perhaps
    files = files_at(tmp_path, None, SUFFIXES)
    assert list(files.values()) == [f"{name}{ending}" for name in contents]
    raws = [raw for file, name in files.items() for raw in read_file(file, name, LIMIT)]
    assert len(raws) == 3 + 3000 + 1 and not any(raw.problem for raw in raws)
    assert [unwrap(raw.html) for raw in raws[:3]] == [None, "größer", "# x"]
    assert raws[4].where == f"d.jsonl{ending}:2" and unwrap(raws[4].html).startswith("row 1 ")


@pytest.mark.parametrize("ending", [ending for ending in COMPRESS if ending])
def test_a_compressed_file_that_is_cut_off_keeps_its_rows(tmp_path, ending):
    path = tmp_path / f"d.jsonl{ending}"
    packed = COMPRESS[ending](ROWS * 20)
    path.write_bytes(packed[: len(packed) * 3 // 4])
    found = read(path)
    assert [raw.problem for raw in found[-1:]] == ["damaged"] and str(tmp_path) not in found[-1].detail
    assert len(found) > 1000 and not any(raw.problem for raw in found[:-2])  # the last row may be cut
    with pytest.raises(InputError, match=r"damaged near byte"):
        list(read_lines(path, 10**6))


def test_zstd_frames_one_behind_the_other_are_one_file(tmp_path):
    path = tmp_path / "a.zst"
    path.write_bytes(b"".join(zstandard.compress(ROWS[start : start + 7000]) for start in range(0, len(ROWS), 7000)))
    with open_compressed(path) as handle:
        assert handle.read() == ROWS


@pytest.mark.parametrize("ending", [ending for ending in COMPRESS if ending])
def test_a_compressed_text_is_inflated_up_to_its_bound(tmp_path, ending):
    (tmp_path / f"a.txt{ending}").write_bytes(COMPRESS[ending](bytes(2**26)))
    assert [raw.problem for raw in read(tmp_path / f"a.txt{ending}")] == ["too_large"]


def test_a_text_that_stands_twice_in_a_row_is_damage(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"text": "a", "text": "b"}\n{"text": "a", "meta": {"x": 1, "x": 2}, "y": 1, "y": 2}\n'
        '{"text": "a", "url": "u", "url": "v"}\n'
    )
    found = read(path)
    assert [raw.problem for raw in found] == ["damaged", "", "damaged"]
    assert "`text` stands twice" in found[0].detail and "`url` stands twice" in found[2].detail


def test_what_can_not_be_seen_is_empty():
    for text in ("", " \n", "\u200b\u200d", "\0\0", "\ufeff\u00ad", "\u2060\u3164 \u2028\U000e0020", "\x1f\x7f"):
        assert is_empty(wrap(text)), ascii(text)
    for text in ("a", "\u200bx", "。", "\0.", "−"):
        assert not is_empty(wrap(text))
    assert is_empty(b" \0\n") and not is_empty(b"<p>\0")


def test_the_url_of_a_row_may_stand_in_its_metadata(tmp_path):
    path = tmp_path / "a.jsonl"
    rows = [{"metadata": {"url": "http://m/"}}, {"url": "http://u/", "meta": {"url": "http://m/"}}, {"meta": "url"}]
    path.write_text("".join(json.dumps(row | {"text": "x"}) + "\n" for row in rows))
    assert [raw.url for raw in read(path)] == ["http://m/", "http://u/", "file:///a.jsonl#3"]


@pytest.mark.parametrize("pattern", ["../*", "a/../../*.txt", "/etc/*"])
def test_a_pattern_stays_in_its_folder(tmp_path, pattern):
    (tmp_path / "in").mkdir()
    (tmp_path / "out.txt").write_text("secret")
    with pytest.raises(InputError, match="leads out of the folder"):
        files_at(tmp_path / "in", pattern, SUFFIXES)
    values = {"kind": "files", "path": "in", "pattern": pattern, "licence": "x", "max_damaged": 0}
    with pytest.raises(ParamError, match=r"mine\.pattern.*leads out of the folder"):
        parse("corpus.sources.mine", values, Source)


@pytest.mark.parametrize(("path", "told"), [("s3://a/b.warc.gz", "into a file NAME.paths"), ("a/*.gz", "no glob")])
def test_addresses_and_globs_are_told_where_they_go(path, told):
    for kind in ("files", "warc"):
        values = {"kind": kind, "path": path, "pattern": None, "licence": "x", "max_damaged": 0}
        with pytest.raises(ParamError, match=told):
            parse("corpus.sources.mine", values, Source)


def test_files_of_a_store_are_found_by_glob_and_copied_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = fsspec.filesystem("memory")
    for name in ("b.jsonl.gz", "a.jsonl.gz", "c.txt"):
        store.pipe(f"/crawl/{name}", gzip.compress(FIRST))
    assert expand("memory://crawl/*.gz") == ["memory://crawl/a.jsonl.gz", "memory://crawl/b.jsonl.gz"]
    digest = hashlib.sha256(gzip.compress(FIRST)).hexdigest()
    (tmp_path / "x.paths").write_text(f"memory://crawl/*.gz\nmemory://crawl/a.jsonl.gz {digest}\n")
    listed = read_addresses(tmp_path / "x.paths")
    assert [address.url[-10:] for address in listed] == ["a.jsonl.gz", "b.jsonl.gz", "a.jsonl.gz"]
    files = [copy(*address) for address in listed]
    assert files[0] == files[2] and len(read(files[0])) == 1
    store.rm("/crawl", recursive=True)
    assert copy(*listed[0]) == files[0]  # it is here
    for address, told in (("memory://crawl/x", "matches no file"), ("nope://a/b", "Protocol not known")):
        with pytest.raises(InputError, match=told):
            expand(address)
    with pytest.raises(InputError, match="expected 0000"):
        copy("memory://crawl/a.jsonl.gz", "0" * 64)
    (tmp_path / "own.jsonl").write_bytes(FIRST)
    assert copy(f"file://{tmp_path}/own.jsonl") == tmp_path / "own.jsonl"
    assert expand("s3://commoncrawl/crawl-data/x.warc.gz") == ["https://data.commoncrawl.org/crawl-data/x.warc.gz"]


def test_a_store_that_gives_less_than_it_says_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = fsspec.filesystem("memory")
    store.pipe("/short/a.jsonl", ROWS)
    monkeypatch.setattr(
        type(store), "info", lambda self, path, **options: {"size": 10**6, "type": "file", "name": path}
    )
    with pytest.raises(InputError, match=r"bytes came, the store says 1,000,000"):
        copy("memory://short/a.jsonl")
    assert not [path for path in (tmp_path / ".trainyard").rglob("*") if path.is_file()]
