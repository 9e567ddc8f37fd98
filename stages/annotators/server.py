"""Where an OpenAI-compatible server is and how it is asked: OpenAI, vLLM, Ollama, llama.cpp."""

import os
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import Field

from stages.base.errors import InputError, ParamError
from stages.base.params import Section
from stages.base.redaction import redacted, secrets_in

DEFAULT_PORTS = {"http": 80, "https": 443}


def normal_url(base_url: str) -> str:
    """One spelling of a server: no slash at the end, no default port, scheme and host in lower case, no user."""
    try:
        parts = urlsplit(base_url.strip())
        port = parts.port
    except ValueError:
        raise ParamError(f"`base_url` {base_url.rpartition('@')[2]!r} is no address; write https://host/v1") from None
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
        raise ParamError(f"`base_url` {base_url.rpartition('@')[2]!r} is no address; write https://host/v1")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    place = host if port in (None, DEFAULT_PORTS[parts.scheme]) else f"{host}:{port}"
    return f"{parts.scheme}://{place}{parts.path.rstrip('/')}" + (f"?{parts.query}" if parts.query else "")


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
    timeout_s: Annotated[float, Field(gt=0, le=1e6)]
    """For a whole reply."""
    max_cost_usd: Annotated[float, Field(ge=0)]
    """Of one stage instance: above it nothing is called."""
    usd_per_million_input: Annotated[float, Field(ge=0)]
    """Price of tokens sent."""
    usd_per_million_output: Annotated[float, Field(ge=0)]
    """Price of tokens received."""

    @property
    def server(self) -> str:
        """The server's name in messages: without what may be a key in its query."""
        return normal_url(self.base_url).partition("?")[0]

    @property
    def key(self) -> str:
        """The key, "" where none is set. Raises InputError, without the key, for one that no header can carry."""
        key = os.environ.get(self.api_key_env, "").strip()
        if not (key.isascii() and key.isprintable()):
            raise InputError(f"the key in ${self.api_key_env} holds characters that no key has; copy it again")
        return key

    def redacted(self, value: Any) -> Any:
        """A reply, or a text, without what must never be kept or shown and a server may echo: the key, and a user,
        password or key out of base_url. Raises RecursionError for a reply that is nested to death.
        """
        return redacted(value, {self.key, *secrets_in(self.base_url)})

    def body(self, content: str) -> dict[str, Any]:
        """The request for one user message."""
        body: dict[str, Any] = {"model": self.model, "messages": [{"role": "user", "content": content}]}
        if self.temperature is not None:
            body["temperature"] = self.temperature
        if self.max_tokens is not None:
            body["max_tokens"] = self.max_tokens
        return body
