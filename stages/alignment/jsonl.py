"""JSON Lines files of one's own, checked row by row: an error names file and line."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.base.errors import InputError
from stages.base.files import json_lines


@dataclass(frozen=True)
class Row:
    """An object of the file; `place` is its file and line."""

    place: str
    number: int  # of its line, from 1
    values: dict[str, Any]

    def text(self, key: str, default: str | None = None) -> str:
        """The string at `key`. Raises InputError if it is no string, or missing or blank without a default."""
        value = self.values.get(key, default)
        if value is None or (default is None and not str(value).strip()):
            raise InputError(f"{self.place}: `{key}` is missing or empty")
        if not isinstance(value, str):
            raise InputError(f"{self.place}: `{key}` must be a string, not {value!r:.60}")
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise InputError(f"{self.place}: `{key}` holds half of a surrogate pair, which is no text") from None
        return value

    def texts(self, key: str) -> list[str]:
        """The list of strings at `key`, by default empty."""
        value = self.values.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise InputError(f"{self.place}: `{key}` must be a list of strings")
        return value


def read_rows(path: Path, required: Sequence[str], optional: Sequence[str]) -> list[Row]:
    """The objects of a file, blank lines left out; `required` and `optional` are the keys that they may have.

    Raises InputError for a file that can't be read or has no rows, a line that is no JSON object, or an unknown key.
    """
    known = [*required, *optional]
    rows = []
    for number, values in json_lines(path):
        place = f"{path}:{number}"
        if not isinstance(values, dict):
            raise InputError(f"{place}: must be an object with {_listed(required)}")
        if unknown := sorted(set(values) - set(known)):
            raise InputError(f"{place}: unknown key `{unknown[0]}`; known: {', '.join(known)}")
        rows.append(Row(place, number, values))
    if not rows:
        raise InputError(f"{path}: no rows; write one JSON object a line, with {_listed(required)}")
    return rows


def _listed(keys: Sequence[str]) -> str:
    return " and ".join(f"`{key}`" for key in keys)
