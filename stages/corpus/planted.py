"""What the atlas planted, to count what the filters found: recall and precision against known truth."""

from collections.abc import Iterable
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


def dropped_recall(table: pa.Table, kind: str, seen: Iterable[str], kept: Iterable[str]) -> dict[str, float | None]:
    """Of the planted pages of a kind that came in, the share that is gone.

    Parameters: `seen`, `kept`: URLs before and after the filter.
    """
    before, after = set(seen), set(kept)
    present = [plant for plant in plants(table, kind) if plant.url in before]
    gone = sum(plant.url not in after for plant in present)
    return {f"{kind}_planted": len(present), f"{kind}_recall": share(gone, len(present))}
