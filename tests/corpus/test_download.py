"""Downloads against a loopback server that serves ranges or none, breaks off, lies, is busy, or changes the file."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stages.base.errors import InputError
from stages.corpus.sources import download
from stages.corpus.sources.download import fetch, is_url

pytestmark = pytest.mark.timeout(120)
SIZE = 300_000
BODY = bytes(number * 7919 % 251 for number in range(SIZE))
OTHER = BODY[::-1]
DIGEST = hashlib.sha256(BODY).hexdigest()

# A process of its own: the parallel downloader holds the interpreter while it waits. A path is /<behaviour>/<name>;
# every request is a line of the log: [method, path, range].
SERVER = """
import json, re, sys, time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
SIZE = 300_000
BODY = bytes(number * 7919 % 251 for number in range(SIZE))
asked, log = Counter(), open(sys.argv[1], "a")

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.answer(False)

    def do_GET(self):
        self.answer(True)

    def answer(self, send):
        span = self.headers.get("Range")
        print(json.dumps([self.command, self.path, span]), file=log, flush=True)
        how = self.path.split("/")[1].split("+")
        asked[self.path] += send
        turn = asked[self.path]
        if "missing" in how:
            return self.reply(404, {}, b"", False)
        if send and ("always_busy" in how or "busy" in how and turn <= 2):
            return self.reply(503, {"Retry-After": "0"}, b"", False)
        if send and "reset" in how and turn == 1:
            return self.connection.shutdown(2)
        body, etag = BODY, '"one"'
        if "changes" in how and turn > 1:
            body, etag = BODY[::-1], '"two"'
        headers = {} if "anonymous" in how else {"ETag": etag}
        status = 200
        if "ranges" in how:
            headers["Accept-Ranges"] = "bytes"
            matches = self.headers.get("If-Range", etag) == etag
            found = re.fullmatch(r"bytes=(\\d+)-(\\d*)", span or "")
            if found and matches:
                first, last = int(found[1]), min(int(found[2] or SIZE - 1), SIZE - 1)
                if first >= SIZE:
                    return self.reply(416, {"Content-Range": f"bytes */{SIZE}"}, b"", False)
                headers["Content-Range"] = f"bytes {first}-{last}/{SIZE}"
                status, body = 206, body[first : last + 1]
        length = len(body)
        if "long" in how:
            length += 5000
        if "short" in how and send:
            length -= 5000
        if "slow" in how:
            self.slow = True
        cut = len(body)
        if send and ("always_breaks" in how or "breaks" in how and turn == 1):
            cut = 100_000 if "ranges" not in how or turn == 1 else 0
        self.reply(status, headers | {"Content-Length": str(length)}, body[:cut], send)

    def reply(self, status, headers, body, send):
        self.send_response(status)
        for name, value in ({"Content-Length": "0"} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if send and getattr(self, "slow", False):
            self.wfile.write(body[:150_000])
            self.wfile.flush()
            time.sleep(60)
        elif send:
            self.wfile.write(body[: int(headers["Content-Length"])])
        self.close_connection = True

    def log_message(self, *arguments):
        pass

server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
print(server.server_port, flush=True)
server.serve_forever()
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[tuple[str, Path]]:
    log = tmp_path_factory.mktemp("server") / "log"
    command = [sys.executable, "-c", SERVER, str(log)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}", log
        process.kill()


@pytest.fixture
def server(served, monkeypatch) -> str:
    served[1].write_text("")
    monkeypatch.setattr(download, "BACKOFF", 0.01)
    return served[0]


@pytest.fixture
def requests(served, server) -> Callable[[], list]:
    """What the server was asked since the test began."""
    return lambda: [json.loads(line) for line in served[1].read_text().splitlines()]


def gets(found: list) -> list:
    return [span for method, _, span in found if method == "GET"]


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")


def test_large_files_come_in_parallel_ranges(server, requests, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "PARALLEL_FROM", 0)
    monkeypatch.setattr(download, "CHUNK", 50_000)
    path = fetch(f"{server}/ranges/parallel.bin", DIGEST, tmp_path)
    assert path.read_bytes() == BODY and left(tmp_path) == ["parallel.bin"]
    assert len(set(gets(requests()))) >= SIZE // 50_000 and all(gets(requests()))


def test_parallel_ranges_of_a_file_that_changes_are_thrown_away(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "PARALLEL_FROM", 0)
    path = fetch(f"{server}/ranges+changes/mixed.bin", hashlib.sha256(OTHER).hexdigest(), tmp_path)
    assert path.read_bytes() == OTHER


def test_ranges_that_break_off_fall_back_to_a_stream(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "PARALLEL_FROM", 0)

    def fails(*arguments: object, **options: object) -> None:
        Path(str(arguments[1])).write_bytes(b"holes")
        raise RuntimeError("broken pipe")

    monkeypatch.setattr("hf_transfer.download", fails)
    assert fetch(f"{server}/ranges/fallback.bin", DIGEST, tmp_path).read_bytes() == BODY
    assert left(tmp_path) == ["fallback.bin"]


@pytest.mark.parametrize("how", ["none", "ranges", "anonymous"])
def test_small_files_come_as_one_stream_and_are_kept(server, requests, tmp_path, how):
    path = fetch(f"{server}/{how}/kept.bin", DIGEST, tmp_path)
    assert path.read_bytes() == BODY and gets(requests()) == [None]
    assert fetch(f"{server}/{how}/kept.bin", DIGEST, tmp_path) == path and len(gets(requests())) == 1


def test_what_lies_there_is_fetched_again_if_its_digest_is_another(server, tmp_path):
    url = f"{server}/none/stale.bin"
    path = fetch(url, None, tmp_path)
    path.write_bytes(b"old")
    assert fetch(url, None, tmp_path).read_bytes() == b"old"
    assert fetch(url, DIGEST, tmp_path).read_bytes() == BODY


@pytest.mark.parametrize(
    ("how", "spans"),
    [
        ("ranges+breaks", [None, "bytes=100000-"]),
        ("none+breaks", [None, "bytes=100000-"]),  # asked, refused: the whole file again
        ("ranges+breaks+anonymous", [None, None]),  # nothing to recognise the file by
        ("ranges+busy", [None, None, None]),
        ("ranges+reset", [None, None]),
    ],
)
def test_a_stream_that_breaks_off_goes_on(server, requests, tmp_path, how, spans):
    path = fetch(f"{server}/{how}/resumed.bin", DIGEST, tmp_path)
    assert path.read_bytes() == BODY and left(tmp_path) == ["resumed.bin"]
    assert gets(requests()) == spans


def test_a_file_that_changes_between_two_attempts_starts_again(server, requests, tmp_path):
    path = fetch(f"{server}/ranges+breaks+changes/changed.bin", hashlib.sha256(OTHER).hexdigest(), tmp_path)
    assert path.read_bytes() == OTHER
    assert gets(requests()) == [None, "bytes=100000-"]


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("missing", "404"),
        ("always_busy", "503"),
        ("ranges+always_breaks", "100,000"),
        ("none+always_breaks", "100,000"),
        ("none+long", "305000"),
        ("ranges+long", "305,?000"),
        ("none+short", "announced 300,000"),
    ],
)
def test_what_fails_for_good_is_named(server, tmp_path, how, words):
    url = f"{server}/{how}/failed.bin"
    with pytest.raises(InputError, match=words) as caught:
        fetch(url, None, tmp_path)
    assert url in str(caught.value) and "\n" not in str(caught.value)
    assert "failed.bin" not in left(tmp_path)


def test_a_wrong_digest_leaves_nothing(server, tmp_path):
    with pytest.raises(InputError, match="sha256"):
        fetch(f"{server}/ranges/wrong.bin", "0" * 64, tmp_path)
    assert left(tmp_path) == []
    with pytest.raises(InputError, match=r"127\.0\.0\.1:1/"):
        fetch("http://127.0.0.1:1/nobody.bin", None, tmp_path)


@pytest.mark.parametrize("how", ["ranges", "none"])
def test_a_killed_download_leaves_a_temporary_name_and_a_rerun_ends_it(served, server, requests, tmp_path, how):
    slow, url = f"{server}/{how}+slow/killed.bin", f"{server}/{how}/killed.bin"
    code = (
        "import sys, pathlib\nfrom stages.corpus.sources.download import fetch\n"
        "fetch(sys.argv[1], None, pathlib.Path(sys.argv[2]))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, slow, str(tmp_path)])
    end = time.monotonic() + 60
    while not any(path.stat().st_size for path in tmp_path.rglob("*.bin.partial")) and time.monotonic() < end:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert left(tmp_path) == [".killed.bin.partial", ".killed.bin.partial.json"]
    # The same bytes under the address that isn't slow.
    folder = next(path for path in tmp_path.iterdir() if path.is_dir())
    folder.rename(tmp_path / hashlib.sha256(url.encode()).hexdigest()[:16])
    assert fetch(url, DIGEST, tmp_path).read_bytes() == BODY and left(tmp_path) == ["killed.bin"]
    span = gets(requests())[-1]
    assert span is not None and int(span[len("bytes=") : -1]) > 0


def test_what_was_complete_before_it_was_renamed_isnt_fetched_again(server, requests, tmp_path):
    url = f"{server}/ranges/complete.bin"
    folder = tmp_path / hashlib.sha256(url.encode()).hexdigest()[:16]
    folder.mkdir()
    (folder / ".complete.bin.partial").write_bytes(BODY)
    notes = {"length": SIZE, "etag": '"one"', "modified": ""}
    (folder / ".complete.bin.partial.json").write_text(json.dumps(notes))
    assert fetch(url, DIGEST, tmp_path).read_bytes() == BODY
    assert gets(requests()) == [f"bytes={SIZE}-"]


def test_killed_while_a_new_version_begins_no_mixture_is_left(server, tmp_path, monkeypatch):
    """The old version's bytes are gone before anything says that they are the new one's."""

    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    url = f"{server}/ranges+breaks+changes/mixture.bin"
    with monkeypatch.context() as patch:
        patch.setattr(download, "ATTEMPTS", 1)
        with pytest.raises(InputError, match="100,000"):
            fetch(url, None, tmp_path)
        patch.setattr(download, "_store", killed)
        with pytest.raises(KeyboardInterrupt):
            fetch(url, None, tmp_path)
    assert fetch(url, None, tmp_path).read_bytes() == OTHER


@pytest.mark.parametrize("url", ["http://[bad/x.warc", "http://a/\n.warc", "http:///x", "http://a/\ud800"])
def test_what_is_no_address_is_named(tmp_path, url):
    with pytest.raises(InputError, match="not a web address") as caught:
        fetch(url, None, tmp_path)
    assert is_url(url) and str(caught.value).isprintable() and not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", [".lock", ".", "%C3%A4" * 200, "ä" * 200])
def test_files_of_any_name_are_fetched(server, tmp_path, name):
    url = f"{server}/ranges/{name}"
    assert fetch(url, DIGEST, tmp_path).read_bytes() == BODY == fetch(url, DIGEST, tmp_path).read_bytes()


def test_progress_of_a_download_has_bytes_and_time_left(capsys, monkeypatch):
    from stages.base.progress import Progress

    with Progress(200_000_000, "downloading a.gz", unit="bytes") as bar:
        bar._interval = 0.0
        time.sleep(0.02)
        bar.advance(50_000_000)
    shown = capsys.readouterr().err
    assert "downloading a.gz: 50.0/200.0 MB" in shown and "MB/s" in shown and "left" in shown
