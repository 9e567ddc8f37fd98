"""A server on the loopback that speaks as vLLM, llama.cpp, a chat-only gateway or an old one does."""

import json
import math
import sqlite3
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from stages.base.errors import InputError, ParamError
from stages.evaluation.protocols.protocol import Setting
from stages.evaluation.protocols.registry import PROTOCOLS
from stages.evaluation.run import ABSENT, TOO_LONG, ask
from stages.evaluation.scoring.encoding import Pair
from stages.evaluation.scoring.local import LocalEngine
from stages.evaluation.scoring.requests import Choices, Generate, Unanswered
from stages.evaluation.scoring.server import ServerEngine, _letters, _numbers, server_settings
from stages.evaluation.tasks.item import Item
from stages.lm.scoring import continuation_logprobs

SECRET = "sk-very-secret-key"


def tokens_of(text: str) -> list[str]:
    """Words with the space before them, long ones in two pieces."""
    found: list[str] = []
    for place, word in enumerate(text.split(" ")):
        piece = word if place == 0 else f" {word}"
        found += [piece[:6], piece[6:]] if len(piece) > 6 else [piece]
    return [piece for piece in found if piece]


def logprob(token: str) -> float:
    return -0.25 * len(token) - 0.125


def echoed(engine: LocalEngine, prompt: str) -> dict:
    """A prompt with what the model's tokenizer puts before it, no log-probability of the first token, and one generated
    token behind."""
    ids = [*engine.encoder.before, *engine.tokenizer.encode(prompt)]
    ((values, _),) = continuation_logprobs(engine.model, [Pair(ids[:1], ids[1:])], "echo")
    texts = [*(engine.tokenizer.decode([token]) for token in ids), " end"]
    numbers = [None, *values.tolist(), -1.0]
    tops = [None if number is None else {text: number} for text, number in zip(texts, numbers, strict=True)]
    logprobs = {"tokens": texts, "token_logprobs": numbers, "top_logprobs": tops,
                "text_offset": [len(engine.tokenizer.decode(ids[:place])) for place in range(len(texts))]}  # fmt: skip
    choice = {"index": 0, "text": prompt + " end", "logprobs": logprobs, "finish_reason": "length"}
    return {"choices": [choice], "usage": {"prompt_tokens": len(ids), "completion_tokens": 1}}


SENSELESS = {"html": (200, b"<html>hi</html>"), "list": (200, b"[1, 2]"), "boom": (500, b'{"error": "boom"}')}


class Fake(ThreadingHTTPServer):
    """kind: vllm (echo), vllm_bos (with a BOS in the echo), bytes (tokens that are no text), llamacpp (likeliest tokens
    without echo), chat (chat with likeliest tokens), plain (chat alone, logprobs ignored), refusing (no key fits), one
    of SENSELESS, or a number, which is then each token's log-probability."""

    def __init__(self, kind: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.kind, self.asked = kind, []
        self.engine: LocalEngine | None = None  # whose log-probabilities are echoed
        self.url = f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Fake

    def log_message(self, *_: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, body))
        status, reply = self.reply(self.server.kind, self.path.removeprefix("/v1"), body)
        data = json.dumps(reply).encode()
        if self.server.kind in SENSELESS:
            status, data = SENSELESS[self.server.kind]
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def reply(self, kind: str, path: str, body: dict) -> tuple[int, dict]:
        if kind == "refusing":
            return 401, {"error": {"message": f"Incorrect API key provided: {self.headers['Authorization']}"}}
        if path == "/completions" and kind not in ("chat", "plain"):
            return self.completion(kind, body)
        if path == "/chat/completions" and kind in ("chat", "plain"):
            return self.chat(kind, body)
        return 404, {"error": {"message": "Not Found"}}

    def completion(self, kind: str, body: dict) -> tuple[int, dict]:
        prompt = body["prompt"]
        if self.server.engine is not None:
            return 200, echoed(self.server.engine, prompt)
        if len(prompt) > 2000:
            return 400, {"error": {"message": "This model's maximum context length is 500 tokens."}}
        if not body.get("echo") or kind == "llamacpp":
            text = " Paris\n\nQuestion" if body["max_tokens"] > 1 else " B"
            choice: dict[str, Any] = {"index": 0, "text": text, "finish_reason": "length"}
            if body.get("logprobs"):
                top = {" B": -0.5, " C": -1.5, "The": -2.0}
                choice["logprobs"] = {"tokens": [" B"], "token_logprobs": [-0.5], "top_logprobs": [top]}
            return 200, {"model": "fake", "choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 1}}
        tokens = [*tokens_of(prompt), " next"]
        values: list[float | None] = [None, *map(logprob, tokens[1:])]
        if kind == "vllm_bos":
            tokens, values = ["<s>", *tokens], [None, logprob(tokens[0]), *values[1:]]
        if kind[-1].isdecimal() and "capital of France" not in prompt:
            values = [None, *[float(kind)] * (len(tokens) - 1)]
        tops = [None if value is None else {token: value, "x": value + (0.5 if len(token) > 4 else -0.5)}
                for token, value in zip(tokens, values, strict=True)]  # fmt: skip
        offsets = [sum(map(len, tokens[:place])) for place in range(len(tokens))]
        if kind == "bytes":
            tokens = [f"bytes:{token.encode().hex()}" for token in tokens]
        logprobs = {"tokens": tokens, "token_logprobs": values, "top_logprobs": tops, "text_offset": offsets}
        choice = {"index": 0, "text": prompt + " next", "logprobs": logprobs, "finish_reason": "length"}
        return 200, {"model": "fake", "choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 1}}

    def chat(self, kind: str, body: dict) -> tuple[int, dict]:
        choice: dict[str, Any] = {"message": {"role": "assistant", "content": "B"}, "finish_reason": "stop"}
        if kind == "chat" and body.get("top_logprobs"):
            if body["top_logprobs"] > 5:
                return 400, {"error": {"message": "Invalid value for top_logprobs: 20 greater than max 5",
                                       "param": "top_logprobs"}}  # fmt: skip
            top = [{"token": "B", "logprob": -0.1}, {"token": "A", "logprob": -2.5}, {"token": "Hm", "logprob": -4.0}]
            choice["logprobs"] = {"content": [{"token": "B", "logprob": -0.1, "top_logprobs": top}]}
        return 200, {"model": "fake", "choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 1}}


@pytest.fixture
def serve() -> Iterator[Any]:
    servers: list[Fake] = []

    def start(kind: str) -> Fake:
        servers.append(Fake(kind))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return servers[-1]

    yield start
    for one in servers:
        one.shutdown()
        one.server_close()


def engine(server: Fake, tmp_path: Path) -> ServerEngine:
    return ServerEngine(server_settings(server.url, "fake"), tmp_path / "calls.sqlite")


ITEM = Item("i", "facts", "rivers", "test", "Which river is old?", choices=("Anthar", "Belmont on sea"), answer=1)


@pytest.mark.parametrize("kind", ["vllm", "vllm_bos", "bytes"])
def test_echoed_prompts_give_each_continuations_log_likelihood(kind: str, serve, tmp_path: Path) -> None:
    asked = Choices(("Question: one\nAnswer:",), (" no", " Belmont on the sea"))
    (found,) = engine(serve(kind), tmp_path).likelihoods([asked], "refuse")
    for likelihood, continuation in zip(found, asked.continuations, strict=True):
        own = tokens_of(f"x{continuation}")[1:]
        assert likelihood.nats == pytest.approx(sum(map(logprob, own))) and likelihood.tokens == len(own)
    assert (found[0].greedy, found[1].greedy) == (True, False)


def test_a_server_of_our_model_gives_what_the_model_gives(serve, tmp_path: Path, tokenizer, model) -> None:
    local = LocalEngine(model, tokenizer, "local")
    server = serve("vllm")
    server.engine = local
    items = [
        ITEM,
        Item("j", "f", "rivers", "test", "Où coule la rivière ?", choices=("à l’est", "ouest", "nulle part"), answer=0),
        Item("k", "f", "halls", "test", "Which is old?", choices=("Anthar", "copper, salt and glass"), answer=1),
    ]
    for name in ("original", "cloze", "harness"):
        own, theirs = (
            ask(one, items, lambda _: items[:1], PROTOCOLS[name], Setting())
            for one in (local, engine(server, tmp_path / name))
        )
        for mine, its in zip(own, theirs, strict=True):
            nats = [[one.nats for one in row.likelihoods] for row in (mine, its)]
            assert nats[1] == pytest.approx(nats[0], abs=1e-4)
            assert [one.tokens for one in mine.likelihoods] == [one.tokens for one in its.likelihoods]
            assert mine.answer == its.answer


def test_several_contexts_with_one_continuation(serve, tmp_path: Path) -> None:
    asked = Choices(("He saw Anna", "He saw the river"), (" run off", " run off"))
    (found,) = engine(serve("vllm"), tmp_path).likelihoods([asked], "refuse")
    assert [one.tokens for one in found] == [2, 2]


@pytest.mark.parametrize(("kind", "second"), [("llamacpp", -0.5), ("chat", -0.1)])
def test_letters_by_the_likeliest_tokens(kind: str, second: float, serve, tmp_path: Path) -> None:
    server = serve(kind)
    (row,) = ask(engine(server, tmp_path), [ITEM], lambda _: [], PROTOCOLS["original"], Setting())
    assert (row.answer.choice, row.answer.scores["acc"], row.likelihoods[1].nats) == (1, 1.0, second)
    assert row.likelihoods[0].nats == (ABSENT if kind == "llamacpp" else -2.5)


@pytest.mark.parametrize("kind", ["llamacpp", "plain"])
def test_continuations_that_no_server_scores_are_one_line_with_the_way_out(kind: str, serve, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="gives no log-probabilities of whole continuations: ask with --protocols"):
        ask(engine(serve(kind), tmp_path), [ITEM], lambda _: [], PROTOCOLS["cloze"], Setting())


@pytest.mark.parametrize("kind", ["vllm", "plain"])
def test_answers_are_generated_everywhere(kind: str, serve, tmp_path: Path) -> None:
    server = serve(kind)
    found = engine(server, tmp_path).generate([Generate("The capital is", ("\n\n", "a", "b", "c", "Q"), 20)], "left")
    assert found[0].text == (" P" if kind == "vllm" else "B") and found[0].ended
    path, body = server.asked[-1]
    assert path == ("/v1/completions" if kind == "vllm" else "/v1/chat/completions")
    assert (body["temperature"], body["stop"]) == (0.0, ["\n\n", "a", "b", "c"])


def test_helm_and_chat_ask_for_text(serve, tmp_path: Path) -> None:
    for kind, protocol in (("vllm", "helm"), ("plain", "chat_generate")):
        (row,) = ask(engine(serve(kind), tmp_path / kind), [ITEM], lambda _: [], PROTOCOLS[protocol], Setting())
        assert (row.answer.choice, row.answer.scores["acc"]) == (1, 1.0)


def test_a_prompt_that_is_too_long_costs_no_other(serve, tmp_path: Path) -> None:
    long = Item("long", "facts", "rivers", "test", "why " * 800, choices=("yes", "no"), answer=1)
    rows = ask(engine(serve("vllm"), tmp_path), [long, ITEM], lambda _: [], PROTOCOLS["cloze"], Setting())
    assert [row.left_out for row in rows] == [TOO_LONG, ""]
    with pytest.raises(Unanswered):
        engine(serve("vllm"), tmp_path / "b").generate([Generate("why " * 800, (), 5)], "refuse")


def test_a_text_without_context_says_what_it_lacks(serve, tmp_path: Path) -> None:
    with pytest.raises(Unanswered, match="nothing stands before it"):
        engine(serve("vllm"), tmp_path).likelihoods([Choices(("",), ("word",))], "refuse")
    with pytest.raises(InputError, match="use a model folder"):
        engine(serve("vllm"), tmp_path).rolling(["text"], 4)


def test_replies_are_kept_and_the_key_isnt(serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    server = serve("vllm")
    request = Choices(("Question:",), (" yes", " no"))
    first = engine(server, tmp_path).likelihoods([request], "refuse")
    calls = len(server.asked)
    assert engine(server, tmp_path).likelihoods([request], "refuse") == first and len(server.asked) == calls
    assert all(SECRET.encode() not in path.read_bytes() for path in tmp_path.iterdir())
    with pytest.raises(InputError, match="401") as told:
        engine(serve("refusing"), tmp_path / "r").likelihoods([request], "refuse")
    assert SECRET not in str(told.value)


def test_a_server_that_isnt_there_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.annotators.calls.FIRST_WAIT_S", 0.01)
    lost = ServerEngine(server_settings("http://127.0.0.1:9/v1", "fake"), tmp_path / "calls.sqlite")
    with pytest.raises(InputError, match="can't be reached"):
        lost.likelihoods([Choices(("a",), (" b",))], "refuse")


@pytest.mark.parametrize(
    ("kind", "words"), [("html", "no JSON"), ("list", "no chat completion"), ("boom", "500.*boom")]
)
@pytest.mark.parametrize("protocol", ["original", "chat_generate"])
def test_a_server_that_answers_nothing_says_what_it_answers(
    kind: str, words: str, protocol: str, serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.annotators.calls.FIRST_WAIT_S", 0.001)
    with pytest.raises(InputError, match=f"#fake answers nothing; check the address .*: .*{words}"):
        ask(engine(serve(kind), tmp_path), [ITEM], lambda _: [], PROTOCOLS[protocol], Setting())


@pytest.mark.parametrize("kind", ["5.0", "-1e308", "1e308"])
def test_numbers_that_are_no_log_probabilities_are_refused_by_item(kind: str, serve, tmp_path: Path) -> None:
    server = serve(kind)
    with pytest.raises(InputError, match=r"v1#fake: item i of facts, protocol cloze: .* no log-probability"):
        ask(engine(server, tmp_path), [ITEM], lambda _: [], PROTOCOLS["cloze"], Setting())


@pytest.mark.parametrize(("value", "known"), [(-3.4e38, 2), (-(10**400), 2), ("-1.0", 2), (5.0, 0), (10**400, 0)])
def test_likeliest_tokens_with_numbers_that_are_none(value: Any, known: int) -> None:
    found = _numbers({" A": -1.0, " B": -2.0, " C": value})
    assert (found == {" A": -1.0, " B": -2.0}) if known else math.isnan(found[" C"])
    if not known:
        assert all(math.isnan(one.nats) for one in _letters(found, ["A", "B"]))


def test_replies_that_cant_be_kept_arent_blamed_on_the_server(
    serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr("stages.annotators.cache.CallCache.get", full)
    with pytest.raises(InputError, match=r"calls\.sqlite: .*free space") as told:
        engine(serve("vllm"), tmp_path).likelihoods([Choices(("a",), (" b",))], "refuse")
    assert "answers nothing" not in str(told.value)


def test_addresses() -> None:
    assert server_settings("http://localhost:8000", "m").base_url == "http://localhost:8000/v1"
    assert server_settings("https://host/api/v2/", "m").base_url == "https://host/api/v2"
    with pytest.raises(ParamError, match="which model"):
        server_settings("http://localhost:8000", "")
    with pytest.raises(ParamError, match="no address"):
        server_settings("localhost", "m")
