"""Parquet tables whose bytes depend on their rows only, written and read a batch at a time: memory holds no corpus.

A row group is a batch. Its size is fixed by the schema, so that rows that arrive in other portions, from one worker or
from twenty, make the same file.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from stages.base.errors import InputError
from stages.base.files import atomic_path

PAGES, ROWS, PLACES = 64, 256, 16384  # rows a group; pages hold raw HTML and are larger, places are a few numbers


def group_rows(schema: pa.Schema) -> int:
    """Rows of a batch of this schema."""
    if "offset" in schema.names:
        return PLACES
    return PAGES if "html" in schema.names else ROWS


def check_schema(found: pa.Schema, schema: pa.Schema, path: str | Path) -> None:
    """Raises InputError naming the first column that differs in name, order or type."""
    if found.names != schema.names:
        raise InputError(f"{path}: columns are {found.names}, expected {schema.names}")
    for field in schema:
        if found.field(field.name).type != field.type:
            raise InputError(f"{path}: column `{field.name}` is {found.field(field.name).type}, expected {field.type}")


class TableWriter:
    """Rows in, row groups of `group_rows(schema)` out. Made by `table_writer`."""

    def __init__(self, writer: pq.ParquetWriter, schema: pa.Schema, path: Path) -> None:
        self._writer, self._schema, self._path = writer, schema, path
        self._waiting: list[pa.Table] = []
        self._size = group_rows(schema)
        self.rows = 0

    def write(self, table: pa.Table) -> None:
        """Append rows. Raises InputError where the schema differs."""
        check_schema(table.schema, self._schema, self._path)
        self.rows += table.num_rows
        self._waiting.append(table.replace_schema_metadata(None))
        if sum(part.num_rows for part in self._waiting) >= self._size:
            self._flush(last=False)

    def _flush(self, last: bool) -> None:
        table = pa.concat_tables(self._waiting)
        end = table.num_rows if last else table.num_rows // self._size * self._size
        for start in range(0, end, self._size):
            # Combined: a page of the file ends where a chunk of the table does.
            group = table.slice(start, min(self._size, end - start)).combine_chunks()
            self._writer.write_table(group, row_group_size=self._size)
        self._waiting = [table.slice(end).combine_chunks()] if end < table.num_rows else []

    def finish(self) -> None:
        if self._waiting:
            self._flush(last=True)


@contextmanager
def table_writer(path: str | Path, schema: pa.Schema) -> Iterator[TableWriter]:
    """A writer of the table at `path`, which appears when the block ends without an error."""
    with (
        atomic_path(path) as temporary,
        pq.ParquetWriter(temporary, schema.remove_metadata(), compression="zstd") as file,
    ):
        writer = TableWriter(file, schema, Path(path))
        yield writer
        writer.finish()


def write_table(path: str | Path, table: pa.Table, schema: pa.Schema) -> None:
    with table_writer(path, schema) as writer:
        writer.write(table)


def _open(path: str | Path, schema: pa.Schema) -> pq.ParquetFile:
    try:
        file = pq.ParquetFile(path, pre_buffer=False)
    except FileNotFoundError:
        raise InputError(f"{path}: not found; run the stage that writes it (`dvc repro`)") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path}: not a readable parquet file: {error}") from None
    try:
        check_schema(file.schema_arrow, schema, path)
    except InputError:
        file.close()
        raise
    return file


def count_rows(path: str | Path, schema: pa.Schema) -> int:
    with _open(path, schema) as file:
        return file.metadata.num_rows


def read_batches(path: str | Path, schema: pa.Schema, columns: list[str] | None = None) -> Iterator[pa.Table]:
    """The rows in order, `group_rows(schema)` at a time, whatever the row groups of the file. `columns` reads less."""
    with _open(path, schema) as file:
        try:
            for batch in file.iter_batches(batch_size=group_rows(schema), columns=columns):
                yield pa.Table.from_batches([batch])
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(f"{path}: not a readable parquet file: {error}") from None


def read_table(path: str | Path, schema: pa.Schema) -> pa.Table:
    """The whole table: for small ones."""
    with _open(path, schema) as file:
        try:
            return file.read()
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(f"{path}: not a readable parquet file: {error}") from None
