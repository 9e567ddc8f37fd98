"""A pass over some columns of a document table, with its progress."""

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from stages.base import schemas
from stages.base.progress import Progress
from stages.base.record import StageRun


def read(run: StageRun[Any], path: str, label: str, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Batches of these columns of a DOCUMENT table, in order."""
    with Progress(run.count_rows(path, schemas.DOCUMENT), label, unit="documents") as bar:
        for batch in run.batches(path, schemas.DOCUMENT, list(columns)):
            yield batch
            bar.advance(batch.num_rows)
