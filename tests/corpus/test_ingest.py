"""ingest: hand-made WARC records, files of every kind, a local server, and ids that survive repeated URLs."""

import gzip
import hashlib
import json
import subprocess
import sys
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.base.errors import DataLossError, InputError, ParamError
from stages.base.params import parse
from stages.corpus import download
from stages.corpus.download import fetch
from stages.corpus.files_source import matches, read_file
from stages.corpus.hub import read_hub
from stages.corpus.ingest import IngestParams, Raw, WarcSource, _read_warcs, collect
from stages.corpus.plain import unwrap
from stages.corpus.warc import read_warc


def record(url: str, body: bytes, status: str = "200 OK", kind: str = "text/html; charset=iso-8859-1") -> bytes:
    http = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    head = (
        f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: {url}\r\nWARC-Date: 2024-01-01T00:00:00Z\r\n"
        f"WARC-Record-ID: <urn:uuid:1>\r\nContent-Type: application/http; msgtype=response\r\n"
        f"Content-Length: {len(http)}\r\n\r\n"
    )
    return head.encode() + http + b"\r\n\r\n"


NOISE = " ".join(hashlib.sha256(str(n).encode()).hexdigest() for n in range(12)).encode()  # gzip can't shrink it much
GOOD = [record(f"http://a/{n}", b"<html><p>caf\xe9 word " + NOISE + b"</p></html>") for n in range(3)]


def ignore(count: int, **values: float) -> None:
    pass


@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_warc_bodies_come_without_headers_and_in_utf8(tmp_path, compress):
    path = tmp_path / "a.warc"
    others = [record("http://a/404", b"gone", "404 Not Found"), record("http://a/img", b"\x89PNG", kind="image/png")]
    path.write_bytes(b"".join(compress(r) for r in GOOD + others))
    responses = list(read_warc(path))
    assert [r.problem for r in responses] == ["", "", "", "http_status", "not_html"]
    assert responses[0].body.startswith("<html><p>café word".encode()) and responses[0].url == "http://a/0"


@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("cut", [20, 120, 300, 550])
def test_a_truncated_warc_is_seen_and_bounded(tmp_path, compress, cut):
    path = tmp_path / "a.warc"
    path.write_bytes(b"".join(compress(r) for r in GOOD)[:-cut])
    responses = list(read_warc(path))
    assert [r.problem for r in responses[:2]] == ["", ""] and responses[-1].problem == "truncated"
    assert responses[-1].offset > 0
    run = SimpleNamespace(input=lambda p: p, note=lambda key, value: None)
    source = WarcSource(kind="warc", paths=[str(path)], sha256={}, licence="x", max_truncated=0)
    with pytest.raises(DataLossError, match=r"a\.warc@\d+"):
        list(_read_warcs(source, run))
    assert len(list(_read_warcs(source.model_copy(update={"max_truncated": 1}), run))) >= 3


@pytest.mark.parametrize("content", [b"", b"this is no archive at all\n" * 50])
def test_what_is_no_warc_is_named(tmp_path, content):
    path = tmp_path / "fake.warc"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"fake\.warc"):
        list(read_warc(path))


def test_files_of_every_kind_in_sorted_order(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "b.html").write_bytes(b"<p>hi</p>")
    (tmp_path / "sub/a.txt").write_text("plain <b>text</b>")
    lines = [json.dumps({"text": "one", "url": "http://x/1"}), "", json.dumps({"html": "<p>2"})]
    (tmp_path / "c.jsonl").write_text("\n".join(lines))
    pq.write_table(pa.table({"content": ["three"], "extra": [1]}), tmp_path / "d.parquet")
    files = matches([str(tmp_path / "**"), str(tmp_path / "*.html")])
    assert [f.name for f in files] == ["b.html", "c.jsonl", "d.parquet", "a.txt"]
    pages = [page for f in files for page in read_file(f, f.relative_to(tmp_path).as_posix())]
    assert [url for url, _ in pages] == [
        "file:///b.html", "http://x/1", "file:///c.jsonl#3", "file:///d.parquet#1", "file:///sub/a.txt",
    ]  # fmt: skip
    assert [unwrap(page) for _, page in pages] == [None, "one", None, "three", "plain <b>text</b>"]


def test_bad_files_are_named_with_their_line(tmp_path):
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"text": "a"}\n{"text": \n')
    with pytest.raises(InputError, match=r"bad\.jsonl:2"):
        list(read_file(bad, "bad.jsonl"))
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(InputError, match=r"bad\.parquet"):
        list(read_file(tmp_path / "bad.parquet", "bad.parquet"))
    with pytest.raises(InputError, match="no file matches"):
        matches([str(tmp_path / "*.nothing")])


def test_ids_follow_the_contract_and_drops_have_reasons():
    raws = [Raw("u", b"<p>1", "CC0-1.0"), Raw("u", b"<p>2", "CC0-1.0"), Raw("v", b" \n", "x"), Raw("w", b"x" * 99, "x")]
    pages, drops = collect({"s": iter(raws)}, 50, ignore)
    expected = [hashlib.sha256(f"s\x1fu\x1f{n}".encode()).hexdigest()[:16] for n in (0, 1)]
    assert pages["id"].to_pylist() == expected
    assert drops["reason"].to_pylist() == ["empty", "too_large"]


def test_a_source_without_pages_is_an_error():
    with pytest.raises(InputError, match="source `s`"):
        collect({"s": iter([Raw("v", b"", "x")])}, 50, ignore)


@pytest.mark.parametrize(
    "source",
    [{"kind": "wrac", "paths": ["x"]}, {"kind": "files", "paths": [], "licence": "x"}, {"kind": "parquet", "pth": "x"}],
)
def test_bad_params_are_refused(source):
    with pytest.raises(ParamError, match=r"corpus\.ingest\.sources"):
        parse("corpus.ingest", {"sources": {"mine": source}, "max_page_bytes": 1, "max_drop": 0.1}, IngestParams)


def test_hub_rows_are_streamed_up_to_the_limit(monkeypatch):
    rows = ({"body": f"text {n}"} for n in range(10**9))
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=lambda *a, **k: rows))
    pages = list(read_hub("some/set", None, "train", None, "body", 3))
    assert [unwrap(page) for _, page in pages] == ["text 0", "text 1", "text 2"]
    with pytest.raises(InputError, match="no text in `other`"):
        list(read_hub("some/set", None, "train", None, "other", 3))


SERVER = """
import re, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
BODY = b"payload" * 1000
class Handler(BaseHTTPRequestHandler):
    def answer(self, send):
        span = re.match(r"bytes=(\\d+)-(\\d*)", self.headers.get("Range") or "")
        body = BODY[int(span[1]) : int(span[2] or len(BODY)) + 1] if span else BODY
        self.send_response(404 if "missing" in self.path else 206 if span else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Accept-Ranges", "bytes")
        if span:
            self.send_header("Content-Range", f"bytes {span[1]}-{int(span[1]) + len(body) - 1}/{len(BODY)}")
        self.end_headers()
        if send:
            self.wfile.write(body)
    def do_GET(self):
        self.answer(True)
    def do_HEAD(self):
        self.answer(False)
server = HTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""


@pytest.fixture(scope="module")
def server():
    """A process of its own: the parallel downloader holds the interpreter while it waits."""
    command = [sys.executable, "-c", SERVER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        process.kill()


@pytest.mark.timeout(30)
@pytest.mark.parametrize("parallel_from", [0, 10**9], ids=["ranges", "stream"])
def test_downloads_are_checked_and_kept(server, tmp_path, monkeypatch, parallel_from):
    monkeypatch.setattr(download, "PARALLEL_FROM", parallel_from)
    body = b"payload" * 1000
    with pytest.raises(InputError, match="sha256"):
        fetch(f"{server}/a.bin", "0" * 64, tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    path = fetch(f"{server}/a.bin", hashlib.sha256(body).hexdigest(), tmp_path)
    assert path.read_bytes() == body
    monkeypatch.setattr(download, "_stream", None)  # what lies there is not fetched again
    monkeypatch.setattr(download, "_ranges", None)
    assert fetch(f"{server}/a.bin", None, tmp_path) == path


@pytest.mark.timeout(30)
def test_a_failed_download_is_named(server, tmp_path):
    with pytest.raises(InputError, match="missing"):
        fetch(f"{server}/missing", None, tmp_path)
