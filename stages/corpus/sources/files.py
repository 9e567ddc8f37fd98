"""Local files as pages: HTML, plain text, Markdown, JSON lines and parquet, in sorted order."""

import glob
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from stages.base.errors import InputError
from stages.corpus.sources.charset import guess, to_utf8
from stages.corpus.sources.plain import wrap
from stages.corpus.sources.raw import Raw

HTML_SUFFIXES = frozenset((".html", ".htm", ".xhtml"))
TEXT_SUFFIXES = frozenset((".txt", ".md", ".rst"))
TEXT_COLUMNS = ("html", "text", "content")
ESCAPE = 6  # bytes that JSON may take to write one of a page's: \u0000


def matches(patterns: list[str]) -> list[Path]:
    """Files that the glob patterns (`**` allowed) match, sorted, each once. Raises InputError for a pattern in vain."""
    found: set[Path] = set()
    for pattern in patterns:
        files = {Path(name) for name in glob.glob(pattern, recursive=True) if Path(name).is_file()}
        if not files:
            raise InputError(f"{pattern}: no file matches; check the path in corpus.ingest.sources")
        found |= files
    return sorted(found)


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
            yield from _parquet(path, name)
        else:
            raise InputError(f"{path}: `{suffix}` files aren't read; known: html, htm, txt, md, rst, jsonl, parquet")
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: can't be read: {error}") from None


def as_page(row: dict, where: str, column: str | None = None) -> tuple[str, bytes]:
    """(URL, page) of a row with `html`, `text` or `content`, and maybe a `url`. `where` names it if there is none.

    A null is an empty page. Raises InputError where there is no such column, or no text in it.
    """
    present = [name for name in ([column] if column else TEXT_COLUMNS) if name in row]
    used = next((name for name in present if row[name] is not None), None)
    value = b"" if present and used is None else row.get(used)
    if not isinstance(value, str | bytes):
        raise InputError(f"{where}: no text in {f'`{column}`' if column else 'any of: ' + ', '.join(TEXT_COLUMNS)}")
    url = row.get("url")
    where = url.encode("utf-8", "replace").decode() if isinstance(url, str) and url else where
    if used == "html" or not value:
        return where, value if isinstance(value, bytes) else value.encode("utf-8", "replace")
    return where, wrap(value if isinstance(value, str) else value.decode("utf-8", "replace"))


def _whole(path: Path, name: str, plain: bool, max_page_bytes: int) -> Raw:
    size = path.stat().st_size
    if size > max_page_bytes:
        return Raw(f"file:///{name}", b"", problem="too_large", where=f"{name}@0", detail=f"{size:,} bytes")
    body, known = to_utf8(path.read_bytes())
    remarks = ("nul_bytes",) * (b"\0" in body) + ("wrong_charset",) * (plain and not known)
    return Raw(f"file:///{name}", wrap(guess(body)) if plain else body, where=f"{name}@0", remarks=remarks)


def _json_lines(path: Path, name: str, max_page_bytes: int) -> Iterator[Raw]:
    longest = ESCAPE * max_page_bytes + 2**16
    with path.open("rb") as handle:
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
        url, page = as_page(row, url)
    except (ValueError, RecursionError, InputError) as error:
        return Raw(url, b"", problem="damaged", where=where, detail=str(error))
    return Raw(url, page, where=where)


def _parquet(path: Path, name: str) -> Iterator[Raw]:
    number = 0
    with pq.ParquetFile(path) as table:
        columns = [column for column in (*TEXT_COLUMNS, "url") if column in table.schema_arrow.names]
        for batch in table.iter_batches(batch_size=64, columns=columns):
            for row in batch.to_pylist():
                number += 1
                url, page = as_page(row, f"file:///{name}#{number}")
                yield Raw(url, page, where=f"{name}:{number}")
