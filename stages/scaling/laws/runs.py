"""A table of training runs: checked, cast to float64, and nothing silently repaired."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from stages.base.errors import InputError


class Runs(NamedTuple):
    """Parameters N, tokens D (or FLOPs C for isoFLOP tables) and loss in nats per token, each of shape (n,)."""

    first: np.ndarray
    second: np.ndarray
    loss: np.ndarray


def positive(name: str, values: ArrayLike) -> np.ndarray:
    """A float64 vector of finite positive numbers; float so that 6·N·D can't overflow int64 at 9.2e18.

    Raises InputError naming the column and the first bad rows (0-based).
    """
    try:
        column = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"column `{name}` is not numeric: {error}") from None
    if column.ndim != 1:
        raise InputError(f"column `{name}` must be one-dimensional, got shape {column.shape}")
    bad = np.flatnonzero(~(np.isfinite(column) & (column > 0)))
    if bad.size:
        shown = ", ".join(f"{row} ({column[row]:g})" for row in bad[:5])
        raise InputError(f"column `{name}` must be finite and positive; bad rows: {shown}; drop or correct them")
    return column


def check_runs(names: tuple[str, str], first: ArrayLike, second: ArrayLike, loss: ArrayLike) -> Runs:
    """Raises InputError for a bad value or for columns of different lengths."""
    columns = [positive(name, values) for name, values in zip((*names, "loss"), (first, second, loss), strict=True)]
    if len({column.size for column in columns}) != 1:
        sizes = ", ".join(f"{name} {column.size}" for name, column in zip((*names, "loss"), columns, strict=True))
        raise InputError(f"columns differ in length: {sizes}")
    return Runs(*columns)
