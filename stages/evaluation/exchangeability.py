"""Does the order of a test set carry information? Then a model that can read prefers it without having seen it.

The ordering test needs exchangeable examples. A file may be sorted (by text, by length, by answer), grouped by subject,
or keep what belongs together side by side (questions of one passage). Each is a statistic of the order, compared with
the same statistic of shuffled orders; one far from them is reported by name.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from stages.base.seeds import derive
from stages.evaluation.ordering import shuffled_order

FAR = 4.0  # standard deviations: a set without order is called ordered once in some thousands
SHUFFLES = 200
WIDTH = 512  # of the hashed bags of words
_WORD = re.compile(r"\w+")


class Arrangement(NamedTuple):
    """blocks: the group of each example, where the file is grouped; else None. reason: what orders it, or ""."""

    blocks: tuple[str, ...] | None
    reason: str


def arrangement(texts: Sequence[str], subjects: Sequence[str], answers: Sequence[int], seed: int) -> Arrangement:
    """How a set's file is arranged. A file grouped by subject is looked at within its subjects.

    answers: index of the right choice, -1 where there is none.
    """
    if len(texts) < 4:
        return Arrangement(None, "")
    blocks = tuple(subjects) if grouped(subjects) else None
    if blocks and max(Counter(blocks).values()) < 2:
        return Arrangement(blocks, "each question is of a subject of its own")
    traits: dict[str, Sequence[float]] = {
        "sorted by text": _ranks(texts),
        "sorted by length": _ranks([len(text) for text in texts]),
        "sorted by answer": _ranks(answers),
    }
    found = [name for name, values in traits.items() if abs(_trend(np.asarray(values), blocks, seed)) > FAR]
    if _neighbours(texts, blocks, seed) > FAR:
        found.append("neighbours share more words than others do")
    return Arrangement(blocks, "; ".join(found))


def grouped(subjects: Sequence[str]) -> bool:
    """Whether equal subjects stand together more often than by chance (join counts, normal approximation)."""
    n, counts = len(subjects), np.array(list(Counter(subjects).values()), dtype=np.float64)
    if len(counts) < 2 or n < 4:
        return False
    together = sum(a == b for a, b in pairwise(subjects))
    share = float((counts * (counts - 1)).sum()) / (n * (n - 1))
    return together > (n - 1) * share + FAR * np.sqrt((n - 1) * share * (1 - share)) or (
        together == n - len(counts) and len(counts) < n
    )


def _ranks(values: Sequence) -> list[float]:  # type: ignore[type-arg]
    place = {value: i for i, value in enumerate(sorted(set(values)))}
    return [float(place[value]) for value in values]


def _trend(values: np.ndarray, blocks: Sequence[str] | None, seed: int) -> float:
    """How far the order of the values is from a random one, by their correlation with the place in the file."""
    places = np.arange(len(values), dtype=np.float64)
    return _far(lambda order: float(places @ values[order]), len(values), blocks, derive(seed, "trend"))


def _neighbours(texts: Sequence[str], blocks: Sequence[str] | None, seed: int) -> float:
    """The same, by the cosine of neighbours' bags of words; words of most texts count for nothing."""
    bags = [set(_WORD.findall(text.lower())) for text in texts]
    common = Counter(word for bag in bags for word in bag)
    vectors = np.zeros((len(texts), WIDTH))
    for row, bag in zip(vectors, bags, strict=True):
        for word in bag:
            if common[word] <= max(2, len(texts) // 4):
                row[derive(0, word) % WIDTH] += 1.0
    vectors /= np.maximum(1e-9, np.linalg.norm(vectors, axis=1, keepdims=True))

    def alike(order: np.ndarray) -> float:
        moved = vectors[order]
        return float((moved[:-1] * moved[1:]).sum())

    return _far(alike, len(texts), blocks, derive(seed, "neighbours"))


def _far(statistic: Callable[[np.ndarray], float], size: int, blocks: Sequence[str] | None, seed: int) -> float:
    """Standard deviations between the file's order and shuffled ones; 0 where all orders are alike."""
    rng = np.random.default_rng(seed)
    others = np.array([statistic(shuffled_order(rng, size, blocks)) for _ in range(SHUFFLES)])
    spread = float(others.std(ddof=1))
    found = statistic(np.arange(size)) - float(others.mean())
    return found / spread if spread > 1e-9 * max(1.0, abs(float(others.mean()))) else 0.0
