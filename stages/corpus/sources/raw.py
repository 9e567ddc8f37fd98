"""Pages as a source gives them: what they hold, what is wrong with them, where they stood; rows and texts as pages."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stages.base.errors import InputError
from stages.corpus.sources.charset import is_utf8

DAMAGE = frozenset(("damaged", "bad_digest", "bad_encoding"))  # bytes lost or changed since the source was written
MARK = b"<!doctype text>\n"  # of plain text in a table of HTML pages: extraction hands it on as it is
TEXT_COLUMNS, METADATA = ("html", "text", "content"), ("metadata", "meta")
# Anything but white space, control characters, and characters without width.
VISIBLE = re.compile(
    "[^\\s\\x00-\\x1f\\x7f-\\x9f\\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff]"
)


@dataclass(frozen=True)
class Raw:
    """A page as its source gives it, or what stands where a page should be."""

    url: str
    html: bytes
    licence: str = ""
    opt_out: str = ""  # signals of the HTTP headers, as in PAGE
    problem: str = ""  # "" or the reason why it can't be used
    where: str = ""  # file@offset or file:line
    detail: str = ""  # of the problem
    remarks: tuple[str, ...] = ()  # wrong_charset, nul_bytes: worth counting, no reason to drop


def remarks(page: bytes, known: bool) -> tuple[str, ...]:
    """What is worth counting about a page; `known`: its charset is what it should be."""
    return ("wrong_charset",) * (not known) + ("nul_bytes",) * (b"\0" in page)


def wrap(text: str) -> bytes:
    """Plain text as a page."""
    return MARK + text.encode("utf-8", "replace")


def unwrap(page: bytes) -> str | None:
    """The text of a wrapped page, or None for HTML."""
    return page[len(MARK) :].decode("utf-8", "replace") if page.startswith(MARK) else None


def is_empty(page: bytes) -> bool:
    """Whether there is nothing to read: of a wrapped text, no character that can be seen."""
    text = unwrap(page)
    return not page.strip(b"\0\t\n\x0c\r ") if text is None else VISIBLE.search(text) is None


def as_page(row: Mapping[str, Any], url: str, where: str, column: str | None = None, well_formed: bool = True) -> Raw:
    """The page of a row with `html`, `text` or `content`, and maybe a `url`, its own or its `metadata`'s (Dolma, The
    Pile); the one given stands in for that.

    Values are texts, or bytes that should be UTF-8: what isn't is replaced, and remarked as `wrong_charset`, as is all
    that was not `well_formed` where it was read. HTML in bytes stays as it is: it may declare another charset. A null
    is an empty page. Raises InputError where there is no such column, or no text in it.
    """
    present = [name for name in ([column] if column else TEXT_COLUMNS) if name in row]
    used = next((name for name in present if row[name] is not None), None)
    value = b"" if present and used is None else row.get(used or "")
    if not isinstance(value, str | bytes):
        raise InputError(f"{where}: no text in {f'`{column}`' if column else 'any of: ' + ', '.join(TEXT_COLUMNS)}")
    own = next(filter(None, (_url_of(place) for place in (row, *map(row.get, METADATA)))), "")
    url = own.encode("utf-8", "replace").decode() if own else url
    as_it_is = used == "html" or not value
    body = value.encode("utf-8", "replace") if isinstance(value, str) else value
    known = well_formed and (as_it_is or is_utf8(body))
    page = body if as_it_is else wrap(body.decode("utf-8", "replace"))
    return Raw(url, page, where=where, remarks=remarks(page, known))


def _url_of(row: Any) -> str:
    url = row.get("url") if isinstance(row, Mapping) else None
    return url if isinstance(url, str) else ""
