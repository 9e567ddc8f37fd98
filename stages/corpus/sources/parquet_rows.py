"""Parquet tables as pages, a row at a time: neither a file of few bytes nor a row of many fills the memory."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from stages.base.errors import InputError
from stages.corpus.sources.charset import is_utf8
from stages.corpus.sources.raw import TEXT_COLUMNS, Raw, as_page

BOMB_BYTES, BOMB_RATIO = 2**26, 1000  # of a column in a row group: its inflated size, and that to its size on disk
READ_AHEAD = 2**20  # bytes of a column
TEXT_TYPES = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
OTHER_TYPES = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_null)


def read_parquet(path: Path, name: str, max_page_bytes: int) -> Iterator[Raw]:
    """Every row. `name` stands for the file in URLs and places.

    A text above `max_page_bytes` is `too_large`; so are all rows of a row group that inflates a thousandfold, which
    isn't read: the writer of a file chooses how much has to be inflated at once. Raises InputError for a table without
    a column of text, pa.ArrowException for a damaged one.
    """
    number = 0
    with pq.ParquetFile(path, buffer_size=READ_AHEAD) as table:
        columns = [field.name for field in table.schema_arrow if _is_read(field)]
        if not set(columns) & set(TEXT_COLUMNS):
            raise InputError(f"{path}: no text in any of: {', '.join(TEXT_COLUMNS)}; check the columns of the table")
        for group in range(table.num_row_groups):
            metadata = table.metadata.row_group(group)
            bomb = _is_bomb(metadata, columns)
            rows = itertools.repeat(None, metadata.num_rows) if bomb else _rows(table, group, columns)
            for row in rows:
                number += 1
                yield _page(row, f"file:///{name}#{number}", f"{name}:{number}", max_page_bytes)


def _is_read(field: pa.Field) -> bool:
    """Columns of text, whatever Arrow's layout of them, and columns of nulls."""
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if field.name == "url":
        return any(test(kind) for test in TEXT_TYPES)
    return field.name in TEXT_COLUMNS and any(test(kind) for test in (*TEXT_TYPES, *OTHER_TYPES))


def _is_bomb(group: pq.RowGroupMetaData, columns: list[str]) -> bool:
    chunks = [group.column(place) for place in range(group.num_columns)]
    return any(
        chunk.path_in_schema in columns
        and chunk.total_uncompressed_size > max(BOMB_BYTES, BOMB_RATIO * chunk.total_compressed_size)
        for chunk in chunks
    )


def _rows(table: pq.ParquetFile, group: int, columns: list[str]) -> Iterator[dict[str, pa.Scalar]]:
    # One at a time costs some 15 µs a row. In a batch, a dictionary could give each row the longest text of the group.
    for batch in table.iter_batches(batch_size=1, row_groups=[group], columns=columns):
        for row in range(batch.num_rows):
            yield {name: _plain(batch.column(name)[row]) for name in batch.schema.names}


def _plain(scalar: pa.Scalar) -> pa.Scalar:
    return scalar.value if isinstance(scalar, pa.DictionaryScalar) and scalar.is_valid else scalar


def _page(row: dict[str, pa.Scalar] | None, url: str, where: str, limit: int) -> Raw:
    """The page of a row; None stands for one of a row group that isn't read."""
    if row is None:
        detail = f"its row group inflates more than {BOMB_RATIO:,}-fold"
        return Raw(url, b"", problem="too_large", where=where, detail=detail)
    used = [name for name in TEXT_COLUMNS if name in row and row[name].is_valid][:1]
    values: dict[str, str | bytes | None] = dict.fromkeys(row)
    well_formed = True
    for name in (*used, *(["url"] if "url" in row and row["url"].is_valid else [])):
        content = row[name].as_buffer()  # not `as_py`, which copies it and raises for what isn't UTF-8
        if content.size > limit:
            return Raw(url, b"", problem="too_large", where=where, detail=f"{content.size:,} bytes of `{name}`")
        body = content.to_pybytes()
        if isinstance(row[name], pa.StringScalar):
            well_formed &= is_utf8(body)
            values[name] = body.decode("utf-8", "replace")
        else:
            values[name] = body
    return as_page(values, url, where, well_formed=well_formed)
