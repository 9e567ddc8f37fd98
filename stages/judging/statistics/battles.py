"""Battles of two models as integer arrays: parsing, refusals, who met whom."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse.csgraph import connected_components

from stages.base.errors import InputError
from stages.judging.statistics.columns import column_names, values

WINNERS = {"model_a": 1.0, "model_b": 0.0, "tie": 0.5, "tie (bothbad)": 0.5}  # the last as in Arena's published votes


@dataclass(frozen=True)
class Battles:
    """m battles among n models."""

    names: tuple[str, ...]  # [n], sorted
    a: np.ndarray  # [m], places in names
    b: np.ndarray  # [m]
    score: np.ndarray  # [m]: 1 where a won, 0.5 for a tie
    cluster: np.ndarray | None  # [m], what makes battles dependent; None: all are independent

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
        )


def read(battles: Any) -> Battles:
    """Columns model_a, model_b, winner, perhaps cluster.

    Raises InputError, naming the row, for a missing column, an unknown winner or a model against itself.
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
    return Battles(names, codes[0], codes[1], score, _cluster(battles, len(score)))


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
