"""What clients of OpenAI's protocol send and are sent: checked bodies, and replies, whole or in chunks."""

import json
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stages.lm.template import is_unicode
from stages.publishing.serve.engine import Scored

MOST_CHOICES = 128  # of one body: prompts times n
MOST_TOPS = 20  # likeliest tokens named
MOST_STOPS, LONGEST_STOP = 16, 1000
DEFAULT_COMPLETION = 16  # tokens of a completion that names no number, as OpenAI's

Body = dict[str, Any]
Checked = TypeVar("Checked", bound=BaseModel)


class ApiError(Exception):
    """A refusal in OpenAI's shape."""

    def __init__(
        self, message: str, *, status: int = 400, param: str | None = None, code: str | None = None, kind: str = ""
    ) -> None:
        super().__init__(message)
        self.status = status
        kind = kind or ("invalid_request_error" if status < 500 and status != 429 else "server_error")
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class TextPart(Strict):
    type: Literal["text"]
    text: str


class ChatMessage(Strict):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]
    name: str | None = None

    @property
    def plain(self) -> dict[str, str]:
        """As chat templates read it: a developer is the system of newer models."""
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return {"role": "system" if self.role == "developer" else self.role, "content": text}


class StreamOptions(Strict):
    include_usage: bool = False
    include_obfuscation: bool = False


class ResponseFormat(Strict):
    type: Literal["text"]


NOT_SUPPORTED = {  # refused by name, with what is taken
    "frequency_penalty": "only 0",
    "presence_penalty": "only 0",
    "logit_bias": "only {}",
    "suffix": "only an empty one",
    "tools": "only []",
    "response_format": 'only {"type": "text"}',
}
Zero = Annotated[float, Field(ge=0, le=0)]
Stop = Annotated[str, Field(min_length=1, max_length=LONGEST_STOP)]


class Sampling(Strict):
    """What both kinds of request share. What isn't done here is refused unless it has no effect; nothing is ignored
    that would change an answer."""

    model: str
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=MOST_STOPS)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    frequency_penalty: Zero | None = None
    presence_penalty: Zero | None = None
    logit_bias: Annotated[dict[str, float], Field(max_length=0)] | None = None
    user: str | None = None

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage


class ChatRequest(Sampling):
    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MOST_TOPS)] | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[list[Any], Field(max_length=0)] | None = None
    tool_choice: Literal["none", "auto"] | None = None
    metadata: dict[str, str] | None = None
    store: bool | None = None
    service_tier: str | None = None


class CompletionRequest(Sampling):
    prompt: str | list[str] | list[int] | list[list[int]] = ""
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=MOST_TOPS)] | None = None
    best_of: int | None = None
    suffix: Annotated[str, Field(max_length=0)] | None = None

    @property
    def prompts(self) -> list[str] | list[list[int]]:
        prompt: Any = self.prompt
        if isinstance(prompt, str):
            return [prompt]
        return [prompt] if prompt and isinstance(prompt[0], int) else prompt


def read_body(raw: bytes, kind: type[Checked]) -> Checked:
    """Raises ApiError, with the field's name, for what isn't such a body."""
    try:
        value = json.loads(raw.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ApiError(f"the body is not valid JSON: {str(error)[:200]}") from None
    if not isinstance(value, dict):
        raise ApiError("the body is not a JSON object")
    if not is_unicode(json.dumps(value, ensure_ascii=False)):
        raise ApiError("the body holds half of a surrogate pair, which is no text")
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        param = ".".join(str(part) for part in first["loc"][:1]) or None
        message, code = first["msg"], None
        if first["type"] == "extra_forbidden" and len(first["loc"]) == 1:
            message, code = "unknown parameter", "unknown_parameter"
        elif param in NOT_SUPPORTED:
            message, code = f"not supported here; {NOT_SUPPORTED[param]} is taken", "unsupported_parameter"
        elif param == "stop":
            message = f"must be a text or a list of at most {MOST_STOPS}, each of 1 to {LONGEST_STOP:,} characters"
        raise ApiError(f"{param or 'body'}: {message}", param=param, code=code) from None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


# ---------------------------------------------------------------------------------------------------- replies

Name = Callable[[int], str]  # what a token looks like


def chat_logprobs(scored: list[Scored], name: Name) -> Body:
    def entry(token: int, logprob: float | None) -> Body:
        text = name(token)
        # Part of a character has no text of its own.
        return {"token": text, "logprob": logprob, "bytes": None if "\ufffd" in text else list(text.encode())}

    content = [
        entry(one.token, one.logprob) | {"top_logprobs": [entry(token, nats) for token, nats in one.top]}
        for one in scored
    ]
    return {"content": content, "refusal": None}


def completion_logprobs(scored: list[Scored], name: Name, offset: int) -> Body:
    """offset: characters that stand before the first of these tokens."""
    texts = [name(one.token) for one in scored]
    offsets = []
    for text in texts:
        offsets.append(offset)
        offset += len(text)
    return {
        "tokens": texts,
        "token_logprobs": [one.logprob for one in scored],
        "top_logprobs": [None if one.logprob is None else _by_name(one, name) for one in scored],
        "text_offset": offsets,
    }


def _by_name(one: Scored, name: Name) -> dict[str, float]:
    """The likeliest, and the token itself; of two tokens that look the same the likelier."""
    found: dict[str, float] = {}
    for token, nats in [*one.top, (one.token, one.logprob or 0.0)]:
        found[name(token)] = max(nats, found.get(name(token), nats))
    return found


def usage(prompt: int, completion: int) -> Body:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def event(value: Body | str) -> bytes:
    """One event of a stream."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, allow_nan=False)
    return f"data: {text}\n\n".encode()
