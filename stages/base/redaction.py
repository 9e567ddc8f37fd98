"""Keys and passwords, taken out of all that is kept or shown: replies and errors of servers, logs, pages of MLflow.

They come from the environment (`…_KEY`, `…_TOKEN`, `…_PASSWORD`, `…_SECRET`) and stand within addresses
(`https://user:password@host`).
"""

import base64
import os
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit, urlunsplit

REDACTED = "[key]"
SHORTEST_SECRET = 6  # characters; anything shorter is no secret, and would be found in any text
# What people set where a server asks for no key: they hide nothing, and may be words of an answer.
PLACEHOLDERS = {"none", "empty", "dummy", "ollama", "lm-studio", "local", "test", "no-key", "not-needed", "token"}
_VARIABLE = re.compile(r"(?:^|_)(?:API_?KEY|ACCESS_KEY|KEY|TOKEN|PASSWORD|PASSWD|SECRET)$")
_PARAMETER = re.compile(
    r"(?:^|[_-])(?:api_?key|key|token|password|passwd|secret|sig|signature)$", re.IGNORECASE
)  # of an address's query
_USER = re.compile(r"(?<=://)[^\s/@?#]*:[^\s/@?#]*@")


def secrets_in(address: str) -> set[str]:
    """User, password and keys in the query of an address, as they stand, decoded and as a header carries them."""
    try:
        parts = urlsplit(address.strip())
        user, password = parts.username or "", parts.password or ""
    except ValueError:
        return set()
    words = [user, password, *(value for name, value in parse_qsl(parts.query) if _PARAMETER.search(name))]
    pair = f"{unquote(user)}:{unquote(password)}"
    header = base64.b64encode(pair.encode()).decode() if password else ""
    return _worth_hiding({*words, *map(unquote, words), header})


def environment_secrets() -> set[str]:
    """Of the variables that are named as keys are, and of addresses in any other; paths are none."""
    found: set[str] = set()
    for name, value in os.environ.items():
        if _VARIABLE.search(name.upper()) and not value.startswith("/"):
            found.add(value.strip())
        elif "://" in value:
            found |= secrets_in(value)
    return _worth_hiding(found)


def redacted(value: Any, secrets: Iterable[str]) -> Any:
    """Plain values, or a text, with `[key]` for each secret. Raises RecursionError for what is nested to death."""
    spelt = {form for secret in _worth_hiding(set(secrets)) for form in (secret, quote(secret, safe=""))}
    return _without(value, sorted(spelt, key=len, reverse=True)) if spelt else value


def for_the_eye(text: str) -> str:
    """A text that is to be printed or logged, without the environment's keys and without users in addresses."""
    return _USER.sub(f"{REDACTED}@", redacted(text, environment_secrets()))


def without_user(address: str) -> str:
    """An address without user and password."""
    parts = urlsplit(address)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _worth_hiding(words: set[str]) -> set[str]:
    return {word for word in words if len(word) >= SHORTEST_SECRET and word.lower() not in PLACEHOLDERS}


def _without(value: Any, secrets: list[str]) -> Any:
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, REDACTED)
        return value
    if isinstance(value, list):
        return [_without(item, secrets) for item in value]
    if isinstance(value, dict):
        return {_without(name, secrets): _without(item, secrets) for name, item in value.items()}
    return value
