"""Where an OpenAI-compatible server is and how it is asked: OpenAI, vLLM, Ollama, llama.cpp."""

from typing import Annotated, Any

from pydantic import Field

from stages.base.params import Section


class ServerSettings(Section):
    """One model on one server. `null` leaves a sampling parameter out of the request, as reasoning models need."""

    base_url: str
    model: str
    api_key_env: str  # name of the environment variable that holds the key; may be unset for local servers
    temperature: Annotated[float, Field(ge=0, le=2)] | None
    max_tokens: Annotated[int, Field(ge=1)] | None
    concurrency: Annotated[int, Field(ge=1, le=256)]  # calls under way at a time
    max_retries: Annotated[int, Field(ge=0, le=20)]  # of one call; being told to wait (429) is no failure
    timeout_s: Annotated[float, Field(gt=0)]  # for a whole reply
    max_cost_usd: Annotated[float, Field(ge=0)]
    usd_per_million_input: Annotated[float, Field(ge=0)]
    usd_per_million_output: Annotated[float, Field(ge=0)]

    def body(self, content: str) -> dict[str, Any]:
        """The request for one user message."""
        body: dict[str, Any] = {"model": self.model, "messages": [{"role": "user", "content": content}]}
        if self.temperature is not None:
            body["temperature"] = self.temperature
        if self.max_tokens is not None:
            body["max_tokens"] = self.max_tokens
        return body
