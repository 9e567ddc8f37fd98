"""Local files as pages: HTML, plain text, Markdown, JSON lines and parquet, in sorted order."""

import glob
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from stages.base.errors import InputError
from stages.corpus.plain import wrap

HTML_SUFFIXES = frozenset((".html", ".htm", ".xhtml"))
TEXT_SUFFIXES = frozenset((".txt", ".md", ".rst"))
TEXT_COLUMNS = ("html", "text", "content")


def matches(patterns: list[str]) -> list[Path]:
    """Files that the glob patterns (`**` allowed) match, sorted, each once. Raises InputError for a pattern in vain."""
    found: set[Path] = set()
    for pattern in patterns:
        files = {Path(name) for name in glob.glob(pattern, recursive=True) if Path(name).is_file()}
        if not files:
            raise InputError(f"{pattern}: no file matches; check the path in corpus.ingest.sources")
        found |= files
    return sorted(found)


def read_file(path: Path, name: str) -> Iterator[tuple[str, bytes]]:
    """(URL, page) of every page in a file. `name` stands for the file in URLs, so that no local path gets out.

    Raises InputError naming the file, and the line or column that can't be used.
    """
    suffix = path.suffix.lower()
    try:
        if suffix in HTML_SUFFIXES:
            yield f"file:///{name}", path.read_bytes()
        elif suffix in TEXT_SUFFIXES:
            yield f"file:///{name}", wrap(path.read_text(encoding="utf-8", errors="replace"))
        elif suffix == ".jsonl":
            yield from _json_lines(path, name)
        elif suffix == ".parquet":
            yield from _parquet(path, name)
        else:
            raise InputError(f"{path}: `{suffix}` files aren't read; known: html, htm, txt, md, rst, jsonl, parquet")
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: can't be read: {error}") from None


def as_page(row: dict, where: str, column: str | None = None) -> tuple[str, bytes]:
    """(URL, page) of a row with `html`, `text` or `content`, and maybe a `url`. `where` names it if there is none."""
    used = column or next((name for name in TEXT_COLUMNS if row.get(name) is not None), None)
    value = row.get(used) if used else None
    if not isinstance(value, str | bytes):
        raise InputError(f"{where}: no text in {f'`{column}`' if column else 'any of: ' + ', '.join(TEXT_COLUMNS)}")
    url = row.get("url")
    raw = value if isinstance(value, bytes) else None
    text = value if isinstance(value, str) else value.decode("utf-8", "replace")
    page = (raw or text.encode("utf-8", "replace")) if used == "html" else wrap(text)
    return url if isinstance(url, str) and url else where, page


def _json_lines(path: Path, name: str) -> Iterator[tuple[str, bytes]]:
    with path.open(encoding="utf-8", errors="replace") as handle:
        for number, line in enumerate(handle, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise InputError(f"{path}:{number}: not valid JSON: {error}") from None
            if not isinstance(row, dict):
                raise InputError(f"{path}:{number}: a JSON object is expected, got {type(row).__name__}")
            yield as_page(row, f"file:///{name}#{number}")


def _parquet(path: Path, name: str) -> Iterator[tuple[str, bytes]]:
    table = pq.ParquetFile(path)
    columns = [column for column in (*TEXT_COLUMNS, "url") if column in table.schema_arrow.names]
    number = 0
    for batch in table.iter_batches(batch_size=1000, columns=columns):
        for row in batch.to_pylist():
            number += 1
            yield as_page(row, f"file:///{name}#{number}")
