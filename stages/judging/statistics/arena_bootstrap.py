"""The bootstrap of Bradley–Terry ratings: battles, or clusters of battles, drawn with replacement."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stages.base.errors import InputError
from stages.judging.statistics.arena import PRIOR_TIES, Rows, compressed, maximum, with_prior
from stages.judging.statistics.battles import Battles, groups, has_maximum, read
from stages.judging.statistics.logistic import sigmoid

_AT_ONCE = 4_000_000  # numbers in one [resamples, n, n] array


@dataclass(frozen=True)
class BootstrapRatings:
    """Ratings of each resample, mean 0."""

    names: tuple[str, ...]
    ratings: np.ndarray = field(repr=False)  # [resamples, n]
    n_regularised: int  # resamples without a finite maximum, which got PRIOR_TIES

    def intervals(self, level: float = 0.95) -> dict[str, tuple[float, float]]:
        """Percentile intervals."""
        low, high = np.quantile(self.ratings, [0.5 - level / 2, 0.5 + level / 2], axis=0)
        return {name: (float(a), float(b)) for name, a, b in zip(self.names, low, high, strict=True)}

    def standard_errors(self) -> dict[str, float]:
        return dict(zip(self.names, self.ratings.std(0, ddof=1).tolist(), strict=True))


def bootstrap(battles: Any, resamples: int, seed: int, *, style: Sequence[str] = ()) -> BootstrapRatings:
    """Columns as for `fit_bradley_terry`; with a column `cluster`, clusters are drawn.

    Without style, drawing m battles is drawing how many fell into each (pair, outcome): one multinomial, and all
    resamples are fitted at once from the full sample's ratings. Raises InputError for models that never met.
    """
    parsed = read(battles, style)
    n, wins = len(parsed.names), parsed.wins()
    if groups(wins).max() > 0:
        raise InputError("battles: groups of models never met; bootstrap them one by one")
    if resamples < 2:
        raise InputError(f"bootstrap: {resamples} resamples; at least 2 are needed")
    generator = np.random.default_rng(seed)
    rows = compressed(parsed)
    full, _ = maximum(rows if has_maximum(wins) else with_prior(rows), n)
    if style:
        return _one_by_one(parsed, rows, full, resamples, generator)
    drawn, regularised = [], 0
    for start in range(0, resamples, size := max(1, _AT_ONCE // n**2)):
        table = _tables(parsed, min(size, resamples - start), generator)
        weak = np.array([not has_maximum(one) for one in table])
        table[weak] += PRIOR_TIES / 2 * ((wins + wins.T) > 0)
        regularised += int(weak.sum())
        drawn.append(_all_at_once(table, full))
    return BootstrapRatings(parsed.names, np.concatenate(drawn), regularised)


def _tables(battles: Battles, count: int, generator: np.random.Generator) -> np.ndarray:
    """[count, n, n]: wins of i over j in each resample."""
    n, m = len(battles.names), len(battles.score)
    cells, cell = np.unique((battles.a * n + battles.b) * 3 + (2 * battles.score).astype(np.int64), return_inverse=True)
    if battles.cluster is None:
        times = generator.multinomial(m, np.bincount(cell) / m, size=count).astype(np.float64)
    else:
        kinds = int(battles.cluster.max()) + 1
        drawn = generator.multinomial(kinds, np.full(kinds, 1 / kinds), size=count)
        times = np.array([np.bincount(cell, row[battles.cluster], len(cells)) for row in drawn])
    pair, score = cells // 3, (cells % 3) / 2
    table = np.zeros((count, n * n))
    for at, weight in ((pair, score), (pair % n * n + pair // n, 1 - score)):
        order = np.argsort(at, kind="stable")
        where, first = np.unique(at[order], return_index=True)
        table[:, where] += np.add.reduceat((times * weight)[:, order], first, axis=1)
    return table.reshape(count, n, n)


def _all_at_once(wins: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Newton steps for all resamples together; a step is cut to 2 logits, far more than a resample moves."""
    count, n, _ = wins.shape
    games, total = wins + wins.transpose(0, 2, 1), wins.sum(2)
    theta = np.tile(start, (count, 1))
    diagonal = np.arange(n)
    for _ in range(100):
        p = sigmoid(theta[:, :, None] - theta[:, None, :])
        expected = games * p
        gradient = total - expected.sum(2)
        hessian = expected * (p - 1)
        hessian[:, diagonal, diagonal] = -hessian.sum(2)
        hessian += 1.0 / n
        step = np.linalg.solve(hessian, gradient[..., None])[..., 0]
        step -= step.mean(1, keepdims=True)
        largest = np.abs(step).max(1, keepdims=True)
        theta += step * np.minimum(1, 2 / np.maximum(largest, 1e-300))
        if largest.max() < 1e-8:
            return theta
    raise InputError("battles: a resample's fit doesn't converge; some models are all but unbeaten")


def _one_by_one(
    battles: Battles, rows: Rows, full: np.ndarray, resamples: int, generator: np.random.Generator
) -> BootstrapRatings:
    n, m = len(battles.names), len(battles.score)
    cluster = np.arange(m) if battles.cluster is None else battles.cluster
    kinds = int(cluster.max()) + 1
    drawn, regularised = [], 0
    for _ in range(resamples):
        times = np.bincount(generator.integers(0, kinds, kinds), minlength=kinds)[cluster].astype(np.float64)
        again = Rows(rows.a, rows.b, times, times * rows.wins, rows.features)
        table = np.bincount(rows.a * n + rows.b, again.wins, n * n) + np.bincount(
            rows.b * n + rows.a, times - again.wins, n * n
        )
        weak = not has_maximum(table.reshape(n, n))
        regularised += weak
        drawn.append(maximum(with_prior(again) if weak else again, n, full)[0][:n])
    return BootstrapRatings(battles.names, np.array(drawn), regularised)
