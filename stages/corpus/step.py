"""A step of the corpus that decides document by document: batches in, documents and drops out, figures added up.

The decision is a pure function of a batch and a context; `run_step` maps it over the table on any engine
(`base.engine`) and accounts for every row.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from stages.base import schemas
from stages.base.engine import map_batches
from stages.base.progress import Progress
from stages.base.record import StageRun
from stages.corpus.drops import Bound, check_bounds

C = TypeVar("C")


class Outcome(NamedTuple):
    """What became of one batch."""

    kept: pa.Table  # DOCUMENT
    drops: pa.Table  # DROP
    facts: Mapping[str, float]  # figures that add up over batches


def write_outcomes(
    run: StageRun[Any],
    outcomes: Iterable[Outcome],
    total: int,
    *,
    max_drop: float,
    rule_bounds: Mapping[str, Bound] | None = None,
) -> dict[str, float]:
    """Write `documents.parquet` and `drops.parquet` as the outcomes of `total` rows come; return the summed facts.

    `documents_out` and `bytes_out` (UTF-8 of the texts) are always among the facts: the report's waterfall. `max_drop`
    bounds the share of each source's rows that are dropped, `rule_bounds` what single rules drop instead. Raises
    DataLossError.
    """
    facts: defaultdict[str, float] = defaultdict(int)  # whole numbers stay whole
    dropped_rows: Counter[tuple[str, str]] = Counter()
    rows: Counter[str] = Counter()
    with (
        run.table("documents.parquet", schemas.DOCUMENT) as documents,
        run.table("drops.parquet", schemas.DROP) as dropped,
        Progress(total, run.name.rpartition(".")[2], unit="documents") as bar,
    ):
        for outcome in outcomes:
            documents.write(outcome.kept)
            if outcome.drops.num_rows:
                dropped.write(outcome.drops)
            for name, value in outcome.facts.items():
                facts[name] += value
            sources, rules, reasons = (outcome.drops[name].to_pylist() for name in ("source", "rule", "reason"))
            dropped_rows.update(zip(sources, map("/".join, zip(rules, reasons, strict=True)), strict=True))
            rows.update(sources)
            rows.update(outcome.kept["source"].to_pylist())
            facts["bytes_out"] += pc.sum(pc.binary_length(outcome.kept["text"])).as_py() or 0
            bar.advance(outcome.kept.num_rows + outcome.drops.num_rows, kept=documents.rows)
    check_bounds(dropped_rows, rows, rule_bounds or {}, Bound(max_drop, f"{run.name}.max_drop"))
    reasons_of_all: Counter[str] = Counter()
    for (_, reason), count in sorted(dropped_rows.items()):
        reasons_of_all[reason] += count
    run.rows(total, documents.rows, dropped=reasons_of_all, max_drop=1.0)
    return dict(facts) | {"documents_out": documents.rows}


def run_step(
    run: StageRun[Any],
    path: str,
    function: Callable[[pa.Table, C], Outcome],
    context: C,
    *,
    max_drop: float,
    rule_bounds: Mapping[str, Bound] | None = None,
    schema: pa.Schema = schemas.DOCUMENT,
) -> dict[str, float]:
    """Map `function` over the table at `path` and `write_outcomes`."""
    outcomes = map_batches(function, run.batches(path, schema), context)
    total = run.count_rows(path, schema)
    return write_outcomes(run, outcomes, total, max_drop=max_drop, rule_bounds=rule_bounds)


def read(run: StageRun[Any], path: str, label: str, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Batches of these columns of a DOCUMENT table, in order."""
    with Progress(run.count_rows(path, schemas.DOCUMENT), label, unit="documents") as bar:
        for batch in run.batches(path, schemas.DOCUMENT, list(columns)):
            yield batch
            bar.advance(batch.num_rows)
