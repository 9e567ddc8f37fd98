"""Who may ask: names, origins, tokens, sizes."""

import socket
from collections.abc import Callable

import httpx
import pytest

from stages.publishing.serve.guard import COOKIE, MOST_BYTES, is_loopback
from tests.publishing.serve.conftest import Start

TOKEN = "a-token-of-the-test"
Post = Callable[..., httpx.Response]


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "[::1", "1.2.3.4"])
def test_another_name_for_this_machine_is_refused(start: Start, post: Post, host: str) -> None:
    server = start()
    reply = post(server, "/api/arena/vote", {}, host=host)
    assert reply.status_code in (400, 403)  # uvicorn itself refuses some
    assert reply.status_code == 400 or reply.json()["error"]["code"] == "host"


def test_pages_of_other_sites_may_not_ask(start: Start, post: Post) -> None:
    server = start()
    body = {"model": "red", "prompt": "a", "max_tokens": 1}
    for origin in ("https://evil.example", "null", "http://localhost:1", server.url.replace("http:", "https:")):
        assert post(server, "/v1/completions", body, origin=origin).status_code == 403
    assert post(server, "/v1/completions", body, origin=server.url).status_code == 200
    form = httpx.post(f"{server.url}/v1/completions", content=b"{}", headers={"content-type": "text/plain"})
    assert form.status_code == 400 and "application/json" in form.json()["error"]["message"]


def test_a_body_has_a_size(start: Start) -> None:
    server = start()
    content = b" " * (MOST_BYTES + 1)
    headers = {"content-type": "application/json"}
    announced = httpx.post(f"{server.url}/v1/completions", content=content, headers=headers)
    in_parts = httpx.post(f"{server.url}/v1/completions", content=iter([content[:-5], content[-5:]]), headers=headers)
    for reply in (announced, in_parts):
        assert reply.status_code == 413 and reply.json()["error"]["code"] == "too_large"
    large = {"model": "red", "prompt": "x" * 1_000_000}
    assert httpx.post(f"{server.url}/v1/completions", json=large, timeout=60).status_code == 400  # too long a prompt


def test_beyond_loopback_everybody_shows_the_token(start: Start) -> None:
    server = start(token=TOKEN)
    elsewhere = {"host": "models.example:8000"}  # any name: a page of another site doesn't know the token
    with httpx.Client(base_url=server.url) as http:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Bearer é"}, {"cookie": f"{COOKIE}="}):
            sent = {name: value.encode() for name, value in (headers | elsewhere).items()}
            for path in ("/chat", "/v1/models", "/api.js", "/chat?token=no"):
                assert http.get(path, headers=sent).status_code == 401
        bearer = elsewhere | {"authorization": f"Bearer {TOKEN}"}
        assert http.get("/v1/models", headers=bearer).status_code == 200
        opened = http.get(f"/chat?token={TOKEN}")
        assert opened.status_code == 303 and opened.headers["location"] == "/chat"  # not in the history
        assert "HttpOnly" in opened.headers["set-cookie"] and "SameSite=strict" in opened.headers["set-cookie"]
        assert http.get("/chat").status_code == 200  # by the cookie


def test_no_page_runs_or_loads_anything_from_elsewhere(start: Start) -> None:
    server = start()
    for path in ("/chat", "/arena", "/annotate", "/compare", "/compare.js", "/api.js", "/nowhere", "/v1/models"):
        reply = httpx.get(server.url + path)
        policy = reply.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert "http://" not in reply.text and "https://" not in reply.text
        assert "innerHTML" not in reply.text and "<script>" not in reply.text
    assert httpx.get(f"{server.url}/../stages/cli.py").status_code == 404


def test_what_is_no_request_is_refused(start: Start) -> None:
    server = start()
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=10) as raw:
        raw.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n")
        assert raw.recv(100).split()[1] in (b"400", b"413")


def test_which_hosts_are_loopback() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.8.0.1", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.5", "example", "localhost.example")))
