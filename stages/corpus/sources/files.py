"""Local files as pages: HTML, plain text, Markdown, JSON lines, each maybe compressed, and parquet."""

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from stages.base.compressed import ENDINGS, bare_suffix, open_compressed
from stages.base.errors import InputError
from stages.corpus.sources.charset import guess, is_utf8, to_utf8
from stages.corpus.sources.parquet_rows import read_parquet
from stages.corpus.sources.raw import TEXT_COLUMNS, Raw, as_page, remarks, wrap

HTML_SUFFIXES = frozenset((".html", ".htm", ".xhtml"))
TEXT_SUFFIXES = frozenset((".txt", ".md", ".rst"))
LINES_SUFFIXES = frozenset((".jsonl", ".ndjson", ".json"))
# In a folder, `.json` alone may be anything; compressed, it is JSON lines, as C4 and Dolma have them.
PLAIN_SUFFIXES = sorted(HTML_SUFFIXES | TEXT_SUFFIXES | LINES_SUFFIXES - {".json"})
SUFFIXES = [*PLAIN_SUFFIXES, ".parquet", *(s + end for s in [*PLAIN_SUFFIXES, ".json"] for end in ENDINGS)]
ESCAPE = 6  # bytes that JSON may take to write one of a page's: \u0000


def read_file(path: Path, name: str, max_page_bytes: int) -> Iterator[Raw]:
    """Every page in a file. `name` stands for the file in URLs and places, so that no local path gets out.

    A line of JSON that can't be used is `damaged`; one that is too long is `too_large`, and so is a file of text.
    Raises InputError naming a file that can't be read at all, or a table without a column of text.
    """
    suffix = bare_suffix(path.name)
    try:
        if suffix in HTML_SUFFIXES or suffix in TEXT_SUFFIXES:
            yield _whole(path, name, suffix in TEXT_SUFFIXES, max_page_bytes)
        elif suffix in LINES_SUFFIXES:
            yield from _json_lines(path, name, max_page_bytes)
        elif path.suffix.lower() == ".parquet":
            yield from read_parquet(path, name, max_page_bytes)
        else:
            known = ", ".join([*PLAIN_SUFFIXES, ".json", ".parquet"])
            raise InputError(f"{path}: `{path.suffix}` files aren't read; known: {known}")
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: can't be read: {error}") from None


def _whole(path: Path, name: str, plain: bool, max_page_bytes: int) -> Raw:
    with open_compressed(path) as handle:
        content = handle.read(max_page_bytes + 1)
    if len(content) > max_page_bytes:
        detail = f"more than {max_page_bytes:,} bytes"
        return Raw(f"file:///{name}", b"", problem="too_large", where=f"{name}@0", detail=detail)
    body, known = to_utf8(content)
    page = wrap(guess(body)) if plain else body
    return Raw(f"file:///{name}", page, where=f"{name}@0", remarks=remarks(body, known or not plain))


def _json_lines(path: Path, name: str, max_page_bytes: int) -> Iterator[Raw]:
    longest = ESCAPE * max_page_bytes + 2**16
    number = 0
    try:
        with open_compressed(path) as handle:
            while line := handle.readline(longest):
                number += 1
                where, url = f"{name}:{number}", f"file:///{name}#{number}"
                if not line.endswith(b"\n") and len(line) == longest:
                    while line and not line.endswith(b"\n"):
                        line = handle.readline(2**20)
                    detail = f"a line of more than {longest:,} bytes"
                    yield Raw(url, b"", problem="too_large", where=where, detail=detail)
                elif (row := line.removeprefix(codecs.BOM_UTF8) if number == 1 else line).strip():
                    yield _json_line(row, url, where)
    except InputError as error:  # compressed, and cut off
        where, url = f"{name}:{number + 1}", f"file:///{name}#{number + 1}"
        yield Raw(url, b"", problem="damaged", where=where, detail=str(error).removeprefix(f"{path}: "))


def _json_line(line: bytes, url: str, where: str) -> Raw:
    try:
        row = json.loads(line.decode("utf-8", "replace"), object_pairs_hook=_distinct)
        if not isinstance(row, dict):
            raise ValueError(f"a JSON object is expected, got {type(row).__name__}")
        return as_page(row, url, where, well_formed=is_utf8(line))
    except (ValueError, RecursionError, InputError) as error:
        return Raw(url, b"", problem="damaged", where=where, detail=str(error))


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON. Raises ValueError where a text or an address stands twice: nobody knows which is meant."""
    row = dict(pairs)
    if len(row) < len(pairs):
        for name in (*TEXT_COLUMNS, "url"):
            if sum(key == name for key, _ in pairs) > 1:
                raise ValueError(f"the key `{name}` stands twice")
    return row
