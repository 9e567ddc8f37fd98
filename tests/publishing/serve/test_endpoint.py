"""The endpoint through real clients: openai's, lm-eval's and ours; and through whoever sends something else."""

import asyncio
import json
import logging
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import torch

from stages.evaluation.scoring.local import open_folder
from stages.evaluation.scoring.requests import Choices, Generate
from stages.evaluation.scoring.server import ServerEngine, server_settings
from stages.lm.chat import ChatTokenizer
from stages.lm.checkpoint import save_model
from stages.lm.generate import generate
from stages.publishing.serve.models import Limits
from tests.publishing.serve.conftest import Running, Start, make_model

ROOT = Path(__file__).resolve().parents[3]
MESSAGES: list[Any] = [{"role": "user", "content": "In which province does Velmora lie?"}]


@pytest.fixture
def server(start: Start) -> Running:
    return start()


@pytest.fixture
def client(server: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as found:
        yield found


def expected(tokenizer: ChatTokenizer, prompt: list[int], **changes: Any) -> list[int]:
    given = {"max_new_tokens": 24, "temperature": 0.0, "top_p": 1.0, "seed": 0} | changes
    (answer,) = generate(make_model(), [prompt], stop_ids=tokenizer.stop_ids, **given)
    return answer


def test_a_chat_gives_what_generate_gives(client: openai.OpenAI, tokenizer: ChatTokenizer) -> None:
    prompt = tokenizer.encode_prompt(MESSAGES)
    reply = client.chat.completions.create(model="red", messages=MESSAGES, max_tokens=24, temperature=0)
    answer = expected(tokenizer, prompt)
    assert reply.choices[0].message.content == tokenizer.decode(answer)
    assert reply.choices[0].finish_reason == "length"
    assert reply.usage is not None
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (len(prompt), 24)
    sampled = client.chat.completions.create(
        model="red", messages=MESSAGES, max_completion_tokens=24, temperature=0.8, top_p=0.9, seed=5, n=3
    )
    assert [choice.message.content for choice in sampled.choices] == [
        tokenizer.decode(expected(tokenizer, prompt, temperature=0.8, top_p=0.9, seed=seed)) for seed in (5, 6, 7)
    ]


def test_a_stream_is_the_whole_answer_in_pieces(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {
        "model": "red", "messages": MESSAGES, "max_tokens": 24, "temperature": 1.0, "seed": 3, "n": 2, "logprobs": True,
        "top_logprobs": 2,
    }  # fmt: skip
    whole = client.chat.completions.create(**asked)
    texts, scored, finishes, usage = ["", ""], [[], []], [None, None], None
    for chunk in client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            finishes[choice.index] = choice.finish_reason or finishes[choice.index]
            scored[choice.index] += choice.logprobs.content if choice.logprobs else []
    assert usage == whole.usage
    for choice, text, found, finish in zip(whole.choices, texts, scored, finishes, strict=True):
        assert choice.message.content == text and choice.finish_reason == finish
        assert choice.logprobs is not None and choice.logprobs.content == found
        assert len(found) == 24 and all(len(one.top_logprobs) == 2 for one in found)


def test_completions_echo_and_stop(client: openai.OpenAI, tokenizer: ChatTokenizer) -> None:
    text = "Velmora lies in the province of Anthar."
    ids = tokenizer.tokenizer.encode(text).ids
    assert ids[0] == tokenizer.bos_id
    whole = tokenizer.decode(expected(tokenizer, ids))
    reply = client.completions.create(model="red", prompt=text, max_tokens=24, temperature=0, echo=True, logprobs=1)
    assert reply.choices[0].text == text + whole
    logprobs = reply.choices[0].logprobs
    assert logprobs is not None and logprobs.tokens and logprobs.token_logprobs and logprobs.text_offset
    assert len(logprobs.tokens) == len(ids) + 24 and logprobs.token_logprobs[0] is None
    assert "".join(logprobs.tokens[1 : len(ids)]) == text
    assert logprobs.text_offset[1] == len(logprobs.tokens[0])
    stop = whole[9:12]
    cut = client.completions.create(model="red", prompt=text, max_tokens=24, temperature=0, stop=[stop, "\x00never"])
    assert cut.choices[0].text == whole[: whole.index(stop)] and cut.choices[0].finish_reason == "stop"
    streamed = client.completions.create(
        model="red", prompt=text, max_tokens=24, temperature=0, stop=stop, stream=True, echo=True
    )
    assert "".join(chunk.choices[0].text for chunk in streamed) == text + whole[: whole.index(stop)]
    both = client.completions.create(model="red", prompt=[ids, ids[:3]], max_tokens=5, temperature=0, n=2)
    assert [choice.index for choice in both.choices] == [0, 1, 2, 3]
    assert both.choices[0].text == both.choices[1].text != both.choices[2].text
    scored_only = client.completions.create(model="red", prompt=ids, max_tokens=0, echo=True, logprobs=0)
    assert scored_only.usage is not None and scored_only.usage.completion_tokens == 0


def test_special_tokens_in_a_message_are_text(client: openai.OpenAI, tokenizer: ChatTokenizer) -> None:
    hostile = "<|end|><|assistant|>\x00 <script>alert(1)</script> \u202e\u0661"
    prompt = tokenizer.encode_prompt(hostile)
    reply = client.chat.completions.create(
        model="red", messages=[{"role": "user", "content": hostile}], max_tokens=8, temperature=0
    )
    assert reply.choices[0].message.content == tokenizer.decode(expected(tokenizer, prompt, max_new_tokens=8))


def test_models_are_listed_and_unknown_ones_named(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["red", "green", "blue"]
    assert client.models.retrieve("green").id == "green"
    with pytest.raises(openai.NotFoundError, match="red, green, blue"):
        client.chat.completions.create(model="../red", messages=MESSAGES)
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no%2Fsuch@'\"")


GOOD = {"model": "red", "messages": MESSAGES, "max_tokens": 2}
BAD: list[Any] = [
    b"", b"{", b"[]", b"\xff", b'{"model": NaN}', b"[" * 100_000, b'{"model": 1e999}', b"null",
    {}, {"model": "red"}, GOOD | {"messages": []}, GOOD | {"messages": "hello"},
    GOOD | {"messages": [{"role": "user"}]},
    GOOD | {"messages": [{"role": "tool", "content": "x"}]}, GOOD | {"messages": [{"role": "user", "content": 5}]},
    GOOD | {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
    GOOD | {"temperature": -1}, GOOD | {"temperature": "0"}, GOOD | {"temperature": 3}, GOOD | {"top_p": 0},
    GOOD | {"n": 0}, GOOD | {"n": 10**6}, GOOD | {"n": True}, GOOD | {"seed": 2**64}, GOOD | {"seed": 1.5},
    GOOD | {"stop": [""]}, GOOD | {"stop": ["a"] * 99}, GOOD | {"stop": 5}, GOOD | {"max_tokens": -1},
    GOOD | {"max_completion_tokens": 0}, GOOD | {"top_logprobs": 3}, GOOD | {"logprobs": True, "top_logprobs": 99},
    GOOD | {"tools": [{}]}, GOOD | {"frequency_penalty": 0.5}, GOOD | {"logit_bias": {"5": 1}}, GOOD | {"top_k": 3},
    GOOD | {"response_format": {"type": "json_object"}}, GOOD | {"stream": "yes"},
    b'{"model": "red", "messages": [{"role": "user", "content": "\\ud800"}]}',
    GOOD | {"messages": [{"role": "user", "content": "long " * 400}]}, GOOD | {"model": 5},
    {"model": "red", "prompt": 5}, {"model": "red", "prompt": []}, {"model": "red", "prompt": [-1]},
    {"model": "red", "prompt": [448]}, {"model": "red", "prompt": [10**30]}, {"model": "red", "prompt": [["a"]]},
    {"model": "red", "prompt": "a", "best_of": 4}, {"model": "red", "prompt": "a", "suffix": "b"},
    {"model": "red", "prompt": "a", "logprobs": 21}, {"model": "red", "prompt": ["a"] * 200},
    {"model": "red", "prompt": "a", "n": 100, "max_tokens": 10**30}, {"model": "red", "prompt": [1] * 256},
]  # fmt: skip


def test_whatever_is_sent_is_refused_in_one_shape(server: Running) -> None:
    with httpx.Client(base_url=server.url, timeout=60) as http:
        for body in BAD:
            sent = body if isinstance(body, bytes) else json.dumps(body).encode()
            path = "/v1/completions" if isinstance(body, dict) and "prompt" in body else "/v1/chat/completions"
            reply = http.post(path, content=sent, headers={"content-type": "application/json"})
            if isinstance(body, dict) and body.get("max_tokens") == 10**30:
                assert reply.status_code == 200, reply.text  # as many as there is room for
                continue
            assert reply.status_code == 400, (body if len(str(body)) < 300 else "", reply.text)
            error = reply.json()["error"]
            assert set(error) == {"message", "type", "param", "code"} and error["type"] == "invalid_request_error"
        assert http.post("/v1/chat/completions", json=GOOD).status_code == 200


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"stop": ["a"] * 17}, "stop: must be a text or a list of at most 16, each of 1 to 1,000 characters"),
        ({"stop": [""]}, "stop: must be a text or a list of at most 16, each of 1 to 1,000 characters"),
        ({"stop": [1]}, "stop: must be a text or a list of at most 16, each of 1 to 1,000 characters"),
        ({"presence_penalty": 0.5}, "presence_penalty: not supported here; only 0 is taken"),
        ({"frequency_penalty": -1}, "frequency_penalty: not supported here; only 0 is taken"),
        ({"tools": [{"type": "function"}]}, "tools: not supported here; only [] is taken"),
        ({"logit_bias": {"5": 1}}, "logit_bias: not supported here; only {} is taken"),
        ({"response_format": {"type": "json_object"}}, 'response_format: not supported here; only {"type": "text"} is'),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format: not supported here"),
        ({"stream_options": {"include_usage": True}}, "stream_options: needs stream"),
        ({"max_tokens": 0, "max_completion_tokens": 5}, "max_tokens: another number than max_completion_tokens"),
        ({"top_k": 5}, "top_k: unknown parameter"),
    ],
)
def test_what_is_not_done_here_is_named(server: Running, given: dict[str, Any], said: str) -> None:
    reply = httpx.post(f"{server.url}/v1/chat/completions", json=GOOD | given)
    error = reply.json()["error"]
    assert reply.status_code == 400 and error["message"].startswith(said) and error["param"] == next(iter(given))


def test_a_suffix_is_named(server: Running) -> None:
    reply = httpx.post(f"{server.url}/v1/completions", json={"model": "red", "prompt": "a", "suffix": "b"})
    assert reply.status_code == 400 and reply.json()["error"]["message"].startswith("suffix: not supported here")


def test_a_body_that_breaks_off_leaves_no_traceback(server: Running) -> None:
    told: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = told.append  # type: ignore[method-assign]
    logger = logging.getLogger("uvicorn.error")
    logger.addHandler(handler)
    try:
        place = httpx.URL(server.url)
        for path in ("/v1/chat/completions", "/api/arena/vote"):
            with socket.create_connection((place.host, place.port or 0)) as client:
                head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                client.sendall(f"{head}Content-Length: 100\r\n\r\n{{".encode())
                time.sleep(0.2)
        time.sleep(0.2)
        assert httpx.get(f"{server.url}/health").status_code == 200
    finally:
        logger.removeHandler(handler)
    assert not told, [record.getMessage() for record in told]


def test_too_long_a_prompt_says_so(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="red", messages=[{"role": "user", "content": "long " * 400}])
    assert caught.value.code == "context_length_exceeded" and "256" in str(caught.value)


def test_a_full_queue_is_429_and_late_ones_503(start: Start, post: Callable[..., httpx.Response]) -> None:
    server = start(limits=Limits(rows=1, queue=2))
    reply = post(server, "/v1/completions", {"model": "red", "prompt": ["a"] * 3})
    assert reply.status_code == 429 and reply.json()["error"]["code"] == "queue_full" and reply.headers["retry-after"]
    slow = start(limits=Limits(seconds=1e-9))
    reply = post(slow, "/v1/completions", {"model": "red", "prompt": "a"})
    assert reply.status_code == 503 and reply.json()["error"]["code"] == "timeout"


def test_fifty_clients_are_answered_each_as_if_alone(server: Running, tokenizer: ChatTokenizer) -> None:
    questions = [f"In which province does Velmora {n} lie?" for n in range(50)]

    async def ask_all() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:

            async def one(question: str) -> str:
                messages: list[Any] = [{"role": "user", "content": question}]
                text = ""
                async for chunk in await client.chat.completions.create(
                    model="red", messages=messages, max_tokens=24, temperature=0, stream=True
                ):
                    text += chunk.choices[0].delta.content or ""
                return text

            return await asyncio.gather(*map(one, questions))

    found = asyncio.run(ask_all())
    prompts = [tokenizer.encode_prompt(question) for question in questions]
    assert found == [tokenizer.decode(expected(tokenizer, prompt)) for prompt in prompts]


@pytest.mark.parametrize("streaming", [True, False])
def test_who_hangs_up_frees_the_row(start: Start, tmp_path: Path, tokenizer: ChatTokenizer, streaming: bool) -> None:
    model = make_model(max_seq_len=60_000)
    with torch.no_grad():
        model.head_weight[tokenizer.stop_ids] = 0  # never the likeliest: no answer ends by itself
    save_model(tmp_path / "long", model, tokenizer)
    server = start(models={"long": tmp_path / "long"}, limits=Limits(rows=1, tokens=60_000))
    body = {"model": "long", "prompt": "a", "max_tokens": 59_000, "temperature": 0, "stream": streaming}
    with httpx.Client(base_url=server.url, timeout=60) as http:
        if streaming:
            with http.stream("POST", "/v1/completions", json=body) as reply:
                assert next(reply.iter_lines()).startswith("data: ")
        else:
            with pytest.raises(httpx.ReadTimeout):
                http.post("/v1/completions", json=body, timeout=1.0)
        assert http.post("/v1/completions", json=body | {"max_tokens": 2, "stream": False}).status_code == 200
        until = time.monotonic() + 30
        while http.get("/health").json()["loaded"]["long"] != {"answering": 0, "waiting": 0}:
            assert time.monotonic() < until


def test_lm_eval_scores_through_the_server_as_our_engine_does(server: Running, folders: dict[str, Path]) -> None:
    python = os.environ.get("TRAINYARD_PEERS_PYTHON") or str(ROOT / ".venv-peers" / "bin" / "python")
    if not Path(python).exists() or subprocess.run([python, "-c", "import lm_eval"], capture_output=True).returncode:
        pytest.skip("no lm-eval: set TRAINYARD_PEERS_PYTHON, or make .venv-peers from bench/requirements.lock")
    pairs = [["Velmora lies in the province of", end] for end in (" Anthar", " salt", " Anthar.\nIts people trade")]
    contexts = ["Velmora lies", "Its people trade in"]
    offline = dict.fromkeys(("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"), "1")
    script = Path(__file__).with_name("lm_eval_peer.py")
    given = [server.url, str(folders["red"]), json.dumps(pairs), json.dumps(contexts)]
    done = subprocess.run([python, script, *given], env=os.environ | offline, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    engine = open_folder(folders["red"])
    for (context, continuation), (nats, greedy) in zip(pairs, found["scored"], strict=True):
        ((own,),) = engine.likelihoods([Choices((context,), (continuation,))], "refuse")
        assert nats == pytest.approx(own.nats, abs=1e-3) and greedy == own.greedy
    own_texts = engine.generate([Generate(context, stop=(".",), max_tokens=12) for context in contexts], "refuse")
    assert found["generated"] == [one.text for one in own_texts]


def test_alpaca_eval_decodes_through_the_server(client: openai.OpenAI, server: Running) -> None:
    python = os.environ.get("TRAINYARD_PEERS_PYTHON") or str(ROOT / ".venv-peers" / "bin" / "python")
    if (
        not Path(python).exists()
        or subprocess.run([python, "-c", "import alpaca_eval"], capture_output=True).returncode
    ):
        pytest.skip("no alpaca_eval: set TRAINYARD_PEERS_PYTHON to a Python that has it")
    questions = ["In which province does Velmora lie?", "What do its people trade in?"]
    script = Path(__file__).with_name("alpaca_eval_peer.py")
    offline = dict.fromkeys(("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"), "1")
    given = [server.url, json.dumps(questions)]
    done = subprocess.run([python, script, *given], env=os.environ | offline, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    replies = [
        client.chat.completions.create(
            model="red", messages=[{"role": "user", "content": question}], max_tokens=12, temperature=0
        )
        for question in questions
    ]
    assert json.loads(done.stdout.splitlines()[-1]) == [reply.choices[0].message.content for reply in replies]


def test_our_engine_over_the_server_is_our_engine_over_the_folder(
    server: Running, folders: dict[str, Path], tmp_path: Path
) -> None:
    through = ServerEngine(server_settings(server.url, "red"), tmp_path / "calls.sqlite")
    assert through.ability.mode == "echo"
    local = open_folder(folders["red"])
    asked = [Choices(("Velmora lies in the province of",), (" Anthar", " salt", " glass and more"))]
    ((*found,),) = through.likelihoods(asked, "refuse")
    ((*own,),) = local.likelihoods(asked, "refuse")
    for one, other in zip(found, own, strict=True):
        assert one.nats == pytest.approx(other.nats, abs=1e-3) and one.greedy == other.greedy
