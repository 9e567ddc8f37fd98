"""Which documents duplicate which: the facts of the first pass put together, and one representative elected a group."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stages.corpus.duplicates.sketch import Sketches
from stages.corpus.duplicates.spill import Partitions, Spill

RULES = (  # in the order in which they are applied; a document's `rule` is a place in this list
    ("url_duplicate", "same_url"),
    ("exact_duplicate", "same_text"),
    ("near_duplicate", "minhash_jaccard"),
)
LINKS_AT_ONCE = 1 << 20


class Index:
    """The sketches of a corpus: some 60 bytes a document in memory, band keys, links and lines on disk."""

    def __init__(self, folder: Path, bands: int) -> None:
        self._parts: list[Sketches] = []
        self._bands = [Spill(folder / f"band_{band:03d}", np.uint64) for band in range(bands)]
        self._links = Spill(folder / "links", np.uint64)
        self.lines = Partitions(folder)
        self._size = 0

    def add(self, sketches: Sketches) -> None:
        """Append a batch."""
        for band, spill in enumerate(self._bands):
            spill.append(sketches.keys[:, band])
        self._links.append(sketches.links)
        size = len(sketches.urls)
        self.lines.append(sketches.lines, np.repeat(np.arange(self._size, self._size + size), sketches.lines_each))
        self._size += size
        nothing = np.zeros(0, np.uint64)
        self._parts.append(sketches._replace(keys=nothing, links=nothing, lines=nothing, lines_each=nothing))

    def finish(self) -> None:
        """Everything is in: make the columns `ids`, `source_names`, `sources` (int32 codes of these), `characters`,
        `urls`, `texts` and `long`, each an entry a document."""
        parts, self._parts = self._parts, []

        def column(name: str, dtype: type) -> np.ndarray:
            return np.concatenate([np.zeros(0, dtype), *(getattr(part, name) for part in parts)])

        self.characters, self.long = column("characters", np.int64), column("long", bool)
        self.urls, self.texts = column("urls", np.uint64), column("texts", np.uint64)
        # Large strings: 32-bit offsets end at 2 GiB, which is 134 million ids.
        ids = pa.chunked_array([chunk for part in parts for chunk in part.ids.chunks], pa.string())
        self.ids = ids.cast(pa.large_string()).combine_chunks()
        names = pa.chunked_array([chunk for part in parts for chunk in part.sources.chunks], pa.string())
        coded = pc.dictionary_encode(names.cast(pa.large_string()).combine_chunks())
        self.source_names: list[str] = coded.dictionary.to_pylist()
        self.sources = coded.indices.to_numpy()

    def bands(self) -> list[np.ndarray]:
        """uint64 keys of every document, band after band, mapped from disk."""
        return [spill.read() for spill in self._bands]

    def _inbound(self) -> np.ndarray:
        """int64: how many other documents link to each document, by canonical URL."""
        known, place = np.unique(self.urls, return_inverse=True)
        counts = np.zeros(len(known), np.int64)
        links = self._links.read()
        for start in range(0, len(links), LINKS_AT_ONCE):
            part = links[start : start + LINKS_AT_ONCE]
            found = np.minimum(np.searchsorted(known, part), len(known) - 1)
            counts += np.bincount(found[known[found] == part], minlength=len(known))
        return counts[place]

    def rank(self) -> np.ndarray:
        """int64 place of each document in the order of those that may stand for a group.

        The most linked-to first, which is the original rather than a mirror; then the longest, then the smallest id.
        """
        by_id = np.empty(self._size, np.int64)
        by_id[pc.sort_indices(self.ids).to_numpy()] = np.arange(self._size)
        rank = np.empty(self._size, np.int64)
        rank[np.lexsort((by_id, -self.characters, -self._inbound()))] = np.arange(self._size)
        return rank


def elect(keys: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """int64: for each entry the one of lowest rank among those with its key."""
    order = np.lexsort((rank, keys))
    first = np.ones(len(keys), bool)
    first[1:] = keys[order][1:] != keys[order][:-1]
    best = np.empty(len(keys), np.int64)
    best[order] = order[first][np.cumsum(first) - 1]
    return best


class Verdicts:
    """What becomes of each document. A twin named here may itself be dropped by a later rule."""

    def __init__(self, rank: np.ndarray) -> None:
        self._rank = rank
        self.rule = np.full(len(rank), -1, np.int8)  # place in RULES, -1 for what stays
        self.twin = np.full(len(rank), -1, np.int64)  # row of the document that stays instead

    def staying(self) -> np.ndarray:
        """bool, an entry a document."""
        return self.rule < 0

    def drop(self, rule: str, rows: np.ndarray, keys: np.ndarray) -> None:
        """Of the documents `rows` that have the same key, drop all but the representative."""
        best = rows[elect(keys, self._rank[rows])]
        gone = best != rows
        self.rule[rows[gone]] = [name for name, _ in RULES].index(rule)
        self.twin[rows[gone]] = best[gone]
