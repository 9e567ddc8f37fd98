"""One try of one call: the reply, or whether another try can help, and when."""

import json
import os
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from stages.annotators.server import ServerSettings
from stages.base.errors import InputError

LONGEST_RETRY_AFTER_S = 120.0  # what a server may ask for
MAX_REPLY_BYTES = 8 << 20
OWN_PARAMETERS = ("top_logprobs", "logprobs", "max_tokens", "temperature")
_REFUSED = r"unsupported|not support|unrecognized|unknown|unexpected|not permitted"
_REFUSED_PARAMETER = re.compile(
    rf"(?:{_REFUSED}).{{0,40}}\b({'|'.join(OWN_PARAMETERS)})\b|\b({'|'.join(OWN_PARAMETERS)})\b.{{0,40}}(?:{_REFUSED})",
    re.IGNORECASE,
)


class TryAgain(Exception):
    """Why, how long the server asks us to wait (None: it doesn't say), and whether it only limits our rate."""

    def __init__(self, why: str, wait: float | None = None, limited: bool = False) -> None:
        super().__init__(why)
        self.why, self.wait, self.limited = why, wait, limited


def open_client(settings: ServerSettings) -> Any:
    """An `openai.AsyncOpenAI` for the server."""
    import openai  # 1.2 s of import: only when there is something to ask

    return openai.AsyncOpenAI(
        api_key=os.environ.get(settings.api_key_env) or "none",
        base_url=settings.base_url,
        max_retries=0,  # the client's own back-off would hold a place
        timeout=settings.timeout_s,
    )


async def attempt(client: Any, body: Mapping[str, Any], settings: ServerSettings) -> dict[str, Any]:
    """The chat completion as the server gave it. Raises TryAgain; InputError where every call would fail alike;
    ValueError where no further try of this one can help.
    """
    import openai

    try:
        async with client.chat.completions.with_streaming_response.create(**body) as response:
            data = await _read(response)
    except openai.APIStatusError as error:
        raise _of_status(error, settings) from None
    except openai.OpenAIError as error:
        raise TryAgain(_line(error)) from None
    try:
        content = json.loads(data)
        json.dumps(content)  # as the cache will
    except (ValueError, RecursionError):
        raise TryAgain("the reply is no JSON") from None
    if not isinstance(content, dict) or not content.get("choices"):
        # Some gateways report errors with status 200.
        raise TryAgain(f"the reply is no chat completion: {str(content)[:80]!r}")
    return content


async def _read(response: Any) -> bytes:
    data = bytearray()
    try:
        async for chunk in response.iter_bytes():
            data += chunk
            if len(data) > MAX_REPLY_BYTES:
                break
    except Exception as error:  # of whichever HTTP library the client stands on: the connection was lost in the reply
        raise TryAgain(_line(error)) from None
    if len(data) > MAX_REPLY_BYTES:
        raise ValueError(f"the reply has more than {MAX_REPLY_BYTES} bytes")
    return bytes(data)


def _of_status(error: Any, settings: ServerSettings) -> Exception:
    status, told = error.status_code, _line(error)
    body = error.body if isinstance(error.body, dict) else {}
    if status in (401, 402, 403, 404) or (status == 429 and body.get("code") == "insufficient_quota"):
        return InputError(
            f"{settings.base_url} refuses calls ({status}): check `model`, `base_url` and the key in "
            f"${settings.api_key_env}; it says: {told}"
        )
    if status == 400:
        match = _REFUSED_PARAMETER.search(told)
        named = body.get("param") or (match and (match[1] or match[2]))
        if named in OWN_PARAMETERS:
            off = "logprobs: false" if "logprobs" in named else f"{named}: null"
            return InputError(
                f"{settings.base_url} takes no `{named}` for {settings.model}: set `{off}`; it says: {told}"
            )
    if status in (408, 409, 429) or status >= 500:
        return TryAgain(told, _retry_after(error.response.headers), status == 429)
    return ValueError(told)


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]!r}"


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks us to wait, from `retry-after-ms` or `Retry-After` (seconds or a date)."""
    text = headers.get("retry-after-ms") or headers.get("retry-after")
    if not text:
        return None
    try:
        seconds = float(text) / (1000 if "retry-after-ms" in headers else 1)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return None
    return min(seconds, LONGEST_RETRY_AFTER_S) if seconds >= 0 else None
