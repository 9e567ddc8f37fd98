"""Passages cut out of a text, with what stands around them (as GPT-3 did: Brown et al. 2020, appendix C)."""

import re
from collections.abc import Sequence

# Where a sentence or a line ends.
BOUNDARY = re.compile(r"[.!?…。！？]+[\"'”’)\]]*(?=\s)|(?=\n)")


def widen(text: str, start: int, end: int, margin: int) -> tuple[int, int]:
    """The passage [start, end) with `margin` characters on either side, and on to the end of a sentence or line.

    No further than another `margin` characters: a text without sentences is cut at the character.
    """
    low, high = max(0, start - margin), min(len(text), end + margin)
    first, last = max(0, low - margin), min(len(text), high + margin)
    before = [match.end() for match in BOUNDARY.finditer(text, first, low)]
    if before:
        low = before[-1]
    elif first == 0:
        low = 0
    after = BOUNDARY.search(text, high, last)
    if after:
        high = after.end()
    elif last == len(text):
        high = last
    return low, high


def without(text: str, passages: Sequence[tuple[int, int]], margin: int) -> list[str]:
    """What is left around the passages, widened: stripped pieces in order, empty ones left out."""
    pieces, done = [], 0
    for low, high in sorted(widen(text, start, end, margin) for start, end in passages):
        pieces.append(text[done : max(done, low)])
        done = max(done, high)
    return [piece for piece in map(str.strip, [*pieces, text[done:]]) if piece]
