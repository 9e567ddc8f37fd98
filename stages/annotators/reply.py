"""A judge's reply as a preference: from the log-probabilities of its answer token, or from its text."""

import math
import re
from typing import Any

LABELS = ("1", "2")
_THOUGHT = re.compile(r"<think>.*?(</think>|\Z)", re.DOTALL)
_ANSWER = re.compile(r"(?<![\w.])([12])(?![\w.]*\w)")


class UnparsableReply(ValueError):
    """The reply names neither answer, or both."""


def second_preferred(reply: dict[str, Any]) -> float:
    """P(the answer shown second is better) in [0, 1], from one chat completion as a plain dict.

    With log-probabilities: p(2) / (p(1) + p(2)) at the first position where a label was generated, as AlpacaEval 2's
    `logprob_parser` weighs its two labels. Without them: 0 or 1 from the text, thoughts of a reasoning model removed;
    one label must be the only one mentioned. Raises UnparsableReply.
    """
    try:
        choice = reply["choices"][0]
        text = choice["message"]["content"] or ""
    except (KeyError, IndexError, TypeError):
        raise UnparsableReply("the reply has no message") from None
    if not isinstance(text, str):
        raise UnparsableReply("the reply's content is no text")
    logprobs = choice.get("logprobs") or {}
    for position in logprobs.get("content") or ():
        if position["token"].strip() in LABELS:
            return _from_top(position)
    answer = _THOUGHT.sub("", text).strip()
    labels = set(_ANSWER.findall(answer))
    if len(labels) != 1:
        raise UnparsableReply(f"the reply is neither 1 nor 2: {answer[:80]!r}")
    return float(labels == {"2"})


def _from_top(position: dict[str, Any]) -> float:
    # A tokenizer may have several tokens for one label ("1", " 1"): their probabilities add up.
    mass = dict.fromkeys(LABELS, 0.0)
    seen = {top["token"]: top["logprob"] for top in position.get("top_logprobs") or ()}
    seen.setdefault(position["token"], position["logprob"])
    for token, logprob in seen.items():
        if token.strip() in LABELS:
            mass[token.strip()] += math.exp(min(0.0, logprob))
    total = mass["1"] + mass["2"]
    if not total > 0:
        raise UnparsableReply("the reply's label has probability 0")
    return mass["2"] / total
