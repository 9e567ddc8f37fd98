"""Rows of a table or of JSON lines as pages: which column holds the text, which the address."""

from collections.abc import Mapping
from typing import Any

from stages.base.errors import InputError
from stages.corpus.sources.charset import is_utf8
from stages.corpus.sources.plain import wrap
from stages.corpus.sources.raw import Raw, remarks

TEXT_COLUMNS = ("html", "text", "content")


def as_page(row: Mapping[str, Any], url: str, where: str, column: str | None = None, well_formed: bool = True) -> Raw:
    """The page of a row with `html`, `text` or `content`, and maybe a `url`; the one given stands in for that.

    Values are texts, or bytes that should be UTF-8: what isn't is replaced, and remarked as `wrong_charset`, as is all
    that was not `well_formed` where it was read. HTML in bytes stays as it is: it may declare another charset. A null
    is an empty page. Raises InputError where there is no such column, or no text in it.
    """
    present = [name for name in ([column] if column else TEXT_COLUMNS) if name in row]
    used = next((name for name in present if row[name] is not None), None)
    value = b"" if present and used is None else row.get(used or "")
    if not isinstance(value, str | bytes):
        raise InputError(f"{where}: no text in {f'`{column}`' if column else 'any of: ' + ', '.join(TEXT_COLUMNS)}")
    own = row.get("url")
    url = own.encode("utf-8", "replace").decode() if isinstance(own, str) and own else url
    as_it_is = used == "html" or not value
    body = value.encode("utf-8", "replace") if isinstance(value, str) else value
    known = well_formed and (as_it_is or is_utf8(body))
    page = body if as_it_is else wrap(body.decode("utf-8", "replace"))
    return Raw(url, page, where=where, remarks=remarks(page, known))
