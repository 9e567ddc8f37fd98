"""An index of a corpus: where each run of a few words stands, so that any task is looked up without reading it again.

The corpus is a stream of 32-bit words with a NO_WORD between documents, cut into segments of bounded size. A segment
knows the places of all runs of `shortest` words, sorted by a hash of the run: a lookup finds the few places that may be
the same run, compares the words themselves, and goes on from there. On disk a segment is five files that are mapped,
not read: about 1.8 times the size of the text. Nothing is lost: every run of `shortest` words or more is found. Two
different words are taken for the same with a probability of 2^-32.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stages.base.errors import InputError
from stages.base.files import read_json, write_json
from stages.evaluation.overlap.words import GOLDEN, MIX, NO_WORD, hash_words

CORPUS = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("url", pa.string()),
        ("offset", pa.int64()),  # bytes of the document before this piece; above 0 it goes on from the row before
        ("text", pa.large_string()),
    ]
)
FORMAT = 1
SEGMENT_WORDS = 1 << 24  # about 95 MB of English; building one holds about 350 MB
OVERLAP_WORDS = 1 << 10  # of a document that two segments share, so that no run is lost between them
GROUP_BYTES = 1 << 18  # of text in a row group: what is unpacked to show one place
NAMES = ("words", "places", "buckets", "rows")
EMPTY = "the corpus has no text in it"


@numba.njit(cache=True)
def _bucket(value, shift):  # type: ignore[no-untyped-def]
    value ^= value >> np.uint64(33)
    value *= MIX
    value ^= value >> np.uint64(29)
    return (value * GOLDEN) >> shift


@numba.njit(cache=True)
def run_hash(words, place, length):  # type: ignore[no-untyped-def]
    """Of the `length` words from `place` on: a polynomial modulo 2^64."""
    value = np.uint64(0)
    for at in range(place, place + length):
        value = value * GOLDEN + np.uint64(words[at])
    return value


@numba.njit(cache=True)
def _sort_places(words, shortest, bits):  # type: ignore[no-untyped-def]
    """(places uint32, buckets uint32 [2^bits + 1]): a counting sort of all runs by the first bits of their hash."""
    shift = np.uint64(64 - bits)
    buckets = np.zeros((1 << bits) + 1, np.uint32)
    last = np.uint64(1)
    for _ in range(shortest):
        last *= GOLDEN
    for count in range(2):  # first how many each bucket has, then where each stands
        value, clean, found = np.uint64(0), 0, 0
        places = np.empty(0 if count == 0 else buckets[-1], np.uint32)
        for end in range(len(words)):
            word = words[end]
            value = value * GOLDEN + np.uint64(word)
            if clean >= shortest:
                value -= last * np.uint64(words[end - shortest])
            if word == NO_WORD:
                value, clean = np.uint64(0), 0
                continue
            clean += 1
            if clean >= shortest:
                bucket = _bucket(value, shift)
                if count == 0:
                    buckets[bucket + 1] += np.uint32(1)
                else:
                    places[buckets[bucket]] = end - shortest + 1
                    buckets[bucket] += np.uint32(1)
                found += 1
        if count == 0:
            for bucket in range(1, len(buckets)):
                buckets[bucket] += buckets[bucket - 1]
    for bucket in range(len(buckets) - 1, 0, -1):  # each now stands at the next one's beginning
        buckets[bucket] = buckets[bucket - 1]
    buckets[0] = 0
    return places, buckets


class Segment:
    """Part of an index, in memory or on disk.

    words [n] uint32 begins and ends with NO_WORD; places, grouped by `buckets`; rows [pieces + 1] int64: where each
    piece of text begins, and the end. A piece that a segment has only the last words of begins before the segment does.
    """

    def __init__(self, arrays: dict[str, np.ndarray], texts: "Texts", shortest: int) -> None:
        self.words, self.places, self.buckets, self.rows = (arrays[name] for name in NAMES)
        self.texts, self.shortest = texts, shortest

    @property
    def shift(self) -> np.uint64:
        return np.uint64(64 - (len(self.buckets) - 1).bit_length() + 1)

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        for name in NAMES:
            np.save(folder / f"{name}.npy", getattr(self, name))
        self.texts.save(folder / "documents.parquet")

    @classmethod
    def open(cls, folder: Path, shortest: int) -> "Segment":
        """Raises InputError for a damaged one."""
        try:
            # Copy-on-write: nothing is ever written, and one compiled kernel serves memory and disk.
            arrays = {
                name: np.asarray(np.load(folder / f"{name}.npy", mmap_mode="c", allow_pickle=False)) for name in NAMES
            }
            return cls(arrays, Texts.open(folder / "documents.parquet"), shortest)
        except (OSError, ValueError, pa.ArrowInvalid) as error:
            raise InputError(f"{folder}: damaged ({error}); build the index again") from None


class Texts:
    """The pieces of a segment's documents by number: tables of about GROUP_BYTES, or the row groups of a file."""

    def __init__(self, tables: Sequence[pa.Table], file: pq.ParquetFile | None = None) -> None:
        self._tables, self._file = tables, file
        if file is None:
            sizes = [table.num_rows for table in tables]
        else:
            sizes = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
        self._firsts = np.cumsum([0, *sizes])
        self._group = lru_cache(maxsize=2)(self._read)

    @classmethod
    def open(cls, path: Path) -> "Texts":
        return cls([], pq.ParquetFile(path))

    def _read(self, group: int) -> pa.Table:
        return self._tables[group] if self._file is None else self._file.read_row_group(group)

    def piece(self, number: int) -> dict[str, Any]:
        """Row `number` of schema CORPUS."""
        group = int(np.searchsorted(self._firsts, number, side="right")) - 1
        return self._group(group).slice(number - int(self._firsts[group]), 1).to_pylist()[0]

    def save(self, path: Path) -> None:
        with pq.ParquetWriter(path, CORPUS, compression="zstd", compression_level=1) as writer:
            for table in self._tables:
                writer.write_table(table, row_group_size=max(1, table.num_rows))


class Builder:
    """Takes documents in order and gives a segment whenever one is full."""

    def __init__(self, shortest: int, segment_words: int = SEGMENT_WORDS) -> None:
        self.shortest, self._limit = shortest, segment_words
        self._words = np.empty(segment_words, np.uint32)  # pages that are never touched cost nothing
        self.documents = self.total_words = self.bytes = 0
        self._start()

    def _start(self) -> None:
        self._words[0], self._count = NO_WORD, 1
        self._tables: list[pa.Table] = []
        self._rows: list[np.ndarray] = []

    def add(self, table: pa.Table) -> Iterator[Segment]:
        """Rows of schema CORPUS, at most a few MB of them at a time."""
        offsets = table["offset"].to_numpy()
        self.documents += int((offsets == 0).sum())
        self.bytes += table["text"].nbytes
        between = np.append(offsets[1:] == 0, False)
        found = hash_words(table["text"].combine_chunks(), between)
        self.total_words += int(found.counts.sum())
        ends = np.cumsum(found.counts + between)
        done = 0  # rows that stand in a segment
        while done < len(ends):
            room = self._limit - self._count - 1
            base = int(ends[done - 1]) if done else 0
            if offsets[done] == 0 and self._words[self._count - 1] != NO_WORD:
                self._put(np.zeros(1, np.uint32))
            fits = int(np.searchsorted(ends, base + room - 1, side="right"))
            if fits > done:
                self._rows.append(np.append(0, ends[done:fits] - base)[:-1] + self._count)
                self._put(found.hashes[base : ends[fits - 1]])
                self._tables.append(table.slice(done, fits - done))
                done = fits
            elif self._count > 1 + OVERLAP_WORDS:
                yield self._finish(keep=int(offsets[done]) > 0)
            else:
                raise InputError(f"a piece of text of {found.counts[done]:,} words is longer than an index's segment")

    def _put(self, words: np.ndarray) -> None:
        self._words[self._count : self._count + len(words)] = words
        self._count += len(words)

    def end(self) -> Iterator[Segment]:
        """The last segment. Raises InputError where the corpus had no word: nothing is clean of it."""
        if not self.total_words:
            raise InputError(EMPTY)
        if self._count > 1 or self._tables:
            yield self._finish(keep=False)

    def _finish(self, *, keep: bool) -> Segment:
        """The segment so far; `keep`: the next one begins with the last words of a document that goes on."""
        if self._words[self._count - 1] != NO_WORD:
            self._put(np.zeros(1, np.uint32))
        words = self._words[: self._count].copy()
        bits = min(30, max(8, (len(words) - 1).bit_length() - 2))
        places, buckets = _sort_places(words, self.shortest, bits)
        rows = np.concatenate([*self._rows, [len(words) - 1]]).astype(np.int64)
        segment = Segment(
            dict(zip(NAMES, (words, places, buckets, rows), strict=True)), Texts(_grouped(self._tables)), self.shortest
        )
        last = self._tables[-1].slice(self._tables[-1].num_rows - 1)
        self._start()
        if keep:
            begins = max(int(rows[-2]), len(words) - 1 - OVERLAP_WORDS)
            self._tables, self._rows = [last], [np.array([1 - (begins - int(rows[-2]))])]
            self._put(words[begins:-1])
        return segment


def _grouped(tables: Sequence[pa.Table]) -> list[pa.Table]:
    """The same rows in tables of about GROUP_BYTES of text."""
    whole = pa.concat_tables([CORPUS.empty_table(), *tables])
    if not whole.num_rows:
        return []
    sizes = np.cumsum(pc.binary_length(whole["text"]).to_numpy())
    groups = sizes // GROUP_BYTES
    starts = [0, *(np.flatnonzero(np.diff(groups)) + 1).tolist(), whole.num_rows]
    return [whole.slice(a, b - a) for a, b in pairwise(starts)]


def segments_of(batches: Iterable[pa.Table], shortest: int, segment_words: int = SEGMENT_WORDS) -> Iterator[Segment]:
    """The segments of a corpus (tables of schema CORPUS), one in memory at a time."""
    builder = Builder(shortest, segment_words)
    for table in batches:
        yield from builder.add(table)
    yield from builder.end()


def write_index(
    folder: Path, batches: Iterable[pa.Table], shortest: int, facts: dict[str, Any], segment_words: int = SEGMENT_WORDS
) -> dict[str, Any]:
    """Build an index below `folder`; its `index.json`, with `facts` (of what corpus it is), is written last."""
    builder = Builder(shortest, segment_words)
    names: list[str] = []

    def save(segments: Iterator[Segment]) -> None:
        for segment in segments:
            names.append(f"segment_{len(names):05}")
            segment.save(folder / names[-1])

    for table in batches:
        save(builder.add(table))
    save(builder.end())
    made = facts | {
        "format": FORMAT,
        "shortest": shortest,
        "segments": names,
        "documents": builder.documents,
        "words": builder.total_words,
        "bytes": builder.bytes,
    }
    write_json(folder / "index.json", made)
    return made


class Index:
    """An index on disk. Raises InputError where the folder holds none, or one of another format."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        facts = read_json(folder / "index.json") if (folder / "index.json").is_file() else None
        if not isinstance(facts, dict) or facts.get("format") != FORMAT:
            raise InputError(f"{folder}: no index of this version; build it with `dvc repro corpus_index` or --keep")
        if not facts.get("words"):
            raise InputError(f"{folder}: {EMPTY}")
        self.facts: dict[str, Any] = facts
        self.shortest = int(facts["shortest"])

    def __iter__(self) -> Iterator[Segment]:
        return (Segment.open(self.folder / name, self.shortest) for name in self.facts["segments"])
