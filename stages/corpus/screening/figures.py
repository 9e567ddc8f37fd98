"""Figures of the screen that add up over batches, and what is made of their sums: metrics, histograms, legal record."""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

from stages.corpus.screening.language import Language
from stages.corpus.screening.legality import Standing
from stages.corpus.screening.robots_table import DISALLOWED

EDGES = [round(edge / 20, 2) for edge in range(21)]  # of the histograms
SECTIONS = ("licences", "signals", "robots")  # of the legal record
BREAK = "\t"  # between the parts of a figure's name: stands in no source, licence or signal


class Figures:
    """Named counts of one batch."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def add(self, *name: str) -> None:
        self.counts[BREAK.join(name)] += 1

    def take(self, source: str, language: Language, standing: Standing, rule: str, probability: float) -> None:
        """One document. `rule` dropped it, "" if none did; `probability` is nan where no classifier judged it."""
        self.add("language", language.code)
        self._bin("language_confidence", source, language.confidence, rule == "language")
        if not math.isnan(probability):
            self._bin("undesirable_probability", source, probability, rule == "undesirable")
        self._standing("licences", standing.licence, rule == "licence")
        for signal in standing.signals:
            self._standing("signals", signal, rule == "opt_out" and signal in standing.honoured)
        by_robots = any(signal.startswith(f"{DISALLOWED}:") for signal in standing.honoured)
        self._standing("robots", standing.robots, rule == "opt_out" and by_robots)

    def _bin(self, histogram: str, source: str, value: float, dropped: bool) -> None:
        place = f"{min(int(value * 20), 19):02d}"
        self.add("histogram", histogram, "counts", source, place)
        if dropped:
            self.add("histogram", histogram, "dropped", source, place)

    def _standing(self, section: str, name: str, dropped: bool) -> None:
        self.add(section, name.replace(BREAK, " "), "documents")
        if dropped:
            self.add(section, name.replace(BREAK, " "), "dropped")


def below(facts: Mapping[str, float], *prefix: str) -> dict[tuple[str, ...], int]:
    """Counts whose name starts with `prefix`, by the rest of the name, sorted."""
    found = {tuple(name.split(BREAK)): int(count) for name, count in facts.items() if BREAK in name}
    return {name[len(prefix) :]: found[name] for name in sorted(found) if name[: len(prefix)] == prefix}


def metrics_of(facts: Mapping[str, float]) -> dict[str, float]:
    """Documents and bytes that stayed, and documents by language."""
    languages = {f"language_{code}": count for (code,), count in below(facts, "language").items()}
    return {name: value for name, value in facts.items() if BREAK not in name} | languages


def histograms(facts: Mapping[str, float], thresholds: Mapping[str, float]) -> dict[str, Any]:
    """Counts of documents by source in bins of 0..1, and of those that the step dropped for it; without a classifier
    its histogram is left out.
    """
    result: dict[str, Any] = {}
    for (name, part, source, place), count in below(facts, "histogram").items():
        entry = result.setdefault(name, {"edges": EDGES, "threshold": thresholds[name], "counts": {}, "dropped": {}})
        entry[part].setdefault(source, [0] * (len(EDGES) - 1))[int(place)] = count
    return result


def legality_record(facts: Mapping[str, float]) -> dict[str, dict[str, dict[str, int]]]:
    """Documents by licence, by signal and by what robots.txt says, and those of them that were dropped for it."""
    result: dict[str, dict[str, dict[str, int]]] = {}
    for section in SECTIONS:
        rows: defaultdict[str, dict[str, int]] = defaultdict(lambda: {"documents": 0, "dropped": 0})
        for (name, what), count in below(facts, section).items():
            rows[name][what] = count
        result[section] = dict(rows)
    return result
