"""Where an OpenAI-compatible server is and how it is asked: OpenAI, vLLM, Ollama, llama.cpp."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import Field

from stages.base.params import Section


class ServerSettings(Section):
    """One model on one server. `null` leaves a sampling parameter out of the request, as reasoning models need."""

    base_url: str
    """Where the server is, with its version: https://host/v1."""
    model: str
    """As the server calls it."""
    api_key_env: str
    """Name of the environment variable that holds the key; it may be unset for local servers."""
    temperature: Annotated[float, Field(ge=0, le=2)] | None
    """Of sampling; 0 is greedy."""
    max_tokens: Annotated[int, Field(ge=1)] | None
    """Of a reply."""
    concurrency: Annotated[int, Field(ge=1, le=256)]
    """Calls under way at a time."""
    max_retries: Annotated[int, Field(ge=0, le=20)]
    """Of one call; being told to wait (429) is no failure."""
    timeout_s: Annotated[float, Field(gt=0)]
    """For a whole reply."""
    max_cost_usd: Annotated[float, Field(ge=0)]
    """Of one stage instance: above it nothing is called."""
    usd_per_million_input: Annotated[float, Field(ge=0)]
    """Price of tokens sent."""
    usd_per_million_output: Annotated[float, Field(ge=0)]
    """Price of tokens received."""

    def body(self, content: str) -> dict[str, Any]:
        """The request for one user message."""
        body: dict[str, Any] = {"model": self.model, "messages": [{"role": "user", "content": content}]}
        if self.temperature is not None:
            body["temperature"] = self.temperature
        if self.max_tokens is not None:
            body["max_tokens"] = self.max_tokens
        return body


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
