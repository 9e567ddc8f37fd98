"""What the atlas planted, to count what the filters found: recall and precision against known truth."""

from typing import NamedTuple

import pyarrow as pa


class Plant(NamedTuple):
    """One row of PLANTED."""

    url: str
    kind: str
    of_url: str
    payload: str


def plants(table: pa.Table, *kinds: str) -> list[Plant]:
    """The planted cases of the given kinds."""
    rows = [Plant(row["url"], row["kind"], row["of_url"], row["payload"]) for row in table.to_pylist()]
    return [row for row in rows if row.kind in kinds]


def share(part: int, whole: int) -> float | None:
    """part / whole, None (null in the metrics) of nothing."""
    return part / whole if whole else None
