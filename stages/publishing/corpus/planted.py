"""Planted defects at the end of the corpus: how many were dealt with, and what that cost pages without any."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from stages.publishing.corpus.steps import label
from stages.publishing.html.numbers import count, percent

KINDS = {  # kind of planted defect → what a good outcome is
    "exact_duplicate": "one of the two pages was dropped",
    "near_duplicate": "one of the two pages was dropped",
    "spam": "the page was dropped",
    "licence": "the page under a refused licence was dropped",
    "opt_out": "the page that opts out of training was dropped",
    "quiz_leak": "the page that quotes test questions was dropped",
    "pii": "the planted string is in no text that is left",
    "boilerplate": "the planted line is in no text that is left",
    "edition": "kept: another telling of the same facts is no duplicate",
}
PAIRS, STRINGS = {"exact_duplicate", "near_duplicate"}, {"pii", "boilerplate"}


@dataclass
class Outcome:
    """What became of the pages of sources that plant defects."""

    sources: set[str]
    seen: set[str] = field(default_factory=set)  # URLs of those sources that came in
    texts: dict[str, str] = field(default_factory=dict)  # of those that are left


@dataclass(frozen=True)
class Caught:
    kind: str
    planted: int
    caught: int


def follow(planted: pa.Table, pages: Iterable[pa.Table], documents: Iterable[pa.Table]) -> Outcome:
    """Parameters: `pages`: batches of `url`, `source` that came in, all in memory; `documents`: batches of `url`,
    `source`, `text` that are left.
    """
    pages = list(pages)
    urls = set(planted["url"].to_pylist())
    outcome = Outcome({source for batch in pages for url, source in _pairs(batch) if url in urls})
    outcome.seen = {url for batch in pages for url, source in _pairs(batch) if source in outcome.sources}
    for batch in documents:
        rows = zip(*(batch[name].to_pylist() for name in ("url", "source", "text")), strict=True)
        outcome.texts |= {url: text for url, source, text in rows if source in outcome.sources}
    return outcome


def _pairs(batch: pa.Table) -> Iterable[tuple[str, str]]:
    return zip(batch["url"].to_pylist(), batch["source"].to_pylist(), strict=True)


def caught(planted: pa.Table, outcome: Outcome) -> list[Caught]:
    """Count the planted defects that were dealt with as they should be; a planted page that never came in proves
    nothing. The kinds of personal data (`pii_email`, …) count as one.
    """
    totals: Counter[str] = Counter()
    found: Counter[str] = Counter()
    texts = outcome.texts
    for row in planted.to_pylist():
        kind, url = "pii" if row["kind"].startswith("pii_") else row["kind"], row["url"]
        if url not in outcome.seen:
            continue
        totals[kind] += 1
        if kind in PAIRS:
            found[kind] += url not in texts or row["of_url"] not in texts
        elif kind in STRINGS:
            found[kind] += row["payload"] not in texts.get(url, "")
        else:
            found[kind] += (url in texts) == (kind == "edition")
    order = [kind for kind in KINDS if kind in totals] + sorted(set(totals) - set(KINDS))
    return [Caught(kind, totals[kind], found[kind]) for kind in order]


def innocent_line(planted: pa.Table, outcome: Outcome) -> str:
    """How many pages of these sources without any planted defect were lost: what the filters cost."""
    guilty = set(planted["url"].to_pylist()) | set(planted["of_url"].to_pylist())
    clean = outcome.seen - guilty
    lost = len(clean - outcome.texts.keys())
    names = " and ".join(map(label, sorted(outcome.sources)))
    return (
        f"Of the {count(len(clean))} pages of {names} without a planted defect the filters dropped {count(lost)} "
        f"({percent(lost, len(clean))}): what cleaning costs."
    )


def caught_view(rows: Sequence[Caught]) -> list[Mapping[str, Any]]:
    return [
        {
            "kind": label(row.kind),
            "count": count(row.planted),
            "caught": count(row.caught),
            "recall": percent(row.caught, row.planted),
            "percent": f"{100 * row.caught / row.planted:.1f}",
            "rule": KINDS.get(row.kind, "the page was dropped"),
        }
        for row in rows
    ]
