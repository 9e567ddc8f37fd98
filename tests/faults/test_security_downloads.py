"""What a server may do to who downloads from it: not lead inside, not fill the disk, not hold up for ever."""

import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import pytest

from stages.base.errors import InputError, ResourceError
from stages.corpus.sources import download, web_request
from stages.corpus.sources.download import fetch

asked: list[str] = []


class Handler(BaseHTTPRequestHandler):
    """/to/ADDRESS leads there; /loop/ to itself; /endless/ and /drip/ have no announced length."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        kind, _, rest = self.path[1:].partition("/")
        asked.append(f"{self.command} {self.path}")
        if kind in ("to", "loop"):
            self.send_response(302)
            self.send_header("Location", unquote(rest) if kind == "to" else self.path)
            self.end_headers()
            return
        self.send_response(200)
        if kind == "file":
            self.send_header("Content-Length", "2")
        self.end_headers()
        if self.command == "HEAD":
            return
        try:
            if kind == "file":
                self.wfile.write(b"ok")
            stop = threading.Event()
            for _ in range(400 if kind in ("endless", "drip") else 0):
                self.wfile.write(b"x" * (1 << 20 if kind == "endless" else 1))
                stop.wait(0.02 if kind == "drip" else 0)
        except OSError:  # the client has hung up
            pass

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as served:
        served.daemon_threads = True
        thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{served.server_port}"
        served.shutdown()
        thread.join()


@pytest.mark.parametrize(
    "target",
    [
        "http://localhost:{port}/file/secret",
        "http://127.0.0.2:{port}/file/secret",
        "http://2130706434:{port}/file/secret",  # 127.0.0.2 as one number
        "http://[::1]:{port}/file/secret",
        "http://[::ffff:127.0.0.2]:{port}/file/secret",
        "http://0.0.0.0:{port}/file/secret",
        "http://169.254.169.254/latest/meta-data/",  # where clouds keep a machine's keys
        "http://10.0.0.1/file/secret",
        "http://[fd00::1]/file/secret",
        "http://[fe80::1%25eth0]/file/secret",
        "http://224.0.0.1/file/secret",
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "gopher://127.0.0.1/x",
    ],
)
def test_no_redirect_leads_inside(server: str, target: str, tmp_path: Path) -> None:
    port = server.rpartition(":")[2]
    address = target.format(port=port)
    with pytest.raises(InputError) as caught:
        fetch(f"{server}/to/{address}", folder=tmp_path / "d")
    assert "\n" not in str(caught.value) and str(caught.value).startswith(server)
    assert not any("secret" in line and "/to/" not in line for line in asked), "nothing was asked for there"
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_redirects_on_the_same_host_are_followed_and_end(server: str, tmp_path: Path) -> None:
    assert fetch(f"{server}/to/{server}/to//file/a", folder=tmp_path).read_bytes() == b"ok"
    with pytest.raises(InputError, match="more than 10 redirects"):
        fetch(f"{server}/loop/a", folder=tmp_path)
    assert len(asked) < 30


def resolving(answers: dict[str, list[str]]) -> Callable[..., Any]:
    """getaddrinfo that gives a name's addresses in turn, the last one for ever."""
    real = socket.getaddrinfo

    def found(host: str, port: Any, *rest: Any, **more: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name in answers:
            host = answers[name].pop(0) if len(answers[name]) > 1 else answers[name][0]
        return real(host, port, *rest, **more)

    return found


def test_a_name_that_resolves_inside_is_refused(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = server.rpartition(":")[2]
    monkeypatch.setattr(socket, "getaddrinfo", resolving({"inside.example": ["127.0.0.1"]}))
    with pytest.raises(InputError, match=r"leads to http://inside\.example:\d+, no public address \(127\.0\.0\.1\)"):
        fetch(f"{server}/to/http://inside.example:{port}/file/secret", folder=tmp_path)
    assert len(asked) == 1


def test_a_name_that_is_bound_anew_gives_nothing(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = server.rpartition(":")[2]
    monkeypatch.setattr(socket, "getaddrinfo", resolving({"re.example": ["93.184.215.14", "127.0.0.1"]}))
    monkeypatch.setattr(web_request, "getproxies", dict)
    with pytest.raises(InputError, match="no public address"):
        fetch(f"{server}/to/http://re.example:{port}/file/secret", folder=tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_https_leads_to_https_only() -> None:
    for target in ("http://example.com/x", "ftp://example.com/x"):
        with pytest.raises(InputError, match="no https address"):
            web_request._led_to("https://example.com/", httpx.URL(target))


def test_a_stream_without_an_end_is_cut(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "LARGEST", 20 << 20)
    with pytest.raises(InputError, match="without an end"):
        fetch(f"{server}/endless/a", folder=tmp_path)
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < 64 << 20


def test_a_disk_that_would_fill_up_is_told_before(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "LEAST_FREE", 1 << 60)
    with pytest.raises(ResourceError, match=r"MiB are free for .* free some space"):
        fetch(f"{server}/file/a", folder=tmp_path)


def test_a_drip_ends(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "WINDOW", 0.3)
    with pytest.raises(InputError, match=r"bytes came in 0 s; fetch it otherwise"):
        fetch(f"{server}/drip/a", folder=tmp_path)
