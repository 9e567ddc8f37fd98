"""Columns of whatever table a caller has: a DataFrame, an Arrow table, a dict of sequences."""

from typing import Any

import numpy as np

from stages.base.errors import InputError


def column_names(table: Any) -> list[str]:
    if isinstance(table, dict):
        return list(table)
    return [str(name) for name in getattr(table, "column_names", None) or table.columns]


def column(table: Any, name: str, dtype: Any, what: str = "annotations") -> np.ndarray:
    """A numeric column. Raises InputError where it is missing or no number; `what` is the table's name there."""
    try:
        return np.asarray(table[name], dtype=dtype)
    except KeyError:
        raise InputError(f"{what}: column `{name}` is missing") from None
    except (TypeError, ValueError) as error:
        raise InputError(f"{what}: column `{name}` isn't numeric: {error}") from None


def values(table: Any, name: str, what: str) -> list[Any]:
    """A column as Python objects. Raises InputError where it is missing."""
    try:
        found = table[name]
    except KeyError:
        raise InputError(f"{what}: column `{name}` is missing") from None
    return found.to_pylist() if hasattr(found, "to_pylist") else list(found)
