"""Marks of list items: bullets, and numbers by `start`, `value`, `reversed` and `type` (HTML Standard, 4.4.5)."""

import re

import numba
import numpy as np

from stages.corpus.pages.block_model import innermost
from stages.corpus.pages.block_names import bit

LI, OL, UL = (bit(kind) for kind in ("li", "ol", "ul"))
ATTRIBUTE = re.compile(rb'\s([^\s=">]+)(?:="([^"]*)")?')
INTEGER = re.compile(rb"\s*([+-]?\d{1,9})")
ROMAN = (
    (1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc"), (50, "l"), (40, "xl"), (10, "x"),
    (9, "ix"), (5, "v"), (4, "iv"), (1, "i"),
)  # fmt: skip


def attributes(markup: bytes, place: int) -> dict[bytes, bytes]:
    """The attributes of the start tag at a place of a serialised page."""
    return dict(ATTRIBUTE.findall(markup, place, markup.find(b">", place)))


def integer(value: bytes | None) -> int | None:
    """An attribute as a number, by HTML's rules for parsing integers."""
    found = INTEGER.match(value) if value is not None else None
    return int(found[1]) if found else None


@numba.njit(cache=True)
def list_depths(containers, lists):
    """How many lists each container stands in."""
    depths = np.zeros(len(containers), np.int64)
    for row in range(1, len(containers)):
        depths[row] = depths[containers[row].parent] + (containers[row].kind & lists != 0)
    return depths


def marks(markup: bytes, containers: np.ndarray) -> dict[int, str]:
    """What stands before each item of a page, by its container: `- `, `5. `, `b. `."""
    items = np.flatnonzero(containers["kind"] & LI)
    owners = innermost(containers, OL | UL)[items].tolist()
    ordered = set(np.flatnonzero(containers["kind"] & OL).tolist())
    counts: dict[int, int] = {}
    for owner in owners:
        counts[owner] = counts.get(owner, 0) + 1
    following: dict[int, tuple[int, int, bytes]] = {}  # of each list: its next number, the step, its type
    found: dict[int, str] = {}
    for item, owner, place in zip(items.tolist(), owners, containers["place"][items].tolist(), strict=True):
        if owner not in ordered:
            found[item] = "- "
            continue
        if owner not in following:
            told = attributes(markup, int(containers["place"][owner]))
            step = -1 if b"reversed" in told else 1
            start = integer(told.get(b"start"))
            first = counts[owner] if step < 0 else 1
            following[owner] = (first if start is None else start, step, told.get(b"type", b"1"))
        number, step, kind = following[owner]
        value = integer(attributes(markup, place).get(b"value"))
        number = number if value is None else value
        found[item] = f"{marker(number, kind)}. "
        following[owner] = (number + step, step, kind)
    return found


def marker(number: int, kind: bytes) -> str:
    """A number in the style of a list: 1, a, A, i or I; what the style can't write is in digits."""
    if kind in (b"a", b"A") and number > 0:
        letters = ""
        while number:
            number, letter = divmod(number - 1, 26)
            letters = chr(97 + letter) + letters
        return letters if kind == b"a" else letters.upper()
    if kind in (b"i", b"I") and 0 < number < 4000:
        letters = ""
        for value, sign in ROMAN:
            letters += sign * (number // value)
            number %= value
        return letters if kind == b"i" else letters.upper()
    return str(number)
