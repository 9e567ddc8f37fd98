"""The client against a loopback server that fails in the ways servers do; the cache; the cost bound."""

import json
import math
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from stages.annotators.client import Pair, compare
from stages.base.errors import InputError, ParamError
from tests.annotators.judges import settings

PAIRS = [Pair(f"q{i}", f"Question {i}?", "short", "a longer answer") for i in range(40)]


class Judge(ThreadingHTTPServer):
    """Prefers the longer output; fails a share of first tries by the number of the question."""

    daemon_threads = True

    def __init__(self, broken: dict[int, int | str], text: str = "") -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.broken, self.text = broken, text
        self.tries: dict[int, int] = {}
        self.bodies: list[dict] = []
        self.lock = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    server: Judge

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        content = body["messages"][0]["content"]
        number = int(content.split("Question ")[1].split("?")[0])
        with self.server.lock:
            self.server.bodies.append(body)
            self.server.tries[number] = self.server.tries.get(number, 0) + 1
            first_try = self.server.tries[number] == 1
        failure = self.server.broken.get(number)
        if failure == "cut" and first_try:
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b'{"id": "x"')
            self.close_connection = True
            return
        if isinstance(failure, int) and first_try:
            self.answer(failure, {"error": {"message": "again"}})
            return
        label = "2" if content.index("a longer answer") > content.index("short") else "1"
        text = self.server.text or (f"<think>1 or 2</think> {label}" if failure == "thinks" else label)
        reply = {
            "id": "r",
            "object": "chat.completion",
            "model": "judge-2026-01",
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
            "usage": {"prompt_tokens": 100, "completion_tokens": 1, "total_tokens": 101},
        }
        self.answer(200, reply)

    def answer(self, status: int, reply: dict) -> None:
        data = json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if status == 429:
            self.send_header("Retry-After", "0.05")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def serve() -> Iterator:
    servers = []

    def start(broken: dict[int, int | str] | None = None, text: str = "") -> tuple[Judge, str]:
        server = Judge(broken or {}, text)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return server, f"http://127.0.0.1:{server.server_address[1]}/v1"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_failing_calls_are_retried_and_all_answered_once_and_a_rerun_pays_nothing(serve, capsys) -> None:
    broken: dict[int, int | str] = {1: 429, 5: 429, 9: 500, 13: "cut", 17: "thinks"}
    server, url = serve(broken)
    judge = settings(provider="openai", base_url=url)
    got = compare(PAIRS, judge, seed=1)
    assert [p.id for p in got] == [p.id for p in PAIRS]
    assert all(p.preference == 2.0 and p.error == "" and p.annotator == "judge-2026-01" for p in got), got
    assert all(count == (2 if broken.get(n) in (429, 500, "cut") else 1) for n, count in server.tries.items())
    assert "estimated $" in capsys.readouterr().err
    swaps = [
        b["messages"][0]["content"].index("short") < b["messages"][0]["content"].index("a longer")
        for b in server.bodies
    ]
    assert 0.2 < sum(swaps) / len(swaps) < 0.8
    before = len(server.bodies)
    assert compare(PAIRS, judge, seed=1) == got
    assert len(server.bodies) == before
    compare(PAIRS, judge.model_copy(update={"temperature": 0.5}), seed=1)
    assert len(server.bodies) == before + len(PAIRS), "another sampling parameter is another call"


def test_unparsable_replies_are_reported_by_row(serve) -> None:
    _, url = serve(text="Both are fine.")
    got = compare(PAIRS[:3], settings(provider="openai", base_url=url), seed=1)
    assert all(math.isnan(p.preference) and "neither 1 nor 2" in p.error for p in got)


def test_a_server_that_stays_down_gives_error_rows(serve) -> None:
    server, url = serve({2: 400})
    got = compare(PAIRS[:4], settings(provider="openai", base_url=url, max_retries=0), seed=1)
    assert [bool(p.error) for p in got] == [False, False, True, False]
    assert "BadRequestError" in got[2].error
    assert compare(PAIRS[:4], settings(provider="openai", base_url=url), seed=1)[2].preference == 2.0
    assert server.tries == {0: 1, 1: 1, 2: 2, 3: 1}, "what was paid for is kept"


def test_a_refusing_server_ends_the_run_with_a_remedy(serve) -> None:
    _, url = serve({0: 401})
    with pytest.raises(InputError, match="TRAINYARD_TEST_KEY"):
        compare(PAIRS[:1], settings(provider="openai", base_url=url), seed=1)


def test_the_cost_bound_holds_before_the_first_call(serve) -> None:
    server, url = serve()
    with pytest.raises(ParamError, match="max_cost_usd"):
        compare(PAIRS, settings(provider="openai", base_url=url, usd_per_million_input=1e6), seed=1)
    assert not server.bodies


def test_the_cache_lies_in_the_work_folder(serve, own_cache: Path) -> None:
    _, url = serve()
    compare(PAIRS[:1], settings(provider="openai", base_url=url), seed=1)
    assert (own_cache / ".trainyard" / "calls.sqlite").is_file()


def test_both_orders_cancel_a_judge_that_looks_at_the_place_only(serve) -> None:
    server, url = serve(text="1")
    got = compare(PAIRS[:3], settings(provider="openai", base_url=url, order="both"), seed=1)
    assert [(p.preference, p.a_first, p.b_first) for p in got] == [(1.5, 1.0, 2.0)] * 3
    assert len(server.bodies) == 6
    one = compare(PAIRS, settings(provider="openai", base_url=url), seed=1)
    assert {p.preference for p in one} == {1.0, 2.0} and all(
        math.isnan(p.a_first) != math.isnan(p.b_first) for p in one
    )


def test_a_pair_with_one_order_unanswered_has_no_preference(serve) -> None:
    _, url = serve({0: 400})  # of the two orders the one that comes first
    judge = settings(provider="openai", base_url=url, order="both", concurrency=1)
    (got,) = compare(PAIRS[:1], judge, seed=1)
    assert math.isnan(got.preference) and "BadRequestError" in got.error
    assert math.isnan(got.a_first) != math.isnan(got.b_first), "what was said is kept beside it"


def test_replies_are_billed_by_the_servers_counts_also_out_of_the_cache(serve) -> None:
    _, url = serve()
    judge = settings(provider="openai", base_url=url, usd_per_million_input=2.0, usd_per_million_output=4.0)
    first = compare(PAIRS[:2], judge, seed=1)
    assert [p.usd for p in first] == [pytest.approx((100 * 2 + 1 * 4) / 1e6)] * 2
    assert compare(PAIRS[:2], judge, seed=1) == first and first[0].seconds > 0 and not first[0].weighted
