"""The corpus section: what each stage kept and dropped and why, and what became of the planted defects."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from stages.publishing.html.numbers import count, percent

STAGES = ("ingest", "extract", "screen", "dedup", "heuristics", "quality", "domains", "decontaminate")
REASONS_SHOWN = 4
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
PAIRS, PAGES, STRINGS = {"exact_duplicate", "near_duplicate"}, {"spam", "quiz_leak"}, {"pii", "boilerplate"}


@dataclass(frozen=True)
class Step:
    """One corpus stage: rows that left it, and `rule/reason` → rows it dropped."""

    name: str
    kept: int
    dropped: Mapping[str, int]


def step(name: str, kept: int, drops: pa.Table) -> Step:
    pairs = zip(drops["rule"].to_pylist(), drops["reason"].to_pylist(), strict=True)
    return Step(name, kept, Counter(reason or rule for rule, reason in pairs))


def waterfall_view(steps: Sequence[Step]) -> list[dict[str, Any]]:
    """Bars in percent of the pages that came in."""
    start = steps[0].kept + sum(steps[0].dropped.values()) if steps else 0
    view = []
    for one in steps:
        lost = sum(one.dropped.values())
        ranked = sorted(one.dropped.items(), key=lambda item: (-item[1], item[0]))
        reasons = [{"name": name.replace("_", " "), "count": count(number)} for name, number in ranked[:REASONS_SHOWN]]
        rest = sum(number for _, number in ranked[REASONS_SHOWN:])
        if rest:
            reasons.append({"name": f"for {len(ranked) - REASONS_SHOWN} other reasons", "count": count(rest)})
        view.append(
            {
                "name": one.name,
                "kept": count(one.kept),
                "lost": count(lost),
                "kept_percent": f"{100 * one.kept / start:.2f}" if start else "0",
                "lost_percent": f"{100 * lost / start:.2f}" if start else "0",
                "reasons": reasons,
            }
        )
    return view


@dataclass(frozen=True)
class Caught:
    kind: str
    planted: int
    caught: int


def caught(planted: pa.Table, seen: Iterable[str], texts: Mapping[str, str]) -> list[Caught]:
    """Count the planted defects that were dealt with as they should be.

    Parameters: `seen`: URLs that came in (a planted page that was never collected proves nothing); `texts`: URL →
    text of the documents that are left. The kinds of personal data (`pii_email`, …) count as one.
    """
    collected = set(seen)
    totals: Counter[str] = Counter()
    found: Counter[str] = Counter()
    for row in planted.to_pylist():
        kind, url = "pii" if row["kind"].startswith("pii_") else row["kind"], row["url"]
        if url not in collected:
            continue
        totals[kind] += 1
        if kind in PAIRS:
            found[kind] += url not in texts or row["of_url"] not in texts
        elif kind in STRINGS:
            found[kind] += row["payload"] not in texts.get(url, "")
        elif kind == "edition":
            found[kind] += url in texts
        else:
            found[kind] += url not in texts
    order = [kind for kind in KINDS if kind in totals] + sorted(set(totals) - set(KINDS))
    return [Caught(kind, totals[kind], found[kind]) for kind in order]


def innocent_line(planted: pa.Table, seen: Iterable[str], texts: Mapping[str, str], source: str) -> str:
    """How many pages of the encyclopaedia without any planted defect were lost: the filters' cost."""
    guilty = set(planted["url"].to_pylist()) | set(planted["of_url"].to_pylist())
    clean = [url for url in seen if url not in guilty]
    lost = sum(url not in texts for url in clean)
    return (
        f"Of the {count(len(clean))} {source} pages without a planted defect the filters dropped {count(lost)} "
        f"({percent(lost, len(clean))}): what cleaning costs."
    )


def planted_view(rows: Sequence[Caught]) -> list[dict[str, Any]]:
    return [
        {
            "kind": row.kind.replace("_", " "),
            "count": count(row.planted),
            "caught": count(row.caught),
            "recall": percent(row.caught, row.planted),
            "percent": f"{100 * row.caught / row.planted:.1f}" if row.planted else "0",
            "rule": KINDS.get(row.kind, "the page was dropped"),
        }
        for row in rows
    ]


def mixture_view(pack: Mapping[str, Any]) -> dict[str, Any]:
    """Unique tokens, tokens with repeats and epochs of each source, from pack.json."""
    train, anneal, rows = pack["train"]["sources"], pack["anneal"]["sources"], []
    for source in sorted({*train, *anneal}):
        unique = train.get(source, {}).get("unique_tokens", 0)
        seen = train.get(source, {}).get("tokens", 0)
        rows.append(
            [
                source.replace("_", " "),
                count(unique),
                count(seen),
                f"{seen / unique:.2f}" if unique else "–",
                count(anneal.get(source, {}).get("tokens", 0)),
            ]
        )
    return {"head": ["Source", "Unique tokens", "Tokens in training", "Epochs", "Tokens in the anneal"], "rows": rows}
