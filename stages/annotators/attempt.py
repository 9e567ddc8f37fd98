"""One try of one call: the reply, or whether another try can help, and when."""

import json
from collections.abc import Mapping
from typing import Any

from stages.annotators.refusal import TOLD, Refused, TryAgain, error_within, meaning
from stages.annotators.server import ServerSettings

MAX_REPLY_BYTES = 8 << 20


def open_client(settings: ServerSettings) -> Any:
    """An `openai.AsyncOpenAI` for the server."""
    import openai  # 1.2 s of import: only when there is something to ask

    return openai.AsyncOpenAI(
        api_key=settings.key or "none",
        base_url=settings.base_url,
        max_retries=0,  # the client's own back-off would hold a place
        timeout=settings.timeout_s,
    )


async def attempt(client: Any, body: Mapping[str, Any], settings: ServerSettings) -> dict[str, Any]:
    """The chat completion, or of a `prompt` the completion, as the server gave it, without the key. Raises TryAgain;
    InputError where every call would fail alike; Refused where no further try of this one can help.
    """
    import openai

    endpoint = client.completions if "prompt" in body else client.chat.completions
    try:
        async with endpoint.with_streaming_response.create(**body) as response:
            data = await _read(response, settings)
    except openai.APIStatusError as error:
        said = error.body if error.body is not None else error.message
        raise meaning(error.status_code, said, error.response.headers, body, settings, type(error).__name__) from None
    except openai.OpenAIError as error:
        raise TryAgain(_line(error, settings)) from None
    try:
        content = settings.redacted(json.loads(data))
        json.dumps(content)  # as the cache will
    except (ValueError, RecursionError):
        raise TryAgain("the reply is no JSON") from None
    if not isinstance(content, dict):
        raise TryAgain(f"the reply is no chat completion: {str(content)[:80]!r}")
    if isinstance(content.get("choices"), list) and (content["choices"] or "error" not in content):
        return content
    if (found := error_within(content)) is not None:
        failure = meaning(*found, {}, body, settings, "an error as a reply,")
        if isinstance(failure, TryAgain):
            failure.reply = content
        raise failure
    raise TryAgain(f"the reply is no chat completion: {str(content)[:80]!r}", reply=content)


async def _read(response: Any, settings: ServerSettings) -> bytes:
    data = bytearray()
    try:
        async for chunk in response.iter_bytes():
            data += chunk
            if len(data) > MAX_REPLY_BYTES:
                break
    except Exception as error:  # of whichever HTTP library the client stands on: the connection was lost in the reply
        raise TryAgain(_line(error, settings)) from None
    if len(data) > MAX_REPLY_BYTES:
        raise Refused(f"the reply has more than {MAX_REPLY_BYTES} bytes", own=True)
    return bytes(data)


def _line(error: Exception, settings: ServerSettings) -> str:
    return f"{type(error).__name__}: {' '.join(settings.redacted(str(error)).split())[:TOLD]!r}"
