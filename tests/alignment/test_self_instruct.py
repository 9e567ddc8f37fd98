"""Self-Instruct with a scripted writer: what is kept, what is dropped and why, and that nothing kept is no failure."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from stages.alignment.self_instruct import SelfInstructParams, Teacher, few_shot, parse, propose, taught, to_rows
from stages.base.errors import InputError, ParamError

ROOT = Path(__file__).parents[2]

SEEDS = [(f"Where does {name} lie?", f"{name} lies in Anthar.") for name in ("Ost", "Velm", "Grond", "Bris")]
PARAMS = SelfInstructParams(
    candidates=7, rounds=2, seed_shots=3, machine_shots=1, temperature=0.7, top_p=0.95, max_new_tokens=16, overlap=0.7,
    min_words=2, max_words=12, teacher=None,
)  # fmt: skip


def test_a_continuation_is_parsed_with_or_without_line_breaks() -> None:
    expected = ("Which craft has Ost?", "Pottery.")
    assert parse(" Which craft has Ost?\nAnswer: Pottery.\n\nQuestion: Next") == expected
    assert parse(" Which craft has Ost? Answer: Pottery. Question: Next Answer: More") == expected
    assert parse(" Which craft\n has Ost?\n\nQuestion: What? Answer: That.") == ("Which craft has Ost?", "")
    assert parse("") == ("", "")
    assert parse(few_shot(SEEDS[:1]).removeprefix("Question:")) == SEEDS[0]


def test_candidates_are_kept_or_dropped_with_a_reason() -> None:
    shown: list[list[tuple[str, str]]] = []

    def write(groups: list[list[tuple[str, str]]], turn: int) -> list[str]:
        shown.extend(groups)
        script = [
            [
                " Name the teacher of Ost. Answer: Codron.",
                " Where does Ost lie? Answer: Anthar.",
                "",
                " - x y Answer: z",
            ],
            [
                " Name the teacher of Ost. Answer: Codron.",
                " Who lives there now",
                " Explain how bread is made. Answer: So.",
            ],
        ]
        return script[turn]

    kept, drops = propose(SEEDS, write, PARAMS, seed=3)
    assert kept == [("Name the teacher of Ost.", "Codron."), ("Explain how bread is made.", "So.")]
    reasons = Counter(row["reason"] for row in drops)
    assert reasons == {"similar": 2, "empty": 1, "punctuation_start": 1, "no_answer": 1}
    assert len(shown) == 7 and all(len(group) == 3 for group in shown[:4])
    assert all(kept[0] in group and len(group) == 4 for group in shown[4:])
    assert [row.prompt for row in to_rows(kept)] == [prompt for prompt, _ in kept]


def test_nothing_kept_is_an_empty_table() -> None:
    kept, drops = propose(SEEDS, lambda groups, turn: [""] * len(groups), PARAMS, seed=3)
    assert kept == [] and len(drops) == 7
    assert to_rows(kept) == []


@contextmanager
def server(replies: list[dict[str, Any]]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """(Address of a chat server that gives these replies one after another, the requests it got)."""
    asked: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            message = {"role": "assistant"} | replies[(len(asked) - 1) % len(replies)]
            usage = {"prompt_tokens": 100, "completion_tokens": 10}
            body = json.dumps({"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    serving = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=serving.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{serving.server_port}/v1", asked
    finally:
        serving.shutdown()
        serving.server_close()


def teacher(base_url: str, **changes: Any) -> Teacher:
    values = {
        "base_url": base_url, "model": "teacher", "api_key_env": "TRAINYARD_TEST_KEY", "temperature": 1.0,
        "max_tokens": 64, "concurrency": 1, "max_retries": 0, "timeout_s": 5.0, "max_cost_usd": 1.0,
        "usd_per_million_input": 1.0, "usd_per_million_output": 1.0, "prompt": "",
    }  # fmt: skip
    return Teacher(**(values | changes))


TEMPLATE = (ROOT / "stages/annotators/prompts/self_instruct.txt").read_text()


def test_a_model_on_a_server_writes(capsys: pytest.CaptureFixture[str]) -> None:
    replies = [
        {"content": "Question: Why is the sky blue?\nAnswer: Light scatters."},
        {"content": " Who bakes bread?\nAnswer: A baker."},
        {"content": None, "refusal": "no"},
        {"content": "I can't."},
    ]
    with server(replies) as (url, asked):
        kept, drops = propose(SEEDS, taught(teacher(url), TEMPLATE), PARAMS.model_copy(update={"candidates": 4}), 3)
    assert kept == [("Why is the sky blue?", "Light scatters."), ("Who bakes bread?", "A baker.")]
    assert Counter(row["reason"] for row in drops) == {"empty": 1, "no_answer": 1}
    assert SEEDS[0][0] in json.dumps(asked) and asked[0]["max_tokens"] == 64
    assert "estimated $" in capsys.readouterr().err, "the price is said before the first call"


def test_a_teacher_beyond_the_bound_is_not_asked() -> None:
    with server([{"content": "x"}]) as (url, asked), pytest.raises(ParamError, match="max_cost_usd"):
        propose(SEEDS, taught(teacher(url, max_cost_usd=1e-9), TEMPLATE), PARAMS, 3)
    assert not asked
    with pytest.raises(InputError, match="examples"):
        taught(teacher(url), "no place for them")
