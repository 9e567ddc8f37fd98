"""Elo ratings, for comparison: they depend on the order of the battles, which Bradley–Terry ratings don't.

Elo 1978; defaults as Chatbot Arena's first leaderboards had them.
"""

from typing import Any

import numpy as np

from stages.judging.statistics.battles import read

SCALE, BASE = 400.0, 10.0
TO_ELO = SCALE / np.log(BASE)  # an Elo point is this many times smaller than a logit


def elo(battles: Any, k: float = 4.0, initial: float = 1000.0) -> dict[str, float]:
    """Ratings after the battles in their order; columns and errors as for `arena.fit_bradley_terry`."""
    parsed = read(battles)
    ratings = np.full((len(parsed.names), 1), initial)
    _play(ratings, parsed.a[:, None], parsed.b[:, None], parsed.score[:, None], k)
    return dict(zip(parsed.names, ratings[:, 0].tolist(), strict=True))


def shuffled_elo(
    battles: Any, orders: int, seed: int, k: float = 4.0, initial: float = 1000.0
) -> dict[str, np.ndarray]:
    """[orders] ratings of each model, one a random order of the same battles: what order alone does."""
    parsed = read(battles)
    generator = np.random.default_rng(seed)
    shuffled = np.stack([generator.permutation(len(parsed.score)) for _ in range(orders)], axis=1)
    ratings = np.full((len(parsed.names), orders), initial)
    _play(ratings, parsed.a[shuffled], parsed.b[shuffled], parsed.score[shuffled], k)
    return dict(zip(parsed.names, ratings, strict=True))


def _play(ratings: np.ndarray, a: np.ndarray, b: np.ndarray, score: np.ndarray, k: float) -> None:
    """Update ratings [n, orders] in place by battles [m, orders]."""
    each = np.arange(ratings.shape[1])
    for ours, theirs, won in zip(a, b, score, strict=True):
        expected = 1 / (1 + BASE ** ((ratings[theirs, each] - ratings[ours, each]) / SCALE))
        change = k * (won - expected)
        ratings[ours, each] += change
        ratings[theirs, each] -= change
