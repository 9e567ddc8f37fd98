"""A server's error as what it means for the run: try again, give up this one call, or end at once.

Servers say the same thing in many words: those of OpenAI, vLLM, Mistral, llama.cpp, Ollama, LiteLLM, OpenRouter, Gemini
and of FastAPI's validation are read here.
"""

import json
import re
import time
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from stages.annotators.server import ServerSettings
from stages.base.errors import InputError

LONGEST_RETRY_AFTER_S = 120.0  # what a server may ask for
TOLD = 200  # characters of a server's words that are shown
OWN_PARAMETERS = ("top_logprobs", "logprobs", "max_tokens", "temperature")
REMEDIES = {
    "logprobs": "set `logprobs: false`",
    "top_logprobs": "set `logprobs: false`",
    "max_tokens": "set `max_tokens: null`, or fewer",
    "temperature": "set `temperature: null`, or one that it takes",
}
_OWN = rf"\b({'|'.join(OWN_PARAMETERS)})\b"
_REFUSED = (
    r"unsupported|not (?:be )?support|n[’']t support|unrecognized|unknown|unexpected|not permitted|not allowed|"
    r"extra_forbidden|not a valid field|greater than max"
)
_REFUSED_PARAMETER = re.compile(rf"(?:{_REFUSED}).{{0,60}}?{_OWN}|{_OWN}.{{0,60}}?(?:{_REFUSED})", re.IGNORECASE)
_UNKNOWN_FIELD = re.compile(
    r"(?:unrecognized request arguments? supplied|unknown (?:name|field|parameter|argument)|"
    r"unsupported (?:parameter|argument|field)|unexpected (?:keyword )?(?:argument|parameter|field))s?\W{1,6}(\w+)"
    r"|extra_forbidden\W{1,6}loc\W{1,8}body\W{1,6}(\w+)",
    re.IGNORECASE,
)
_UNKNOWN_CODES = {"unsupported_parameter", "unknown_parameter", "unsupported_value", "extra_forbidden"}
_TOO_LONG = re.compile(
    r"context|prompt|input (?:tokens|length)|your (?:request|messages)|reduce the length",
    re.IGNORECASE | re.DOTALL,
)
_FLAGGED = re.compile(
    r"content[_ ](?:policy|filter|management|moderation)|moderation|flagged|safety|responsible ?ai|harmful|"
    r"invalid_prompt|usage polic",
    re.IGNORECASE,
)
_QUOTA = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active")


class TryAgain(Exception):
    """Why, how long the server asks us to wait (None: it doesn't say), and whether it only limits our rate; `reply`:
    what it sent and bills for, though it is no chat completion.
    """

    def __init__(
        self, why: str, wait: float | None = None, limited: bool = False, reply: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(why)
        self.why, self.wait, self.limited, self.reply = why, wait, limited, reply or {}


class Refused(ValueError):
    """No further try of this call can help. `own`: the call's own prompt is at fault, too long or flagged."""

    def __init__(self, why: str, own: bool) -> None:
        super().__init__(why)
        self.own = own


def meaning(
    status: int, body: Any, headers: Mapping[str, str], sent: Mapping[str, Any], settings: ServerSettings, name: str
) -> Exception:
    """TryAgain, Refused, or InputError where every call would fail alike, for an error that a server answered with.

    `body`: what it sent, JSON or text; `sent`: the request; `name`: of the error, for its line.
    """
    body = settings.redacted(body)
    words = _words(body)
    told = f"{name} {status}: {' '.join(words.split())[:TOLD]!r}"
    inner = body if isinstance(body, Mapping) else {}
    too_long, flagged = bool(_TOO_LONG.search(words)), bool(_FLAGGED.search(words))
    field = None if status in (401, 402, 408, 429) else _refused_field(inner, words, sent, too_long)
    if field is not None and not (flagged and field not in REMEDIES):
        remedy = REMEDIES.get(field, "it is no parameter of ours: check `base_url` and what stands before the server")
        return InputError(f"{settings.server} takes no `{field}` for {settings.model}: {remedy}; it says: {told}")
    if flagged and status in (400, 403, 422, 451):
        return Refused(told, own=True)
    if status in (401, 402, 403, 404, 405, 410) or (
        status == 429 and {inner.get("code"), inner.get("type")} & {*_QUOTA}
    ):
        return InputError(
            f"{settings.server} refuses calls ({status}): check `model`, `base_url` and the key in "
            f"${settings.api_key_env}; it says: {told}"
        )
    if status in (408, 409, 429) or (status >= 500 and status != 501):
        return TryAgain(told, _retry_after(headers), status == 429)
    return Refused(told, own=too_long or status == 413)


def error_within(content: Mapping[str, Any]) -> tuple[int, Any] | None:
    """(Status, error) of a reply with status 200 that only reports an error, as gateways send them; None for others."""
    error = content.get("error")
    if not isinstance(error, Mapping):
        return None
    code = error.get("code", error.get("status"))
    if isinstance(code, str) and code.isdecimal():
        code = int(code)
    return (code if isinstance(code, int) and 400 <= code < 600 else 500), error


def _words(body: Any) -> str:
    """What a server says: its message where it is a text, else all of it."""
    if isinstance(body, str):
        return body
    if isinstance(body, Mapping):
        for key in ("message", "detail", "error", "msg"):
            value = body.get(key)
            if isinstance(value, str) and value:
                extra = {name: body.get(name) for name in ("code", "type") if body.get(name)}
                metadata = body.get("metadata")  # OpenRouter's: what the provider behind it says
                extra |= {"raw": metadata["raw"]} if isinstance(metadata, Mapping) and metadata.get("raw") else {}
                return f"{value} {json.dumps(extra, ensure_ascii=False)}" if extra else value
    return "no words" if body is None else json.dumps(body, ensure_ascii=False, default=str)


def _refused_field(body: Mapping[str, Any], words: str, sent: Mapping[str, Any], too_long: bool) -> str | None:
    """The field of the request that the server takes from no call alike; None where none is named, or the prompt's
    length is what makes it wrong.
    """
    found = next(_validated(body), None)
    param = body.get("param")
    if found is None and isinstance(param, str) and param:
        last = re.split(r"[.\[\]/]+", param.strip("[]. "))[-1]
        if last in OWN_PARAMETERS or body.get("code") in _UNKNOWN_CODES:
            found = last
    if found is None:
        quoted = " ".join([str(sent.get("prompt")), *(str(one.get("content")) for one in sent.get("messages", ()))])
        for pattern in (_REFUSED_PARAMETER, _UNKNOWN_FIELD):
            # Not the words of a prompt that the server repeats.
            match = next((match for match in pattern.finditer(words) if match[0] not in quoted), None)
            if match:
                found = next(group for group in match.groups() if group)
                break
    return None if found == "max_tokens" and too_long else found


def _validated(value: Any, depth: int = 6) -> Iterator[str]:
    """Fields that FastAPI's validation found unknown, or wrong for a setting of ours."""
    if isinstance(value, Mapping) and depth:
        place, kind = value.get("loc"), str(value.get("type", "")) + str(value.get("msg", ""))
        if isinstance(place, list) and (names := [part for part in place if isinstance(part, str) and part != "body"]):
            unknown = "extra" in kind.lower() or "unknown" in kind.lower()
            if names[-1] in OWN_PARAMETERS or (unknown and "messages" not in names[:-1]):
                yield names[-1]
            return
        for item in value.values():
            yield from _validated(item, depth - 1)
    elif isinstance(value, list) and depth:
        for item in value[:100]:
            yield from _validated(item, depth - 1)


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
