"""What calls cost: an estimate before them, and the bill by the server's own token counts."""

from collections.abc import Iterable, Mapping
from typing import Any

from stages.annotators.server import ServerSettings

CHARACTERS_PER_TOKEN = 4  # English text in the tokenizers of today; for the estimate only
UNBOUNDED_TOKENS = 1000  # a reply without `max_tokens`, as reasoning models write: thoughts are billed as output
MOST_TOKENS = 1 << 40  # of one reply; a larger count is no count


def estimate(bodies: Iterable[Mapping[str, Any]], settings: ServerSettings) -> float:
    """US dollars, before the calls."""
    tokens_in = tokens_out = 0.0
    for body in bodies:
        sent = [body["prompt"]] if "prompt" in body else [message["content"] for message in body["messages"]]
        tokens_in += sum(map(len, sent)) / CHARACTERS_PER_TOKEN
        tokens_out += body.get("max_tokens", UNBOUNDED_TOKENS)
    return (tokens_in * settings.usd_per_million_input + tokens_out * settings.usd_per_million_output) / 1e6


def price(reply: Mapping[str, Any], settings: ServerSettings) -> float:
    """US dollars of one reply, by the `usage` that came with it; 0 where a server counts nothing."""
    tokens_in, tokens_out = billed_tokens(reply.get("usage"))
    return (tokens_in * settings.usd_per_million_input + tokens_out * settings.usd_per_million_output) / 1e6


def billed_tokens(usage: Any) -> tuple[int, int]:
    """(Tokens sent, tokens received) of a reply's `usage`, tokens of thoughts counted once.

    OpenAI counts thoughts among the completion tokens, xAI and Gemini beside them: there the total is larger than
    prompt and completion. Without a total, more tokens of thoughts than of the completion can't be among these.
    """
    if not isinstance(usage, Mapping):
        return 0, 0
    prompt = _count(usage, "prompt_tokens", "input_tokens")
    completion = _count(usage, "completion_tokens", "output_tokens")
    total = _count(usage, "total_tokens")
    details = [usage.get("completion_tokens_details"), usage.get("output_tokens_details"), usage]
    thoughts = max(_count(found, "reasoning_tokens") for found in details)
    beside = thoughts if thoughts > completion else 0
    if not prompt:  # not said: what the total leaves
        prompt = max(0, total - completion - beside)
    return prompt, max(completion + beside, total - prompt)


def counts_tokens(reply: Mapping[str, Any]) -> bool:
    """Whether a reply says what it cost."""
    return billed_tokens(reply.get("usage"))[0] > 0


def _count(usage: Any, *names: str) -> int:
    """The first of these token counts that a reply has, which may hold anything; 0 if none is a count."""
    for name in names:
        value = usage.get(name) if isinstance(usage, Mapping) else None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value < MOST_TOKENS:
            return value
    return 0
