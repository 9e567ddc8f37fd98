"""What the screen made of the atlas's planted cases, and of the personal data it found: recall and precision."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import pyarrow as pa

from stages.corpus.drops import Drop
from stages.corpus.planted import plants, share
from stages.corpus.screening.figures import Figures, below
from stages.corpus.screening.pii import KINDS, Finding

# What should drop a planted page: the rule, and the part of the screen that the plant is for.
RULES = {"opt_out": "opt_out", "licence": "licence"}
SPAM = ("url", "keyword", "classifier")


class Plants(NamedTuple):
    """Planted cases that the screen should find, by URL."""

    payloads: dict[str, list[tuple[str, str]]]  # (kind of personal data, string)
    spam: dict[str, str]  # which part of the screen can find it
    others: dict[str, str]  # kind

    @classmethod
    def of(cls, table: pa.Table) -> "Plants":
        payloads: dict[str, list[tuple[str, str]]] = {}
        for plant in plants(table, *(f"pii_{kind}" for kind in KINDS)):
            payloads.setdefault(plant.url, []).append((plant.kind.removeprefix("pii_"), plant.payload))
        spam = {plant.url: plant.payload for plant in plants(table, "spam")}
        return cls(payloads, spam, {plant.url: plant.kind for plant in plants(table, *RULES)})


def part_of(drop: Drop) -> str:
    """The part of the screen that found a page of spam: one of `SPAM`, "" for another rule."""
    if drop.rule == "undesirable":
        return "classifier" if drop.reason == "classifier" else "keyword"
    return "url" if drop.rule == "url" else ""


def count_drop(figures: Figures, known: Plants, document: Mapping[str, Any], drop: Drop | None) -> None:
    """One document against the plants that should be dropped."""
    url, source = document["url"], document["source"]
    part = "" if drop is None else part_of(drop)
    if url in known.spam:
        figures.add("planted_spam", source, known.spam[url], "cases")
        if drop is not None:
            figures.add("planted_spam", source, "any", "found")
        if part == known.spam[url]:
            figures.add("planted_spam", source, part, "found")
    if part:
        figures.add("called_spam", source, part, "right" if url in known.spam else "wrong")
    if url in known.others:
        figures.add("planted", known.others[url], "cases")
        if drop is not None and drop.rule == RULES[known.others[url]]:
            figures.add("planted", known.others[url], "found")


def count_personal(
    figures: Figures, known: Plants, document: Mapping[str, Any], text: str, findings: list[Finding]
) -> None:
    """One document that stayed: what was replaced, and which planted strings are gone from its new text."""
    source = document["source"]
    payloads = known.payloads.get(document["url"], [])
    for finding in findings:
        right = any(finding.text in payload or payload in finding.text for _, payload in payloads)
        figures.add("pii", source, finding.kind, "right" if right else "other")
    for kind, payload in payloads:
        if payload in document["text"]:
            figures.add("planted_pii", source, kind, "cases")
            if payload not in text:
                figures.add("planted_pii", source, kind, "found")


def planted_metrics(facts: Mapping[str, float]) -> dict[str, float | int | None]:
    """Recall on the planted cases that came in, by kind; precision on the sources that have plants.

    Personal data: planted strings that stood in a text that came in and stayed, and don't stand in it now; replaced
    strings that overlap a planted one. Spam: by the part of the screen that can find it, and by any part (`spam`).
    """
    metrics: dict[str, float | int | None] = {}
    replaced, pii = below(facts, "pii"), below(facts, "planted_pii")
    spam, called = below(facts, "planted_spam"), below(facts, "called_spam")
    for kind in KINDS:
        metrics[f"pii_{kind}_replaced"] = _sum(replaced, None, kind, None)
        metrics |= _recall(f"pii_{kind}", _sum(pii, None, kind, "cases"), _sum(pii, None, kind, "found"))
        metrics[f"pii_{kind}_precision"] = _precision(replaced, {name[0] for name in pii}, kind)
    metrics["pii_recall"] = share(_sum(pii, None, None, "found"), _sum(pii, None, None, "cases"))
    for part in SPAM:
        metrics |= _recall(f"spam_{part}", _sum(spam, None, part, "cases"), _sum(spam, None, part, "found"))
    metrics["spam_recall"] = share(_sum(spam, None, "any", "found"), _sum(spam, None, None, "cases"))
    metrics["undesirable_precision"] = _precision(called, {name[0] for name in spam}, None)
    metrics["undesirable_classifier_precision"] = _precision(called, {name[0] for name in spam}, "classifier")
    others = below(facts, "planted")
    for kind in RULES:
        metrics |= _recall(kind, others.get((kind, "cases"), 0), others.get((kind, "found"), 0))
    return metrics


def _sum(counts: Mapping[tuple[str, ...], int], *name: str | None) -> int:
    """Sum over the names that agree with `name`, where None agrees with anything."""
    return sum(
        count
        for key, count in counts.items()
        if all(part in (None, found) for part, found in zip(name, key, strict=True))
    )


def _precision(counts: Mapping[tuple[str, ...], int], sources: set[str], kind: str | None) -> float | None:
    right = sum(_sum(counts, source, kind, "right") for source in sources)
    return share(right, sum(_sum(counts, source, kind, None) for source in sources))


def _recall(name: str, cases: int, found: int) -> dict[str, float | int | None]:
    return {f"{name}_planted": cases, f"{name}_recall": share(found, cases)}
