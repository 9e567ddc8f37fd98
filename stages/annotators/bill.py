"""What calls cost: estimated before the first one, counted from the server's own token counts afterwards."""

from collections.abc import Iterable, Mapping
from typing import Any

from stages.annotators.server import ServerSettings

CHARACTERS_PER_TOKEN = 4  # English text in the tokenizers of today; for the estimate only
UNBOUNDED_TOKENS = 1000  # a reply without `max_tokens`, as reasoning models write: thoughts are billed as output


def estimate(bodies: Iterable[Mapping[str, Any]], settings: ServerSettings) -> float:
    """US dollars, before the calls."""
    tokens_in = tokens_out = 0.0
    for body in bodies:
        tokens_in += sum(len(message["content"]) for message in body["messages"]) / CHARACTERS_PER_TOKEN
        tokens_out += body.get("max_tokens", UNBOUNDED_TOKENS)
    return (tokens_in * settings.usd_per_million_input + tokens_out * settings.usd_per_million_output) / 1e6


def price(reply: Mapping[str, Any], settings: ServerSettings) -> float:
    """US dollars of one reply, by the `usage` that came with it; 0 where a server counts nothing."""
    usage = reply.get("usage")
    if not isinstance(usage, Mapping):
        return 0.0
    tokens_in, tokens_out = (_count(usage.get(name)) for name in ("prompt_tokens", "completion_tokens"))
    return (tokens_in * settings.usd_per_million_input + tokens_out * settings.usd_per_million_output) / 1e6


def _count(value: Any) -> int:
    """A token count out of a reply, which may hold anything."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 40 else 0
