"""spaCy's affix rules for English (3.8: lang/punctuation.py, lang/en/punctuation.py) on chunks of ASCII, compiled.

The same loop as its Tokenizer: affixes are stripped from both ends until an exception or nothing more is found, then
the core is cut at infixes unless it looks like a URL. What is a URL is asked of spaCy's own pattern.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numba
import numpy as np

from stages.corpus.rules.characters import BASE, mixed, slot, table_size

DONE, MAYBE_URL, TO_CUT = 0, 1, 2  # what is left to do for a core


def _table(members: str) -> np.ndarray:
    table = np.zeros(128, np.bool_)
    table[[ord(member) for member in members]] = True
    return table


def _packed(words: str) -> np.ndarray:
    return np.array([int.from_bytes(word.encode(), "big") for word in words.split()], np.uint32)


DIGITS = "0123456789"
LOWER, UPPER = "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
MARKS, QUOTES = ",:;!?()[]{}<>_#*&", "'\"`"
IS_DIGIT, IS_LOWER, IS_UPPER = map(_table, (DIGITS, LOWER, UPPER))
IS_QUOTE = _table(QUOTES + ",")  # spaCy counts the comma among the quotes that open low
IS_LETTER = IS_LOWER | IS_UPPER
IS_PREFIX = _table(MARKS + QUOTES + "%=$")
IS_SUFFIX = _table(MARKS + QUOTES)
IS_OPERATOR, IS_JOINT = _table("+-*^"), _table("~:<>=/")  # infixes between digits; before a letter
BEFORE_STOP = _table(DIGITS + LOWER + "%-+|" + MARKS + QUOTES)  # spaCy's class has the bar of its own alternatives
AFTER_DIGIT = _packed(  # units and currencies
    "km m dm cm mm ha nm yd in ft kg g mg t lb oz m/s km/h kmh mph hPa Pa mbar mb MB kb KB gb GB tb TB T G M K % "
    "$ US$ C$ A$"
)
STOP, HYPHEN, PLUS, DOLLAR, APOSTROPHE = map(ord, ".-+$'")


@numba.njit(cache=True)
def _hash(codes: np.ndarray, start: int, end: int) -> np.uint64:
    key = np.uint64(end - start)
    for place in range(start, end):
        key = key * BASE + mixed(codes[place])
    return key | np.uint64(1)


@numba.njit(cache=True)
def _exception(codes: np.ndarray, start: int, end: int, table: np.ndarray, longest: int) -> int:
    """Slot of the exception that codes[start:end] is, -1 if none."""
    if end - start > longest or end == start:
        return -1
    key = _hash(codes, start, end)
    place = slot(table, key)
    return place if table[place] == key else -1


@numba.njit(cache=True)
def _dots(codes: np.ndarray, start: int, end: int, step: int) -> int:
    """Length of the run of dots at the start (step 1) or before the end (step -1)."""
    place = start if step == 1 else end - 1
    length = 0
    while start <= place < end and codes[place] == STOP:
        place += step
        length += 1
    return length


@numba.njit(cache=True)
def _prefix(codes: np.ndarray, start: int, end: int) -> int:
    """Length of the prefix, 0 if there is none."""
    if end == start:
        return 0
    first = codes[start]
    if IS_PREFIX[first]:
        return 1
    if first == STOP:
        dots = _dots(codes, start, end, 1)
        return dots if dots > 1 else 0
    if first == PLUS:
        return 1 if start + 1 == end or not IS_DIGIT[codes[start + 1]] else 0
    if (first == 0x41 or first == 0x43) and start + 1 < end and codes[start + 1] == DOLLAR:  # A$, C$
        return 2
    if first == 0x55 and start + 2 < end and codes[start + 1] == 0x53 and codes[start + 2] == DOLLAR:  # US$
        return 3
    return 0


@numba.njit(cache=True)
def _suffix(codes: np.ndarray, start: int, end: int) -> int:
    """Length of the suffix, 0 if there is none."""
    if end == start:
        return 0
    last = codes[end - 1]
    if IS_SUFFIX[last]:
        return 1
    before = codes[end - 2] if end - start > 1 else 0
    if last == STOP:
        dots = _dots(codes, start, end, -1)
        if dots > 1:
            return dots
        shout = end - start > 2 and IS_UPPER[before] and IS_UPPER[codes[end - 3]]
        return 1 if BEFORE_STOP[before] or shout else 0
    if last == PLUS:
        return 1 if IS_DIGIT[before] else 0
    if before == APOSTROPHE and (last == 0x73 or last == 0x53):
        return 2
    packed = np.uint32(0)
    for length in range(1, min(5, end - start)):
        code = codes[end - length]
        if IS_DIGIT[code]:
            return 0
        packed |= np.uint32(code) << np.uint32(8 * (length - 1))
        if IS_DIGIT[codes[end - length - 1]]:
            for unit in AFTER_DIGIT:
                if unit == packed:
                    return length
            return 0
    return 0


@numba.njit(cache=True)
def _infix(codes: np.ndarray, place: int, start: int, end: int) -> int:
    """Length of the infix at `place` of the core codes[start:end], 0 if there is none."""
    code = codes[place]
    if code == STOP and place + 1 < end and codes[place + 1] == STOP:
        return _dots(codes, place, end, 1)
    if place == start or place + 1 == end:
        return 0
    before, after = codes[place - 1], codes[place + 1]
    if IS_OPERATOR[code] and IS_DIGIT[before] and (IS_DIGIT[after] or after == HYPHEN):
        return 1
    if code == STOP:
        return 1 if (IS_LOWER[before] or IS_QUOTE[before]) and (IS_UPPER[after] or IS_QUOTE[after]) else 0
    if code == 0x2C:  # ,
        return 1 if IS_LETTER[before] and IS_LETTER[after] else 0
    if not (IS_LETTER[before] or IS_DIGIT[before]):
        return 0
    if code == HYPHEN:  # one to three
        length = 1
        while length < 3 and place + length < end and codes[place + length] == HYPHEN:
            length += 1
        return length if place + length < end and IS_LETTER[codes[place + length]] else 0
    return 1 if IS_JOINT[code] and IS_LETTER[after] else 0


@numba.njit(cache=True)
def _strip(
    codes: np.ndarray,
    ends: np.ndarray,
    table: np.ndarray,
    parts: np.ndarray,
    longest: int,
    starts_token: np.ndarray,
    cores: np.ndarray,
    todo: np.ndarray,
) -> None:
    """Strip the affixes of every chunk: marks where tokens start, and says what is to do for the core."""
    first = 0
    for chunk in range(ends.shape[0]):
        start, end = first, ends[chunk]
        starts_token[first] = True
        size = -1
        while start < end and end - start != size:
            if _exception(codes, start, end, table, longest) >= 0:
                break
            size = end - start
            prefix = _prefix(codes, start, end)
            if prefix and _exception(codes, start + prefix, end, table, longest) >= 0:
                start += prefix
                break
            suffix = _suffix(codes, start + prefix, end)
            if suffix:
                if _exception(codes, start, end - suffix, table, longest) >= 0:
                    end -= suffix
                    starts_token[end] = True
                    break
                end -= suffix
                starts_token[end] = True
            if prefix:
                start += prefix
                if start < codes.shape[0]:
                    starts_token[start] = True
        if start < end:
            starts_token[start] = True
        cores[chunk, 0], cores[chunk, 1] = start, end
        todo[chunk] = DONE
        found = _exception(codes, start, end, table, longest)
        if found >= 0:
            place = start
            for part in parts[found]:
                if part:
                    starts_token[place] = True
                    place += part
        elif end > start:
            todo[chunk] = MAYBE_URL if _dotted(codes, start, end) else TO_CUT
        first = ends[chunk]


@numba.njit(cache=True)
def _dotted(codes: np.ndarray, start: int, end: int) -> bool:
    """Whether there is a dot inside: without one nothing is a URL."""
    dots = 0
    for place in range(start + 1, end - 1):
        dots += codes[place] == STOP
    return dots > 0


@numba.njit(cache=True)
def _cut_cores(codes: np.ndarray, cores: np.ndarray, todo: np.ndarray, starts_token: np.ndarray) -> None:
    for chunk in range(cores.shape[0]):
        if todo[chunk] != TO_CUT:
            continue
        start, end = cores[chunk, 0], cores[chunk, 1]
        place = start
        while place < end:
            length = _infix(codes, place, start, end)
            if length and place > start:  # spaCy passes over an infix at the very start
                starts_token[place] = True
                if place + length < end:
                    starts_token[place + length] = True
            place += max(length, 1)


class Affixes:
    """The rules with a table of exceptions (text -> its tokens) and what matches a URL."""

    def __init__(self, exceptions: Mapping[str, Sequence[str]], url_match: Callable[[str], Any]) -> None:
        self._url_match = url_match
        plain = {text: tokens for text, tokens in exceptions.items() if text.isascii()}
        self._longest = max(map(len, plain))
        self._table = np.zeros(table_size(4 * len(plain)), np.uint64)
        self._parts = np.zeros((len(self._table), max(map(len, plain.values()))), np.int32)
        for text, tokens in plain.items():
            key = np.uint64(_hash(np.frombuffer(text.encode(), np.uint8), 0, len(text)))
            place = slot(self._table, key)
            self._table[place] = key
            self._parts[place, : len(tokens)] = list(map(len, tokens))

    def cut(self, chunks: Sequence[str]) -> tuple[list[str], np.ndarray]:
        """(tokens of all chunks, number of each chunk's tokens) of chunks that are ASCII and not empty."""
        if not chunks:
            return [], np.zeros(0, np.int64)
        joined = "".join(chunks)
        codes = np.frombuffer(joined.encode("ascii"), np.uint8)
        ends = np.cumsum(np.fromiter(map(len, chunks), np.int64, len(chunks)))
        starts_token = np.zeros(len(codes), np.bool_)
        cores, todo = np.empty((len(chunks), 2), np.int64), np.empty(len(chunks), np.uint8)
        _strip(codes, ends, self._table, self._parts, self._longest, starts_token, cores, todo)
        for chunk in np.flatnonzero(todo == MAYBE_URL):
            start, end = cores[chunk].tolist()
            todo[chunk] = DONE if self._url_match(joined[start:end]) else TO_CUT
        _cut_cores(codes, cores, todo, starts_token)
        starts = np.flatnonzero(starts_token)
        tokens = [joined[start:end] for start, end in pairwise([*starts.tolist(), len(codes)])]
        return tokens, np.diff(np.searchsorted(starts, ends), prepend=0)
