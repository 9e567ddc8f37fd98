"""Precision and recall of duplicate removal on the atlas's planted copies."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from stages.corpus.duplicates.components import find, join
from stages.corpus.planted import plants, share

Read = Callable[[list[str]], Iterator[pa.Table]]  # the rows of a table, batch by batch, some columns of it


def planted_metrics(planted: pa.Table, documents: Read, kept: Read, drops: Read) -> dict[str, Any]:
    """Of a kind of plant: recall, the planted copies, both pages of which came in, that were found to be one (one
    dropped for the other, or both for a third, through any chain of drops). Precision: drops of pages of the sources
    with plants, for a page of which they are a planted copy (through any chain of copies). And the share of planted
    second editions, no duplicates, that stay.

    Chains are followed through the drops of sources with plants; memory holds these, not the documents.
    """
    copies = plants(planted, "exact_duplicate", "near_duplicate")
    editions = {plant.url for plant in plants(planted, "edition")}
    named = {url for copy in copies for url in (copy.url, copy.of_url)} | editions
    seen: dict[str, str] = {}
    for batch in documents(["url", "source"]):
        columns = batch["url"].to_pylist(), batch["source"].to_pylist()
        seen.update({url: source for url, source in zip(*columns, strict=True) if url in named})
    sources = {seen[copy.url] for copy in copies if copy.url in seen}
    pairs = [
        (row["url"], row["duplicate_of"])
        for batch in drops(["url", "source", "duplicate_of"])
        for row in batch.to_pylist()
        if row["duplicate_of"] and row["source"] in sources
    ]
    twins = {twin for _, twin in pairs}
    url_of: dict[str, str] = {}
    for batch in documents(["id", "url"]):
        columns = batch["id"].to_pylist(), batch["url"].to_pylist()
        url_of.update({identifier: url for identifier, url in zip(*columns, strict=True) if identifier in twins})

    number = {
        url: place for place, url in enumerate(sorted(set(seen) | {url for url, _ in pairs} | {*url_of.values()}))
    }
    relation, merged = np.arange(len(number)), np.arange(len(number))
    present = [copy for copy in copies if copy.url in seen and copy.of_url in seen]
    for copy in present:
        join(relation, number[copy.url], number[copy.of_url])
    dropped = [(number[url], number[url_of[twin]]) for url, twin in pairs]
    for one, other in dropped:
        join(merged, one, other)
    metrics: dict[str, Any] = {}
    for kind in ("exact_duplicate", "near_duplicate"):
        cases = [(number[copy.url], number[copy.of_url]) for copy in present if copy.kind == kind]
        found = sum(find(merged, one) == find(merged, other) for one, other in cases)
        metrics |= {f"{kind}_planted": len(cases), f"{kind}_recall": share(found, len(cases))}
    correct = sum(find(relation, one) == find(relation, other) for one, other in dropped)
    metrics["duplicate_precision"] = share(correct, len(dropped))
    came = editions & seen.keys()
    left = {url for batch in kept(["url"]) for url in batch["url"].to_pylist() if url in came}
    return metrics | {"edition_planted": len(came), "edition_kept": share(len(left), len(came))}
