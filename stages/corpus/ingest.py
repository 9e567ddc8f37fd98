"""ingest: the pages of all sources as one table, with what was dropped on the way and what is planted in them."""

from collections import Counter
from typing import Any

import numpy as np

from stages.base import schemas
from stages.base.artifacts import SOURCES
from stages.base.errors import InputError
from stages.base.progress import Progress
from stages.base.record import stage
from stages.corpus.sources.intake import IngestParams
from stages.corpus.sources.robots import ROBOTS, robots_table

PARAMS = {"corpus.ingest": IngestParams}


def numbers(ids: list[str]) -> np.ndarray:
    """uint64 of ids: 8 bytes a page are held to tell them apart."""
    return np.array([int(one, 16) for one in ids], np.uint64)


def check_distinct(ids: list[np.ndarray]) -> None:
    """Raises InputError for an id that two pages have."""
    values, counts = np.unique(np.concatenate([np.zeros(0, np.uint64), *ids]), return_counts=True)
    if len(twice := values[counts > 1]):
        raise InputError(
            f"{SOURCES}: {len(twice)} ids stand on two pages, first {twice[0]:016x}; run the sources again"
        )


def main() -> None:
    with stage("corpus.ingest", IngestParams) as run:
        robots: dict[str, str] = {}
        reasons: Counter[str] = Counter()
        problems: dict[str, Any] = {}
        ids: list[np.ndarray] = []
        with (
            run.table("pages.parquet", schemas.PAGE) as pages,
            run.table("drops.parquet", schemas.DROP) as drops,
            run.table("planted.parquet", schemas.PLANTED) as planted,
            Progress(None, "ingesting", unit="pages") as bar,
        ):
            for key in run.items(SOURCES):
                folder = f"{SOURCES}/{key}"
                for batch in run.batches(f"{folder}/pages.parquet", schemas.PAGE):
                    ids.append(numbers(batch["id"].to_pylist()))
                    pages.write(batch)
                    bar.advance(batch.num_rows)
                for batch in run.batches(f"{folder}/drops.parquet", schemas.DROP):
                    reasons.update(batch["reason"].to_pylist())
                    drops.write(batch)
                for batch in run.batches(f"{folder}/robots.parquet", ROBOTS):
                    robots |= dict(zip(batch["host"].to_pylist(), batch["text"].to_pylist(), strict=True))
                planted.write(run.read_table(f"{folder}/planted.parquet", schemas.PLANTED))
                problems[key] = run.read_json(f"{folder}/problems.json")
        check_distinct(ids)
        run.write_table("robots.parquet", robots_table(robots), ROBOTS)
        run.note("problems", problems)
        run.rows(pages.rows + drops.rows, pages.rows, dropped=reasons, max_drop=1.0)  # each source has kept its bound


if __name__ == "__main__":
    main()
