"""Rows that leave the corpus, each with the rule and the reason that dropped it, and texts that were rewritten."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import pyarrow as pa

from stages.base.errors import DataLossError, ParamError
from stages.base.schemas import DROP
from stages.corpus.screening.pii import redact

SAMPLE_CHARACTERS = 300  # fixed by the DROP schema
LEAST = 100  # documents of a source; a share of fewer says nothing
LOOKED_AT = 20_000  # for personal data; a private key is long, and what is cut off before its end isn't one
T = TypeVar("T")


class Drop(NamedTuple):
    """One dropped row of a document table."""

    row: int
    rule: str
    reason: str
    duplicate_of: str = ""  # id of the kept twin


def sample(text: str) -> str:
    """What a report may show of a dropped text: its beginning, with personal data replaced."""
    return redact(text[:LOOKED_AT])[0][:SAMPLE_CHARACTERS]


def split(documents: pa.Table, drops: Sequence[Drop]) -> tuple[pa.Table, pa.Table]:
    """The documents that stay, in their order, and the DROP table in the order of the documents.

    A row that is dropped twice is a programming error (ValueError).
    """
    ordered = sorted(drops)
    rows = [drop.row for drop in ordered]
    if len(set(rows)) != len(rows):
        raise ValueError("a row is dropped twice")
    keep = np.ones(documents.num_rows, dtype=bool)
    keep[rows] = False
    gone = documents.take(pa.array(rows, pa.int64()))
    columns = [
        gone["id"],
        gone["source"],
        gone["url"],
        pa.array([drop.rule for drop in ordered], pa.string()),
        pa.array([drop.reason for drop in ordered], pa.string()),
        pa.array([drop.duplicate_of for drop in ordered], pa.string()),
        pa.array(map(sample, gone["text"].to_pylist()), pa.string()),
    ]
    return documents.filter(pa.array(keep)), pa.Table.from_arrays(columns, schema=DROP)


def count_reasons(drops: pa.Table) -> dict[str, int]:
    """`rule/reason` → rows."""
    pairs = zip(drops["rule"].to_pylist(), drops["reason"].to_pylist(), strict=True)
    return dict(sorted(Counter(f"{rule}/{reason}" for rule, reason in pairs).items()))


class Bound(NamedTuple):
    """The share of a source's rows that may be dropped, and the parameter that says so."""

    share: float
    key: str


def check_bounds(
    dropped: Mapping[tuple[str, str], int],
    totals: Mapping[str, int],
    rules: Mapping[str, Bound],
    all_: Bound,
) -> None:
    """Raises DataLossError, naming parameter, source and reasons, where more was dropped than is plausible.

    `dropped`: rows by (source, `rule/reason`); `totals`: rows by source. A rule in `rules` is judged by itself, the
    others together by `all_`; of all sources together, and of each that has `LEAST` rows.
    """
    sources = [name for name in sorted(totals) if totals[name] >= LEAST or len(totals) == 1]
    for source in sources if len(totals) == 1 else [None, *sources]:
        total = sum(totals.values()) if source is None else totals[source]
        found: dict[str, Counter[str]] = {rule: Counter() for rule in ("", *rules)}
        for (name, reason), count in dropped.items():
            rule = reason.partition("/")[0]
            if source in (None, name):
                found[rule if rule in rules else ""][reason] += count
        for rule, reasons in found.items():
            bound, lost = rules.get(rule, all_), sum(reasons.values())
            if lost > bound.share * total:
                raise DataLossError(
                    f"{lost:,} of {total:,} rows of {f'source `{source}`' if source else 'all sources'} "
                    f"dropped ({lost / total:.1%}), `{bound.key}` allows {bound.share:.1%}: "
                    f"{dict(reasons.most_common(5))}; raise it if that is what they are made of"
                )


def with_column(documents: pa.Table, name: str, values: Sequence[object] | np.ndarray) -> pa.Table:
    """The table with one column's values replaced; type and place stay."""
    place = documents.schema.get_field_index(name)
    field = documents.schema.field(place)
    return documents.set_column(place, field, pa.array(values, field.type))


def with_text(documents: pa.Table, texts: Sequence[str]) -> pa.Table:
    """The table with new texts and their hashes."""
    hashes = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() for text in texts]
    return with_column(with_column(documents, "text", texts), "text_hash", hashes)


def for_source(settings: Mapping[str, T], source: str, section: str) -> T:
    """A source's own settings, or those named `default`. Raises ParamError if there are neither."""
    if source in settings:
        return settings[source]
    if "default" in settings:
        return settings["default"]
    raise ParamError(f"params.yaml: `{section}` has neither `{source}` nor `default`; add one of them")
