"""Rank correlation of two columns of a leaderboard, with a bootstrap over its models."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import rankdata

from stages.base.contracts.leaderboard import Correlation as Correlated
from stages.base.errors import InputError

RESAMPLES = 2000


@dataclass(frozen=True)
class Correlation:
    """Spearman's rho with a 95 % percentile interval."""

    rho: float
    low: float
    high: float
    n: int  # models with both numbers
    n_missing: int  # models without one of them: left out


def spearman(
    first: Sequence[float] | np.ndarray,
    second: Sequence[float] | np.ndarray,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Correlation:
    """Of two columns with a row a model, NaN where a number is missing.

    Raises InputError for columns of different lengths, fewer than 3 complete rows, or a column of one value.
    """
    x, y, missing = _complete(first, second)
    drawn = _resampled([x, y], resamples, seed)
    rho = _rho(np.stack([x, y])[:, None])
    if math.isnan(rho[0]):
        raise InputError("correlation: one of the columns has the same value everywhere")
    values = _rho(drawn)
    low, high = np.nanquantile(values, [0.025, 0.975])
    return Correlation(float(rho[0]), float(low), float(high), len(x), missing)


def correlations(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> list[Correlated]:
    """Of every two columns; NaN where it can't be told (too few models, a constant)."""
    found = []
    for a, b in itertools.combinations(columns, 2):
        x, y = ([math.nan if row[name] is None else float(row[name]) for row in rows] for name in (a, b))
        try:
            one = spearman(x, y)
        except InputError:
            n = int(np.isfinite(np.array([x, y])).all(0).sum())
            one = Correlation(math.nan, math.nan, math.nan, n, len(rows) - n)
        found.append(Correlated(a=a, b=b, spearman=one.rho, low=one.low, high=one.high, n=one.n))
    return found


def _complete(first: Any, second: Any) -> tuple[np.ndarray, np.ndarray, int]:
    x, y = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1:
        raise InputError(f"correlation: columns of {len(x)} and {len(y)} rows")
    kept = np.isfinite(x) & np.isfinite(y)
    if kept.sum() < 3:
        raise InputError(f"correlation: {int(kept.sum())} rows have both numbers; at least 3 are needed")
    return x[kept], y[kept], int((~kept).sum())


def _resampled(columns: list[np.ndarray], resamples: int, seed: int) -> np.ndarray:
    """[columns, resamples, n]: the same models drawn for all columns."""
    n = len(columns[0])
    rows = np.random.default_rng(seed).integers(0, n, (resamples, n))
    return np.stack([column[rows] for column in columns])


def _rho(pair: np.ndarray) -> np.ndarray:
    """[resamples] rank correlations of [2, resamples, n]; NaN where a column is constant."""
    ranks = rankdata(pair, axis=2)
    centred = ranks - ranks.mean(2, keepdims=True)
    norms = np.sqrt((centred**2).sum(2).prod(0))
    return np.divide((centred[0] * centred[1]).sum(1), norms, out=np.full(norms.shape, np.nan), where=norms > 0)
