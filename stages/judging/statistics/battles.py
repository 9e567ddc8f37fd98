"""Battles of two models as integer arrays: parsing, refusals, who met whom, style differences."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse.csgraph import connected_components

from stages.base.errors import InputError
from stages.judging.statistics.columns import column, column_names, values

WINNERS = {"model_a": 1.0, "model_b": 0.0, "tie": 0.5, "tie (bothbad)": 0.5}  # the last as in Arena's published votes


@dataclass(frozen=True)
class Battles:
    """m battles among n models."""

    names: tuple[str, ...]  # [n], sorted
    a: np.ndarray  # [m], places in names
    b: np.ndarray  # [m]
    score: np.ndarray  # [m]: 1 where a won, 0.5 for a tie
    cluster: np.ndarray | None  # [m], what makes battles dependent; None: all are independent
    features: np.ndarray  # [m, k], standardised style differences, a's minus b's

    def wins(self) -> np.ndarray:
        """[n, n]: wins of i over j, a tie half for each."""
        n = len(self.names)
        flat = np.bincount(self.a * n + self.b, self.score, n * n)
        return (flat + np.bincount(self.b * n + self.a, 1 - self.score, n * n)).reshape(n, n)

    def only(self, rows: np.ndarray) -> "Battles":
        """The battles of these rows, among the models that they name."""
        kept = np.unique(np.concatenate([self.a[rows], self.b[rows]]))
        return Battles(
            tuple(self.names[i] for i in kept),
            np.searchsorted(kept, self.a[rows]),
            np.searchsorted(kept, self.b[rows]),
            self.score[rows],
            None if self.cluster is None else self.cluster[rows],
            self.features[rows],
        )


def read(battles: Any, style: Sequence[str] = ()) -> Battles:
    """Columns model_a, model_b, winner, perhaps cluster, and `<name>_a` and `<name>_b` of each style feature.

    Raises InputError, naming the row, for a missing column, an unknown winner, a model against itself or a bad count.
    """
    a, b, winner = (values(battles, name, "battles") for name in ("model_a", "model_b", "winner"))
    if not winner:
        raise InputError("battles: there are none")
    score = _scores(winner)
    names = tuple(sorted({str(name) for name in a} | {str(name) for name in b}))
    place = {name: i for i, name in enumerate(names)}
    codes = tuple(np.array([place[str(name)] for name in side], dtype=np.int64) for side in (a, b))
    same = np.flatnonzero(codes[0] == codes[1])
    if len(same):
        raise InputError(f"battles: row {int(same[0])}: `{a[same[0]]}` meets itself")
    features = [_difference(battles, name) for name in style]
    stacked = np.column_stack(features) if features else np.zeros((len(score), 0))
    return Battles(names, codes[0], codes[1], score, _cluster(battles, len(score)), stacked)


def groups(wins: np.ndarray) -> np.ndarray:
    """[n]: which models can be compared, through whatever chain of battles."""
    return np.asarray(connected_components(wins > 0, directed=True, connection="weak")[1])


def has_maximum(wins: np.ndarray) -> bool:
    """Whether every model has, through a chain of others, both beaten and lost to every other (Ford 1957)."""
    return bool(connected_components(wins > 0, directed=True, connection="strong")[0] == 1)


def _scores(winner: list[Any]) -> np.ndarray:
    try:
        return np.array([WINNERS[w] for w in winner], dtype=np.float64)
    except (KeyError, TypeError):
        row = next(i for i, w in enumerate(winner) if not isinstance(w, str) or w not in WINNERS)
        raise InputError(f"battles: row {row}: winner must be model_a, model_b or tie, not {winner[row]!r}") from None


def _cluster(battles: Any, count: int) -> np.ndarray | None:
    if "cluster" not in column_names(battles):
        return None
    codes = np.unique(np.asarray(battles["cluster"]).astype(str), return_inverse=True)[1]
    if len(codes) != count:
        raise InputError(f"battles: `cluster` has {len(codes)} rows, the others {count}")
    return codes


def _difference(battles: Any, name: str) -> np.ndarray:
    """(a - b) / (a + b) of a count, divided by its standard deviation; 0 where both are 0."""
    a, b = (column(battles, f"{name}_{side}", np.float64, "battles") for side in "ab")
    bad = np.flatnonzero(~(np.isfinite(a) & np.isfinite(b) & (a >= 0) & (b >= 0)))
    if len(bad):
        raise InputError(f"battles: row {int(bad[0])}: style feature `{name}` must be a count of 0 or more")
    total = a + b
    difference = np.divide(a - b, total, out=np.zeros_like(total), where=total > 0)
    spread = float(difference.std())
    return difference / spread if spread > 0 else difference
