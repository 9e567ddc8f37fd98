"""Local files as pages: HTML, plain text, Markdown, JSON lines and parquet."""

import codecs
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from stages.base.errors import InputError
from stages.corpus.sources.charset import guess, is_utf8, to_utf8
from stages.corpus.sources.parquet_rows import read_parquet
from stages.corpus.sources.raw import Raw, as_page, remarks, wrap

HTML_SUFFIXES = frozenset((".html", ".htm", ".xhtml"))
TEXT_SUFFIXES = frozenset((".txt", ".md", ".rst"))
SUFFIXES = sorted(HTML_SUFFIXES | TEXT_SUFFIXES | {".jsonl", ".parquet"})
ESCAPE = 6  # bytes that JSON may take to write one of a page's: \u0000


def read_file(path: Path, name: str, max_page_bytes: int) -> Iterator[Raw]:
    """Every page in a file. `name` stands for the file in URLs and places, so that no local path gets out.

    A line of JSON that can't be used is `damaged`; one that is too long is `too_large`, and so is a file of text.
    Raises InputError naming a file that can't be read at all, or a table without a column of text.
    """
    suffix = path.suffix.lower()
    try:
        if suffix in HTML_SUFFIXES or suffix in TEXT_SUFFIXES:
            yield _whole(path, name, suffix in TEXT_SUFFIXES, max_page_bytes)
        elif suffix == ".jsonl":
            yield from _json_lines(path, name, max_page_bytes)
        elif suffix == ".parquet":
            yield from read_parquet(path, name, max_page_bytes)
        else:
            raise InputError(f"{path}: `{suffix}` files aren't read; known: {', '.join(SUFFIXES)}")
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: can't be read: {error}") from None


def _whole(path: Path, name: str, plain: bool, max_page_bytes: int) -> Raw:
    size = path.stat().st_size
    if size > max_page_bytes:
        return Raw(f"file:///{name}", b"", problem="too_large", where=f"{name}@0", detail=f"{size:,} bytes")
    body, known = to_utf8(path.read_bytes())
    page = wrap(guess(body)) if plain else body
    return Raw(f"file:///{name}", page, where=f"{name}@0", remarks=remarks(body, known or not plain))


def _json_lines(path: Path, name: str, max_page_bytes: int) -> Iterator[Raw]:
    longest = ESCAPE * max_page_bytes + 2**16
    with path.open("rb") as handle:
        if handle.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
            handle.seek(0)
        number = 0
        while line := handle.readline(longest):
            number += 1
            where, url = f"{name}:{number}", f"file:///{name}#{number}"
            if not line.endswith(b"\n") and len(line) == longest:
                while line and not line.endswith(b"\n"):
                    line = handle.readline(2**20)
                yield Raw(url, b"", problem="too_large", where=where, detail=f"a line of more than {longest:,} bytes")
            elif line.strip():
                yield _json_line(line, url, where)


def _json_line(line: bytes, url: str, where: str) -> Raw:
    try:
        row = json.loads(line.decode("utf-8", "replace"))
        if not isinstance(row, dict):
            raise ValueError(f"a JSON object is expected, got {type(row).__name__}")
        return as_page(row, url, where, well_formed=is_utf8(line))
    except (ValueError, RecursionError, InputError) as error:
        return Raw(url, b"", problem="damaged", where=where, detail=str(error))
