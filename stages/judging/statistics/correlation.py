"""Rank correlation of two columns of a leaderboard, with a bootstrap over its models.

`python -m stages.judging.statistics.correlation FILE.csv FIRST SECOND` prints it for any two numeric columns.
"""

import argparse
import csv
import itertools
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata

from stages.base.contracts.leaderboard import Correlation as Correlated
from stages.base.errors import InputError, TrainyardError

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


def probability_higher(
    one: Sequence[float] | np.ndarray,
    other: Sequence[float] | np.ndarray,
    target: Sequence[float] | np.ndarray,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> float:
    """Share of resamples of the models in which `one` correlates with the target more than `other` does.

    Both are drawn together, so that this can be decided where their separate intervals overlap.
    """
    columns = np.array([np.asarray(c, dtype=np.float64) for c in (one, other, target)])
    kept = columns[:, np.isfinite(columns).all(0)]
    drawn = _resampled(list(kept), resamples, seed)
    higher = _rho(drawn[[0, 2]]) - _rho(drawn[[1, 2]])
    higher = higher[np.isfinite(higher)]
    return float(((higher > 0) + 0.5 * (higher == 0)).mean()) if len(higher) else math.nan


def correlate(rows: Sequence[Mapping[str, Any]], first: str, second: str, *, seed: int = 0) -> Correlation:
    """`spearman` of two columns of a table of rows; empty cells and None are missing."""
    columns = []
    for name in (first, second):
        if not rows or name not in rows[0]:
            known = ", ".join(key for key in (rows[0] if rows else {}) if _numeric(rows, key))
            raise InputError(f"correlation: no column `{name}`; numeric columns are: {known or 'none'}")
        if not _numeric(rows, name):
            raise InputError(f"correlation: column `{name}` isn't numeric")
        columns.append([_number(row[name]) for row in rows])
    return spearman(*columns, seed=seed)


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


def _number(cell: Any) -> float:
    return math.nan if cell in (None, "") else float(cell)


def _numeric(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    try:
        return any(math.isfinite(_number(row[name])) for row in rows)
    except (TypeError, ValueError):
        return False


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m stages.judging.statistics.correlation", description="Spearman's rho."
    )
    parser.add_argument("table", type=Path, help="a CSV file with a row a model, e.g. leaderboard.csv")
    parser.add_argument("first")
    parser.add_argument("second")
    options = parser.parse_args(arguments)
    try:
        try:
            with options.table.open(encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file))
        except OSError as error:
            raise InputError(f"{options.table}: {error.strerror}") from None
        found = correlate(rows, options.first, options.second)
    except TrainyardError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    left_out = f", {found.n_missing} left out" if found.n_missing else ""
    print(f"rho {found.rho:.3f} [{found.low:.3f}, {found.high:.3f}], {found.n} models{left_out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
