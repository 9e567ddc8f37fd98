"""A judge's reply as a preference: from the log-probabilities of its answer token, or from its text.

A reply is whatever JSON a server sent. Nothing here trusts its shape.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LABELS = ("1", "2")
# Models write thoughts in tags of several names. Some servers put the opening tag into the prompt, so that the reply
# has only the closing one; a reply cut off while thinking has only the opening one.
_TAGS = r"think|thinking|thought|reasoning|analysis"
_CLOSED = re.compile(rf"\A.*(?:</(?:{_TAGS})>|\[/THINK\])", re.DOTALL | re.IGNORECASE)
_UNCLOSED = re.compile(rf"(?:<(?:{_TAGS})>|\[THINK\]).*\Z", re.DOTALL | re.IGNORECASE)
_ANSWER = re.compile(r"(?<![\w.])([12])(?![\w.]*\w)")
_MAX_NAME = 100


class UnparsableReply(ValueError):
    """The reply names neither answer, or both."""


@dataclass(frozen=True)
class Choice:
    second: float  # P(the answer shown second is better), 0 .. 1
    weighted: bool  # from log-probabilities; else 0 or 1 from the text


def read_choice(reply: Mapping[str, Any]) -> Choice:
    """What one chat completion, as a plain dict, says. Raises UnparsableReply.

    With log-probabilities: p(2) / (p(1) + p(2)) at the first position where a label was generated, as AlpacaEval 2's
    `logprob_parser` weighs its two labels. Without them: 0 or 1 from the text, thoughts of a reasoning model removed;
    one label must be the only one mentioned.
    """
    text = reply_text(reply)
    answer = without_thoughts(text)
    # The log-probabilities of thoughts come first, and a thought may hold a label.
    position = _label_position(reply) if answer == text.strip() else None
    if position is not None:
        return Choice(_from_top(position), True)
    labels = set(_ANSWER.findall(answer))
    if len(labels) != 1:
        raise UnparsableReply(f"the reply is neither 1 nor 2: {answer[:80]!r}")
    return Choice(float(labels == {"2"}), False)


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
    # Half of a surrogate pair, which JSON can escape and UTF-8 can't hold.
    return content.encode("utf-8", "replace").decode("utf-8")


def without_thoughts(text: str) -> str:
    """The text after a reasoning model's thoughts, stripped."""
    return _UNCLOSED.sub("", _CLOSED.sub("", text)).strip()


def cut_short(reply: Mapping[str, Any]) -> bool:
    """Whether the server says that the text ends at `max_tokens`."""
    return _first(reply).get("finish_reason") == "length"


def version(reply: Mapping[str, Any]) -> str:
    """The model that the reply names, and its `system_fingerprint`: what tells that a judge has changed."""
    name, fingerprint = _name(reply.get("model")), _name(reply.get("system_fingerprint"))
    return f"{name} ({fingerprint})" if fingerprint else name


def _name(value: Any) -> str:
    """A name out of a reply as one short printable line."""
    return "".join(c for c in value[:_MAX_NAME] if c.isprintable()) if isinstance(value, str) else ""


def _first(reply: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = reply.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, Mapping) else {}


def _label_position(reply: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The first generated token that is a label, with its log-probabilities."""
    logprobs = _first(reply).get("logprobs")
    positions = logprobs.get("content") if isinstance(logprobs, Mapping) else None
    for position in positions if isinstance(positions, list) else ():
        if isinstance(position, Mapping) and _label(position.get("token")):
            return position
    return None


def _label(token: Any) -> str:
    return token.strip() if isinstance(token, str) and token.strip() in LABELS else ""


def _from_top(position: Mapping[str, Any]) -> float:
    # A tokenizer may have several tokens for one label ("1", " 1"): their probabilities add up.
    top = position.get("top_logprobs")
    seen: dict[str, float] = {}
    for entry in [*(top if isinstance(top, list) else ()), position]:
        if isinstance(entry, Mapping) and _label(entry.get("token")):
            seen.setdefault(entry["token"], _probability(entry.get("logprob")))
    mass = {label: sum(p for token, p in seen.items() if token.strip() == label) for label in LABELS}
    total = mass["1"] + mass["2"]
    if not total > 0:
        raise UnparsableReply("the reply's label has probability 0")
    return mass["2"] / total


def _probability(logprob: Any) -> float:
    if isinstance(logprob, bool) or not isinstance(logprob, int | float) or math.isnan(logprob):
        return 0.0
    return math.exp(min(0.0, logprob))
