"""A table in the order of its ids with memory for a part of it: rows go to files by their id's first digits, and one
file at a time is sorted.
"""

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from stages.base.errors import InputError

BUCKET_BYTES = 1 << 26  # of text, about; what is sorted at a time
MAX_BUCKETS = 4096


def sort_by_id(batches: Iterable[pa.Table], text_bytes: int, scratch: Path) -> Iterator[pa.Table]:
    """The rows of all batches in the order of the column `id` (16 hex digits, as ingest makes them).

    `text_bytes` of the whole table sets the number of files; the rows and their order don't depend on it. `scratch`, a
    folder that doesn't exist yet, is removed at the end. Raises InputError for an id that is no hash.
    """
    buckets = min(MAX_BUCKETS, text_bytes // BUCKET_BYTES + 1)
    scratch.mkdir(parents=True)
    try:
        waiting: list[pa.Table] = []
        held = 0
        for batch in batches:
            waiting.append(batch)
            held += batch.nbytes
            if held > BUCKET_BYTES:
                _scatter(pa.concat_tables(waiting), buckets, scratch)
                waiting, held = [], 0
        if waiting:
            _scatter(pa.concat_tables(waiting), buckets, scratch)
        for bucket in range(buckets):
            path = scratch / str(bucket)
            if path.exists():
                yield _sorted(path)
                path.unlink()
    finally:
        shutil.rmtree(scratch)


def _scatter(table: pa.Table, buckets: int, folder: Path) -> None:
    """Append each row to the file of its id's bucket: an Arrow stream for each call."""
    ids = table["id"].to_pylist()
    try:
        places = np.array([int(identifier[:8], 16) * buckets >> 32 for identifier in ids], np.int64)
    except ValueError:
        raise InputError("corpus: an id is not 16 hex digits; run corpus.ingest again") from None
    if any(len(identifier) != 16 for identifier in ids):
        raise InputError("corpus: an id is not 16 hex digits; run corpus.ingest again")
    order = np.argsort(places, kind="stable")
    ordered, starts = table.take(pa.array(order)), np.searchsorted(places[order], np.arange(buckets + 1))
    for bucket in range(buckets):
        if starts[bucket] < starts[bucket + 1]:
            part = ordered.slice(starts[bucket], starts[bucket + 1] - starts[bucket])
            with (folder / str(bucket)).open("ab") as file, pa.ipc.new_stream(file, part.schema) as stream:
                stream.write_table(part)


def _sorted(path: Path) -> pa.Table:
    parts = []
    with path.open("rb") as file:
        while file.tell() < path.stat().st_size:
            parts.append(pa.ipc.open_stream(file).read_all())
    table = pa.concat_tables(parts)
    order = np.argsort(np.array(table["id"].to_pylist(), dtype="U16"), kind="stable")
    return table.take(pa.array(order))
