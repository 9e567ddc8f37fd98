"""A judge on the loopback with every quirk of the public reports, each at a share of the calls, and a bill of its own.

What a call meets is drawn from its number, so that a test knows what must come of it: `expected(number)` is "verdict",
or a word of the reason why there is none. The longer output is the better one; the label it has depends on the order.
"""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.annotators.flaky_server import Scripted

SHARE = 0.05
USD_PER_MILLION = (3.0, 15.0)  # of tokens sent and received
THOUGHT = "Output 1 names a river and output 2 another. I lean to 1, then to 2."


@dataclass(frozen=True)
class Quirk:
    """`reply`: (label) → (status, content). `reason`: "" where the reply holds the verdict. `billed`: (sent, received)
    tokens by the server's own count.
    """

    reply: Callable[[str], tuple[int, Any]]
    reason: str = ""
    billed: tuple[int, int] = (100, 1)


def chat(text: Any, finish: str = "stop", usage: dict[str, Any] | None = None, **message: Any) -> dict[str, Any]:
    logprobs = message.pop("logprobs", None)
    return {
        "id": "r", "object": "chat.completion", "created": 0, "model": "quirky-2026-01",
        "choices": [{
            "index": 0, "finish_reason": finish, "logprobs": logprobs,
            "message": {"role": "assistant", "content": text, **message},
        }],
        "usage": usage or {"prompt_tokens": 100, "completion_tokens": 1, "total_tokens": 101},
    }  # fmt: skip


def tokens(*texts: str) -> dict[str, Any]:
    """Log-probabilities of these tokens; a label is sure to 99 %."""
    entries = []
    for text in texts:
        top = [{"token": text, "logprob": -0.01}]
        if text in ("1", "2"):
            top.append({"token": "12"[text == "1"], "logprob": -4.6})
        entries.append({"token": text, "logprob": -0.01, "top_logprobs": top})
    return {"content": entries}


def other(label: str) -> str:
    return "12"[label == "1"]


def _error(status: int, message: Any, **more: Any) -> tuple[int, Any]:
    return status, {"error": {"message": message, "type": "BadRequestError", "code": status, **more}}


BESIDE = {"prompt_tokens": 100, "completion_tokens": 1, "total_tokens": 501}
BESIDE |= {"completion_tokens_details": {"reasoning_tokens": 400}}  # type: ignore[dict-item]
AMONG = {"prompt_tokens": 100, "completion_tokens": 401, "total_tokens": 501}
AMONG |= {"completion_tokens_details": {"reasoning_tokens": 400}}  # type: ignore[dict-item]
NO_TOTAL = {"prompt_tokens": 100, "completion_tokens": 1, "reasoning_tokens": 400}

QUIRKS: dict[str, Quirk] = {
    "log-probabilities of thoughts first": Quirk(
        lambda label: (
            200,
            chat(
                label,
                reasoning_content=f"Answer {other(label)} looks fine.",
                logprobs=tokens("Answer", other(label), " looks", " fine.", "</think>", label),
            ),
        )
    ),
    "log-probabilities of thoughts alone": Quirk(
        lambda label: (200, chat(label, reasoning=THOUGHT, logprobs=tokens("I", " take ", other(label))))
    ),
    "a label before the verdict": Quirk(
        lambda label: (200, chat(f"Answer {other(label)} names the wrong river.\n\nVerdict: {label}"))
    ),
    "thoughts in the text": Quirk(lambda label: (200, chat(f"<think>{THOUGHT}</think>\n{label}"))),
    "cut at one token": Quirk(lambda label: (200, chat(label, "length", logprobs=tokens(label)))),
    "thoughts beside the completion": Quirk(
        lambda label: (200, chat(label, usage=BESIDE, reasoning_content=THOUGHT)), billed=(100, 401)
    ),
    "thoughts among the completion": Quirk(lambda label: (200, chat(label, usage=AMONG)), billed=(100, 401)),
    "thoughts beside, no total": Quirk(lambda label: (200, chat(label, usage=NO_TOTAL)), billed=(100, 401)),
    "null": Quirk(lambda label: (200, chat(None)), "no text"),
    "cut in thoughts": Quirk(lambda label: (200, chat("", "length", thinking="Let me")), "thoughts and no answer"),
    "an unclosed thought": Quirk(lambda label: (200, chat("<think>I say 1", "length")), "thoughts and no answer"),
    "a refusal": Quirk(lambda label: (200, chat(None, refusal="I can't help with that.")), "refused"),
    "filtered": Quirk(lambda label: (200, chat(other(label), "content_filter")), "withheld"),
    "ended by an error": Quirk(lambda label: (200, chat("1", "error")), "no finished answer"),
    "both labels": Quirk(lambda label: (200, chat("1 or 2")), "neither 1 nor 2"),
    "a label and no verdict": Quirk(lambda label: (200, chat("Answer 1 names the wrong river.")), "neither 1 nor 2"),
    "too long": Quirk(
        lambda label: _error(
            400,
            "asked for 40 new tokens, but the context of 2048 holds 2030 of the prompt already "
            "(parameter=max_tokens, value=40)",
            param="max_tokens",
        ),
        "context of 2048",
        (0, 0),
    ),
    "flagged": Quirk(
        lambda label: _error(400, "The prompt triggered the content management policy", code="content_filter"),
        "content management policy",
        (0, 0),
    ),
}  # fmt: skip
PLAIN = Quirk(lambda label: (200, chat(label, logprobs=tokens(label))))


class QuirkyJudge(Scripted):
    """Counts what it bills. `well`: it answers every call as it should from now on; `echo`: it repeats the key."""

    def __init__(self, calls: int, seed: int = 0) -> None:
        super().__init__(self.answer)
        # Each quirk at its share; one draw a call, so that the shares add up to no more than all calls.
        draw = random.Random(seed)
        names = [*QUIRKS]
        self.fate = [names[int(u / SHARE)] if (u := draw.random()) < SHARE * len(names) else "" for _ in range(calls)]
        self.well = False
        self.billed = [0, 0]

    def quirk(self, number: int) -> Quirk:
        return QUIRKS.get(self.fate[number], PLAIN)

    def expected(self, number: int) -> str:
        return self.quirk(number).reason

    def answer(self, body: dict[str, Any], tries: int) -> tuple[int, Any, str]:
        content = body["messages"][0]["content"]
        number = int(content.split("Question ")[1].split("?")[0])
        lines = content.splitlines()
        first, second = (next(len(line) for line in lines if line.startswith(f'{{"output_{k}"')) for k in (1, 2))
        quirk = PLAIN if self.well else self.quirk(number)
        self.billed = [count + more for count, more in zip(self.billed, quirk.billed, strict=True)]
        status, reply = quirk.reply("12"[second > first])
        return status, json.dumps(reply).encode(), ""

    @property
    def usd(self) -> float:
        return sum(count * price for count, price in zip(self.billed, USD_PER_MILLION, strict=True)) / 1e6
