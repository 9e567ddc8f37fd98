"""A few drops for every reason, chosen by a hash of the id: the same on every run, and nobody's favourites."""

import hashlib
import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from stages.publishing.corpus.steps import Reason, Step, label
from stages.publishing.html.numbers import count
from stages.publishing.html.quoted import quoted

URL_CHARACTERS = 180
TEXT_CHARACTERS = 300  # as many as the DROP schema keeps of a text
COLUMNS = ["id", "source", "url", "rule", "reason", "duplicate_of", "sample"]


@dataclass(frozen=True, order=True)
class Sample:
    """One dropped document; the order is that of the hash of its id."""

    rank: str
    id: str
    source: str
    url: str
    duplicate_of: str
    text: str


class Sampler:
    """Keeps the `size` drops of smallest sha256(id) of every (rule, reason): memory is bounded by the reasons."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._kept: dict[Reason, list[Sample]] = {}

    def watch(self, batches: Iterable[pa.Table]) -> Iterator[pa.Table]:
        """The batches of drops as they are, sampled on their way to whoever reads them."""
        for batch in batches:
            self._take(batch)
            yield batch

    def _take(self, batch: pa.Table) -> None:
        for identifier, source, url, rule, reason, twin, text in zip(
            *(batch[name].to_pylist() for name in COLUMNS), strict=True
        ):
            rank = hashlib.sha256(identifier.encode()).hexdigest()
            kept = self._kept.setdefault((rule, reason), [])
            if len(kept) < self.size or rank < kept[-1].rank:
                sample = Sample(rank, identifier, source, url, twin, text[: 4 * TEXT_CHARACTERS])
                self._kept[rule, reason] = heapq.nsmallest(self.size, [*kept, sample])

    def samples(self) -> Mapping[Reason, Sequence[Sample]]:
        return self._kept


def twins(samples: Iterable[Mapping[Reason, Sequence[Sample]]]) -> set[str]:
    """Ids that the samples duplicate."""
    return {one.duplicate_of for step in samples for kept in step.values() for one in kept if one.duplicate_of}


def find_urls(batches: Iterable[pa.Table], wanted: set[str]) -> dict[str, str]:
    """URLs of the wanted ids. Parameters: `batches`: with columns `id` and `url`."""
    found: dict[str, str] = {}
    for batch in batches:
        if len(found) == len(wanted):
            break
        ids = batch["id"].to_pylist()
        if not wanted.isdisjoint(ids):
            found |= {i: url for i, url in zip(ids, batch["url"].to_pylist(), strict=True) if i in wanted}
    return found


def samples_view(
    steps: Sequence[Step], samples: Mapping[str, Mapping[Reason, Sequence[Sample]]], urls: Mapping[str, str]
) -> list[dict[str, Any]]:
    """One group a reason, in the order of the steps. Parameters: `samples`: of each step; `urls`: of the twins."""
    groups: list[dict[str, Any]] = []
    for step in steps:
        for (rule, reason), total in sorted(step.by_reason.items(), key=lambda item: (-item[1], item[0])):
            kept = samples[step.name].get((rule, reason), ())
            groups.append(
                {
                    "anchor": f"drop-{len(groups) + 1}",
                    "step": step.name,
                    "rule": label(rule),
                    "reason": label(reason),
                    "count": count(total),
                    "samples": [_shown(sample, urls) for sample in kept],
                }
            )
    return groups


def _shown(sample: Sample, urls: Mapping[str, str]) -> dict[str, str]:
    twin = ""
    if sample.duplicate_of:
        known = urls.get(sample.duplicate_of)
        twin = quoted(known, URL_CHARACTERS) if known else f"document {quoted(sample.duplicate_of, 40)}"
    text = quoted(sample.text, TEXT_CHARACTERS, lines=True)
    if len(sample.text) >= TEXT_CHARACTERS and not text.endswith("…"):
        text += " …"  # the table of drops has cut it
    return {
        "source": label(sample.source),
        "url": quoted(sample.url, URL_CHARACTERS) or "(no address)",
        "text": text,
        "twin": twin,
    }
