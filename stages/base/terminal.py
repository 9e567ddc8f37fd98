"""Words of others on a terminal: a name out of a corpus, a task or a model can hold what moves the cursor or reorders
what stands beside it."""

import io
import json
import re
import sys
from typing import Any

# Bidirectional overrides and isolates; joiners and soft hyphens belong to words.
_REORDERING = "\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff"
_UNSHOWN = re.compile(f"[\x00-\x1f\x7f-\x9f\ud800-\udfff{_REORDERING}]")


def harmless(text: str) -> str:
    """With U+FFFD for control and reordering characters, line breaks and halves of surrogate pairs."""
    return _UNSHOWN.sub("\ufffd", text)


def one_line(text: str, limit: int | None = None) -> str:
    """On one line, white space as single spaces, of at most `limit` characters; control and reordering characters and
    halves of surrogate pairs are U+FFFD."""
    shown = " ".join(map(harmless, text.split()))
    return shown if limit is None or len(shown) <= limit else shown[: limit - 1] + "…"


def shown_json(value: Any) -> str:
    """JSON for people and programs alike: what a terminal would obey is escaped, which changes no value."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return re.sub(r"[^\n -~]", _escaped, text)


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}" if _UNSHOWN.match(found[0]) else found[0]


def print_in_any_encoding() -> None:
    """A terminal of ASCII or Latin-1 gets what it can't show as `\\u2082`, not an error amid a table."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
