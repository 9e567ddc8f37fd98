"""A chat completion as an answer, or as a judge's preference: from the log-probabilities of its verdict, or its text.

A reply is whatever JSON a server sent. Nothing here trusts its shape.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stages.annotators.verdict import Verdict, find_verdict

LABELS = ("1", "2")
# Models write thoughts in tags of several names. Some servers put the opening tag into the prompt, so that the reply
# has only the closing one; a reply cut off while thinking has only the opening one.
_TAGS = r"(?:seed:)?(?:think|thinking|thought|thoughts|reasoning|analysis)"
_CLOSING = (
    rf"(?:</{_TAGS}>|\[/THINK\]|◁/think▷|<\|end_of_thought\|>|<\|END_THINKING\|>|<\|channel\|>final<\|message\|>)"
)
_OPENING = rf"(?:<{_TAGS}>|\[THINK\]|◁think▷|<\|begin_of_thought\|>|<\|START_THINKING\|>|<\|channel\|>analysis)"
_CLOSED = re.compile(rf"\A.*{_CLOSING}", re.DOTALL | re.IGNORECASE)
_UNCLOSED = re.compile(rf"{_OPENING}.*\Z", re.DOTALL | re.IGNORECASE)
_ENDS_CLOSED = re.compile(rf"(?:{_CLOSING}|<[|｜][^<>]{{1,40}}[|｜]>)\s*\Z", re.IGNORECASE)
_SPECIAL = re.compile(r"(?:\s|<[|｜][^<>]{1,40}[|｜]>|</s>|<eos>|<end_of_turn>)+\Z")
THOUGHTS = ("reasoning_content", "reasoning", "thinking", "thoughts")  # of a message, by server
# Why a reply ended, in lower case: OpenAI's words, and those of Mistral, Anthropic, Gemini, DeepSeek, vLLM and Bedrock.
CUT = {"length", "max_tokens", "model_length", "model_context_window_exceeded"}
WITHHELD = {
    "content_filter", "content_filtered", "refusal", "safety", "recitation", "blocklist", "prohibited_content", "spii",
    "guardrail_intervened", "blocked",
}  # fmt: skip
BROKEN = {
    "error", "abort", "aborted", "cancelled", "canceled", "insufficient_system_resource", "tool_calls", "tool_use",
    "function_call", "malformed_function_call",
}  # fmt: skip
MOST_NATS, ROUNDING = 1e4, 1e-3  # a log-probability lies between the one, negative, and the other
TAIL = 40  # characters of separate thoughts by which they are found among the tokens
_MAX_NAME = 100


class UnparsableReply(ValueError):
    """The reply is no answer, or an answer without a verdict: it is neither counted nor kept, only paid for."""


@dataclass(frozen=True)
class Choice:
    second: float  # P(the answer shown second is better), 0 .. 1
    weighted: bool  # from log-probabilities; else 0 or 1 from the text


def read_choice(reply: Mapping[str, Any]) -> Choice:
    """Which answer one chat completion, as a plain dict, prefers. Raises UnparsableReply without a verdict.

    The verdict is a label of the answer's text (`verdict.find_verdict`). With log-probabilities of that very token the
    preference is p(2) / (p(1) + p(2)), as AlpacaEval 2's `logprob_parser` weighs its two labels; else 0 or 1.
    """
    answer = read_answer(reply)
    verdict = find_verdict(answer, cut_short(reply))
    if verdict is None:
        raise UnparsableReply(f"the reply is neither 1 nor 2: {answer[:80]!r}")
    position = _position_of(verdict, answer, reply)
    second = None if position is None else _from_top(position)
    return Choice(float(verdict.label == "2"), False) if second is None else Choice(second, True)


def read_answer(reply: Mapping[str, Any]) -> str:
    """The answer of one chat completion, without thoughts; also one cut at `max_tokens`. Raises UnparsableReply where
    there is none: an empty one, thoughts alone, a refusal, one that was filtered or ended by an error or a tool call.
    """
    first = _first(reply)
    message = first.get("message")
    if isinstance(error := first.get("error"), Mapping):
        raise UnparsableReply(f"the reply ended with an error: {_name(error.get('message')) or 'no reason given'}")
    finish = _finish(reply)
    if finish in WITHHELD:
        raise UnparsableReply(f"the reply was withheld (finish_reason {finish})")
    if finish in BROKEN:
        raise UnparsableReply(f"the reply is no finished answer (finish_reason {finish})")
    if isinstance(message, Mapping) and (refusal := _refusal(message)):
        raise UnparsableReply(f"the model refused: {refusal}")
    text = reply_text(reply)
    answer = without_thoughts(text)
    if answer:
        return answer
    thoughts = bool(text.strip()) or (isinstance(message, Mapping) and any(message.get(name) for name in THOUGHTS))
    cut = "; it was cut at max_tokens" if finish in CUT else ""
    raise UnparsableReply(f"the reply holds {'thoughts and no answer' if thoughts else 'no text'}{cut}")


def reply_text(reply: Mapping[str, Any]) -> str:
    """The text of the first choice; of a list of parts those that are text. Raises UnparsableReply."""
    message = _first(reply).get("message")
    if not isinstance(message, Mapping):
        raise UnparsableReply("the reply has no message")
    content = message.get("content")
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, Mapping) and part.get("type") == "text"]
        content = "".join(part for part in parts if isinstance(part, str))
    if content is None:
        return ""
    if not isinstance(content, str):
        raise UnparsableReply("the reply's content is no text")
    return _whole(content)


def without_thoughts(text: str) -> str:
    """The text after a reasoning model's thoughts, stripped."""
    return _UNCLOSED.sub("", _CLOSED.sub("", text)).strip()


def cut_short(reply: Mapping[str, Any]) -> bool:
    """Whether the server says that the text ends at `max_tokens`."""
    return _finish(reply) in CUT


def version(reply: Mapping[str, Any]) -> str:
    """The model that the reply names, and its `system_fingerprint`: what tells that a judge has changed."""
    name, fingerprint = _name(reply.get("model")), _name(reply.get("system_fingerprint"))
    return f"{name} ({fingerprint})" if fingerprint else name


def _name(value: Any) -> str:
    """A name out of a reply as one short printable line."""
    return "".join(c for c in value[:_MAX_NAME] if c.isprintable()) if isinstance(value, str) else ""


def _whole(text: str) -> str:
    """Without halves of surrogate pairs, which JSON can escape and UTF-8 can't hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _first(reply: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = reply.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, Mapping) else {}


def _finish(reply: Mapping[str, Any]) -> str:
    reason = _first(reply).get("finish_reason")
    return reason.lower() if isinstance(reason, str) else ""


def _refusal(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    said = [message.get("refusal"), *(part.get("refusal") for part in parts if isinstance(part, Mapping))]
    return next((name for value in said if (name := _name(value).strip())), "")


def _position_of(verdict: Verdict, answer: str, reply: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The generated token that is the verdict, with its log-probabilities; None if none surely is.

    Servers list the tokens of the answer alone, or of thoughts and answer, or of the thoughts alone: the tokens must
    end with the answer, and what stands before it must be thoughts that are over.
    """
    logprobs = _first(reply).get("logprobs")
    positions = logprobs.get("content") if isinstance(logprobs, Mapping) else None
    if not isinstance(positions, list):
        return None
    tokens: list[str] = []
    for position in positions:
        token = position.get("token") if isinstance(position, Mapping) else None
        if not isinstance(token, str):
            return None
        tokens.append(token)
    text = "".join(tokens)
    text = text.rstrip() if text.rstrip().endswith(answer) else _SPECIAL.sub("", text)
    start = len(text) - len(answer)
    if start < 0 or text[start:] != answer or not _thoughts_are_over(text[:start], reply):
        return None
    place, end = start + verdict.place, 0
    for token, position in zip(tokens, positions, strict=True):
        end += len(token)
        if place < end:
            return position if _label(token) == verdict.label else None
    return None


def _thoughts_are_over(before: str, reply: Mapping[str, Any]) -> bool:
    """Whether an answer may begin after these tokens: after none, a tag that closes, or the message's own thoughts."""
    message = _first(reply)["message"]
    thoughts = [value.strip() for name in THOUGHTS if isinstance(value := message.get(name), str) and value.strip()]
    before = before.strip()
    if not before:
        return True
    return bool(_ENDS_CLOSED.search(before)) or any(before.endswith(thought[-TAIL:]) for thought in thoughts)


def _label(token: Any) -> str:
    return token.strip() if isinstance(token, str) and token.strip() in LABELS else ""


def _from_top(position: Mapping[str, Any]) -> float | None:
    """p(2) / (p(1) + p(2)); None where neither has a probability, or a server says what is none."""
    # A tokenizer may have several tokens for one label ("1", " 1"): their probabilities add up.
    top = position.get("top_logprobs")
    seen: dict[str, float] = {}
    for entry in [*(top if isinstance(top, list) else ()), position]:
        if isinstance(entry, Mapping) and _label(entry.get("token")):
            probability = _probability(entry.get("logprob"))
            if probability is None:
                return None
            seen.setdefault(entry["token"], probability)
    mass = {label: sum(p for token, p in seen.items() if token.strip() == label) for label in LABELS}
    total = mass["1"] + mass["2"]
    return mass["2"] / total if total > 0 else None


def _probability(logprob: Any) -> float | None:
    """0 of no number; None of a number that is no logarithm of a probability."""
    if isinstance(logprob, bool) or not isinstance(logprob, int | float):
        return 0.0
    return math.exp(min(logprob, 0)) if -MOST_NATS < logprob < ROUNDING else 0.0 if logprob <= -MOST_NATS else None
