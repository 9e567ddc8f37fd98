"""What differs between two values of params, leaf by leaf, and how it is said."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_GONE = object()
_LONGEST = 60  # characters of a value in a sentence


@dataclass(frozen=True)
class Change:
    """One leaf; `old` or `new` is None where `added` or `removed`."""

    name: str
    old: Any
    new: Any
    added: bool = False
    removed: bool = False

    def __str__(self) -> str:
        if self.added:
            return f"`{self.name}` is new: {said(self.new)}"
        if self.removed:
            return f"`{self.name}` is gone (was {said(self.old)})"
        return f"`{self.name}` was {said(self.old)} and is {said(self.new)}"


def value_changes(old: Any, new: Any, name: str) -> Iterator[Change]:
    """The leaves that differ, in the order of the old value, new ones last. A list is one leaf."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys([*old, *new]):
            yield from _leaf(old.get(key, _GONE), new.get(key, _GONE), f"{name}.{key}")
    else:
        yield from _leaf(old, new, name)


def _leaf(old: Any, new: Any, name: str) -> Iterator[Change]:
    if isinstance(old, dict) and isinstance(new, dict):
        yield from value_changes(old, new, name)
    elif old is _GONE:
        yield Change(name, None, new, added=True)
    elif new is _GONE:
        yield Change(name, old, None, removed=True)
    elif old != new or isinstance(old, bool) is not isinstance(new, bool):
        yield Change(name, old, new)


def said(value: Any) -> str:
    text = " ".join((repr(value) if isinstance(value, str) else str(value)).split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
