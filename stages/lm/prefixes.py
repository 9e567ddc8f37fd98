"""What is to be read of many token sequences so that what several begin with is read once, however they are ordered.

Sorted, sequences with a common beginning stand together: they are a trie, and each of its nodes is read once. Long
common beginnings that many share are *trunks*, kept as keys and values; what hangs below a trunk is small trees, which
are read many at a time.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

TREE = 128  # tokens of a tree at most: its attention is masked, and half or more of it thrown away
CHAIN = 1024  # tokens of a sequence that is read by itself, at most, without a trunk
PACK = 1024  # tokens of trees that are read together, about
EDGE = 32  # a shorter common beginning isn't worth a trunk: its tokens are read again
PART = 8192  # tokens of a part, about: what one process does before it may be another's turn

Ids = np.ndarray  # [length] int32
Pairs = Sequence[tuple[Ids, Ids]]


@dataclass(frozen=True)
class Trunk:
    """Tokens first .. end - 1 of sequence `low`, which sequences low .. high - 1 share."""

    low: int
    high: int
    first: int
    end: int


@dataclass(frozen=True)
class Step:
    """Read behind `path`, trunk behind trunk: one more trunk, or else trees, each of sequences low .. high - 1."""

    path: tuple[Trunk, ...]
    trunk: Trunk | None
    trees: tuple[tuple[int, int], ...]
    tokens: int


@dataclass(frozen=True)
class Reading:
    """The tokens of a step, tree after tree, each in depth-first order.

    tokens, positions [N]; ends [N]: one more than the last token below each, itself included, which is all that sees
    it; starts [trees + 1]: where trees begin. Asked: nodes [n], ascending, whose next token is to be predicted, and
    for each score wanted its row in `nodes`, its target and its slot among all scores.
    """

    tokens: np.ndarray
    positions: np.ndarray
    ends: np.ndarray
    starts: list[int]
    nodes: np.ndarray
    rows: np.ndarray
    targets: np.ndarray
    slots: np.ndarray


class Plan:
    """How to score the continuations of pairs (context, continuation), neither empty.

    `offsets` [pairs + 1]: where the scores of a pair's continuation stand among all. The same pairs in another order
    make the same steps.
    """

    def __init__(self, pairs: Pairs) -> None:
        self.offsets = np.cumsum([0, *(len(continuation) for _, continuation in pairs)])
        self._pairs = pairs
        askers: dict[bytes, list[int]] = {}
        for index, (context, continuation) in enumerate(pairs):
            read = np.concatenate((context, continuation[:-1]))
            askers.setdefault(read.astype(">i4").tobytes(), []).append(index)  # bytes sort as their numbers do
        ordered = sorted(askers)
        self._askers = [askers[key] for key in ordered]
        self._rows = [np.frombuffer(key, ">i4").astype(np.int32) for key in ordered]
        self._lengths = np.array([len(row) for row in self._rows])
        self._shared = np.array([0, *(_common(a, b) for a, b in zip(self._rows, self._rows[1:], strict=False))])
        self._new = np.concatenate(([0], np.cumsum(self._lengths - self._shared)))  # tokens of a trie of the first i
        self.steps = list(self._below(0, len(self._rows), ())) if self._rows else []
        self.parts = list(_parts(self.steps))

    def _size(self, low: int, high: int, depth: int) -> int:
        """Tokens of a trie of these sequences from this depth on."""
        return int(self._lengths[low] - depth + self._new[high] - self._new[low + 1])

    def _below(self, low: int, high: int, path: tuple[Trunk, ...]) -> Iterator[Step]:
        depth = path[-1].end if path else 0
        trees, trunks, open_ranges = [], [], [(low, high)]
        while open_ranges:
            first, end = open_ranges.pop()
            size = self._size(first, end, depth)
            if size <= (CHAIN if end - first == 1 else TREE):
                if size:
                    trees.append((size, first, end))
            elif end - first == 1:
                trunks.append(Trunk(first, end, depth, int(self._lengths[first])))
            else:
                shared = self._shared[first + 1 : end]
                least = int(shared.min())
                if least - depth >= EDGE:
                    trunks.append(Trunk(first, end, depth, least))
                else:
                    cuts = [first, *(first + 1 + np.flatnonzero(shared == least)).tolist(), end]
                    open_ranges += itertools.pairwise(cuts)
        for pack in _packs(sorted(trees)):
            yield Step(path, None, tuple((first, end) for _, first, end in pack), sum(size for size, _, _ in pack))
        for trunk in sorted(trunks, key=lambda one: one.low):
            yield Step(path, trunk, (), trunk.end - trunk.first)
            yield from self._below(trunk.low, trunk.high, (*path, trunk))

    def trunk(self, trunk: Trunk) -> Ids:
        return self._rows[trunk.low][trunk.first : trunk.end]

    def reading(self, step: Step) -> Reading:
        """The tokens of a step, and what is asked of them."""
        first = step.path[-1].end if step.path else 0
        end = step.trunk.end if step.trunk else None
        ranges = [(step.trunk.low, step.trunk.high)] if step.trunk else step.trees
        tokens, positions, ends, starts = [], [], np.empty(step.tokens, np.int64), [0]
        asked: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        count = 0
        for low, high in ranges:
            nodes = np.empty(0, np.int64)  # of the sequence at hand, from depth `first` on
            for row in range(low, high):
                own = self._rows[row][first:end]
                kept = max(0, min(int(self._shared[row]) - first, len(nodes))) if row > low else 0
                if kept < len(own):
                    ends[nodes[kept:]] = count
                    fresh = np.arange(count, count + len(own) - kept)
                    nodes = np.concatenate((nodes[:kept], fresh))
                    tokens.append(own[kept:])
                    positions.append(first + np.arange(kept, len(own)))
                    count += len(fresh)
                asked += self._asked(row, first, nodes[: len(own)])
            ends[nodes] = count
            starts.append(count)
        where, targets, slots = (np.concatenate(parts) for parts in zip(*asked, strict=True)) if asked else [_NONE] * 3
        unique, rows = np.unique(where, return_inverse=True)
        return Reading(np.concatenate(tokens), np.concatenate(positions), ends, starts, unique, rows, targets, slots)

    def _asked(self, row: int, first: int, nodes: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """(nodes, targets, slots) of the scores that a sequence's tokens from depth `first` on are asked for."""
        for index in self._askers[row]:
            context, continuation = self._pairs[index]
            begin = len(context) - 1 - first  # the token that predicts the first of the continuation
            skipped, count = max(0, -begin), min(len(continuation), len(nodes) - begin)
            if skipped < count:
                slots = self.offsets[index] + np.arange(skipped, count)
                yield nodes[begin + skipped : begin + count], continuation[skipped:count], slots


_NONE = np.empty(0, np.int64)


def _common(a: Ids, b: Ids) -> int:
    """How many tokens both begin with."""
    size = min(len(a), len(b))
    different = a[:size] != b[:size]
    return int(different.argmax()) if different.any() else size


def _packs(trees: list[tuple[int, int, int]]) -> Iterator[list[tuple[int, int, int]]]:
    """Trees (size, …) in order of size, about `PACK` tokens at a time and all about as many."""
    total = sum(size for size, _, _ in trees)
    most = total / max(1, round(total / PACK))
    pack, done = [], 0
    for place, tree in enumerate(trees):
        pack.append(tree)
        done += tree[0]
        if done >= most * 0.999 or place + 1 == len(trees):
            yield pack
            pack, done = [], 0


def _parts(steps: list[Step]) -> Iterator[list[Step]]:
    """Runs of steps of at least `PART` tokens, that end before a trunk, or of twice as many."""
    part: list[Step] = []
    size = 0
    for step in steps:
        if size >= 2 * PART or (size >= PART and step.trunk):
            yield part
            part, size = [], 0
        part.append(step)
        size += step.tokens
    if part:
        yield part
