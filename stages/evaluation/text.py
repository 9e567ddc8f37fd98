"""Held-out text of one kind as schema MIXED, for bits per byte: `python -m stages.evaluation.text <key>`."""

import hashlib
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stages.base import schemas
from stages.base.errors import InputError
from stages.base.files import read_jsonl
from stages.base.params import Section
from stages.base.record import stage

Row = dict[str, Any]
ENDINGS = (".parquet", ".jsonl", ".txt")


class TextParams(Section):
    path: str
    """A parquet or .jsonl file with `text` (and, if there are, `id`, `source`, `domain`), a .txt file, or a folder of
    such files. A .txt file is one document."""


PARAMS = {"evaluation.texts.*": TextParams}


def read_texts(path: Path, key: str) -> list[Row]:
    """Documents (MIXED) of a file, or of a folder's files in alphabetical order; `source` is the key where none is
    given. Raises InputError for an ending that isn't known, a row without text, or one id twice."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file() and p.suffix in ENDINGS)
    if not files:
        raise InputError(f"{path}: no text; name a file, or a folder with files, of {', '.join(ENDINGS)}")
    rows: dict[str, Row] = {}
    for file in files:
        for number, found in enumerate(_rows_of(file)):
            if not isinstance(found, dict) or not isinstance(found.get("text"), str):
                raise InputError(f"{file}: row {number}: no `text`")
            place = file.name if path.is_file() else file.relative_to(path).as_posix()
            own = hashlib.sha256(f"{key}\x1f{place}\x1f{number}".encode()).hexdigest()[:16]
            row = {
                "id": str(found.get("id") or own),
                "source": str(found.get("source") or key),
                "domain": str(found.get("domain") or ""),
                "text": found["text"],
                "epochs": 1.0,
            }
            if rows.setdefault(row["id"], row) is not row:
                raise InputError(f"{file}: row {number}: another document has the id `{row['id']}`")
    return list(rows.values())


def _rows_of(file: Path) -> Iterator[Any]:
    if file.suffix == ".jsonl":
        yield from read_jsonl(file)
    elif file.suffix == ".txt":
        try:
            yield {"text": file.read_text(encoding="utf-8-sig")}
        except UnicodeDecodeError as error:
            raise InputError(f"{file}: not UTF-8: {error}") from None
    elif file.suffix == ".parquet":
        try:
            with pq.ParquetFile(file) as table:
                wanted = [name for name in ("id", "source", "domain", "text") if name in table.schema_arrow.names]
                yield from table.read(columns=wanted).to_pylist()
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(f"{file}: not a readable parquet file: {error}") from None
    else:
        raise InputError(f"{file}: an ending that isn't known; use {', '.join(ENDINGS)}")


def sample_documents(table: pa.Table, bytes_per_source: int, bytes_per_document: int) -> pa.Table:
    """Some documents of each source (schema MIXED), long ones cut, up to about `bytes_per_source` bytes a source.

    In order of id: ids are hashes, so that is a random sample, the same for every model.
    """
    spent: dict[str, int] = defaultdict(int)
    rows = []
    for row in sorted(table.to_pylist(), key=lambda row: (row["source"], row["id"])):
        text = row["text"].encode()[:bytes_per_document].decode(errors="ignore")
        if text.strip() and spent[row["source"]] < bytes_per_source:
            spent[row["source"]] += len(text.encode())
            rows.append(row | {"text": text})
    return pa.Table.from_pylist(rows, schema=table.schema)


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python -m stages.evaluation.text <a key of evaluation.texts>")
    key = sys.argv[1]
    with stage("evaluation.text", TextParams, item=key, section=f"evaluation.texts.{key}") as run:
        read = read_texts(run.input(run.params.path), key)
        rows = [row for row in read if row["text"].strip()]
        if not rows:
            raise InputError(
                f"{run.params.path}: no text to evaluate on; name another, or have corpus.mix hold some out"
            )
        empty = len(read) - len(rows)
        run.write_table("documents.parquet", pa.Table.from_pylist(rows, schema=schemas.MIXED), schemas.MIXED)
        run.rows(len(read), len(rows), {"empty": empty} if empty else {}, max_drop=1.0)


if __name__ == "__main__":
    main()
