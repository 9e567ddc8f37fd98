from collections.abc import Iterator

import pyarrow as pa
import pytest

from stages.base.schemas import DROP
from stages.corpus.drops import Drop, split
from stages.corpus.duplicates.plants import planted_metrics
from tests.corpus.documents import planted, prose, table


def in_pairs(rows: pa.Table):
    def read(columns: list[str]) -> Iterator[pa.Table]:
        return (rows.select(columns).slice(start, 2) for start in range(0, rows.num_rows, 2))

    return read


def measured(plants: list[dict], documents: pa.Table, twins: dict[int, int]) -> dict:
    """The figures where each row of `twins` is dropped for another row."""
    ids = documents["id"].to_pylist()
    kept, drops = split(documents, [Drop(row, "rule", "reason", ids[twin]) for row, twin in twins.items()])
    return planted_metrics(planted(plants), in_pairs(documents), in_pairs(kept), in_pairs(drops))


def pages(count: int, **columns: str) -> pa.Table:
    return table([{"text": prose(20, number), "url": f"u{number}", **columns} for number in range(count)])


def plant(kind: str, page: int, of: int) -> dict:
    return {"url": f"u{page}", "kind": kind, "of_url": f"u{of}"}


def test_copies_are_counted_by_kind() -> None:
    truth = [
        plant("exact_duplicate", 1, 0),
        plant("near_duplicate", 2, 0),
        plant("near_duplicate", 5, 0),
        plant("near_duplicate", 99, 0),  # never came in
        plant("edition", 5, 0),
        plant("edition", 98, 0),
    ]
    # 4 is dropped for 3, of which it is no copy.
    assert measured(truth, pages(6), {1: 0, 2: 0, 4: 3}) == {
        "exact_duplicate_planted": 1,
        "exact_duplicate_recall": 1.0,
        "near_duplicate_planted": 2,
        "near_duplicate_recall": 0.5,
        "duplicate_precision": pytest.approx(2 / 3),
        "edition_planted": 1,
        "edition_kept": 1.0,
    }


def test_chains_of_drops_and_of_copies_are_followed() -> None:
    # 1 and 2 are copies of 0; 1 goes for 2, which goes for 0.
    found = measured([plant("near_duplicate", 1, 0), plant("near_duplicate", 2, 0)], pages(3), {1: 2, 2: 0})
    assert (found["near_duplicate_recall"], found["duplicate_precision"]) == (1.0, 1.0)


def test_only_sources_with_plants_count_for_precision() -> None:
    documents = pa.concat_tables([pages(2), table([{"text": f"t{n}", "url": f"v{n}", "source": "web"} for n in "ab"])])
    found = measured([plant("exact_duplicate", 1, 0)], documents, {1: 0, 3: 2})
    assert found["duplicate_precision"] == 1.0


def test_without_plants_there_is_nothing_to_tell() -> None:
    documents = pages(2)
    empty = DROP.empty_table()
    metrics = planted_metrics(planted([]), in_pairs(documents), in_pairs(documents), in_pairs(empty))
    assert metrics["duplicate_precision"] is None and metrics["near_duplicate_planted"] == 0
