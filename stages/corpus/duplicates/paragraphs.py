"""Paragraphs that a site repeats on many pages: headers, footers, notices (the CCNet and lecture rule).

A paragraph is a line of the extracted text. Two lines are the same if they agree up to case, digits and spacing, so
that "Page 3 of 9" and "Page 4 of 9" are. Lines are compared by 64-bit hashes of that normal form.
"""

import re

import numba
import numpy as np

from stages.corpus.duplicates.ngrams import (
    DIGIT,
    DOTTED_I,
    FNV_OFFSET,
    FNV_PRIME,
    SPACE,
    TABLE,
    code_points,
    mix,
    unicode_tables,
)
from stages.corpus.duplicates.spill import Partitions

LINE_FEED = np.uint32(0x0A)


@numba.njit(cache=True)
def _line_hashes(codes: np.ndarray, lower: np.ndarray, classes: np.ndarray) -> np.ndarray:
    lines = 1
    for place in range(len(codes)):
        lines += codes[place] == LINE_FEED
    result = np.zeros(lines, np.uint64)
    line, value, blank, space, digit = 0, FNV_OFFSET, True, False, False
    for place in range(len(codes)):
        code = np.uint32(codes[place])
        if code == LINE_FEED:
            result[line] = np.uint64(0) if blank else max(mix(value), np.uint64(1))
            line, value, blank, space, digit = line + 1, FNV_OFFSET, True, False, False
            continue
        kind = classes[code] if code < TABLE else np.uint8(0)
        if kind & SPACE:
            space, digit = True, False
            continue
        if space and not blank:
            value = (value ^ np.uint64(0x20)) * FNV_PRIME
        blank, space = False, False
        if kind & DIGIT:
            if not digit:
                value = (value ^ np.uint64(0x30)) * FNV_PRIME
            digit = True
            continue
        digit = False
        if code == DOTTED_I:  # lower case: "i" and a combining dot
            value = (value ^ np.uint64(0x69)) * FNV_PRIME
            value = (value ^ np.uint64(0x307)) * FNV_PRIME
        else:
            value = (value ^ np.uint64(lower[code] if code < TABLE else code)) * FNV_PRIME
    result[line] = np.uint64(0) if blank else max(mix(value), np.uint64(1))
    return result


def line_hashes(codes: np.ndarray) -> np.ndarray:
    """uint64 hash of the normal form of each line of a text, given as its `code_points`; 0 for a blank line."""
    return _line_hashes(codes, *unicode_tables())


def repeated(lines: Partitions, keep: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """The lines that stand in too many texts: uint64, ascending.

    Parameters: `lines` holds each text's distinct lines under its row; `keep` bool [rows], the texts that count;
    `limits` int64 [rows], the number of texts that is not yet too many (the same for all texts that may share a line).
    """
    found = [np.zeros(0, np.uint64)]
    for part in lines:
        pairs = part[keep[part["row"]]]
        keys, first, counts = np.unique(pairs["key"], return_index=True, return_counts=True)
        found.append(keys[counts > limits[pairs["row"][first]]])
    return np.sort(np.concatenate(found))


def contains(known: np.ndarray, values: np.ndarray) -> np.ndarray:
    """bool: is each value among the known, which ascend?"""
    if len(known) == 0:
        return np.zeros(len(values), bool)
    return known[np.minimum(np.searchsorted(known, values), len(known) - 1)] == values


def without(text: str, known: np.ndarray, salt: np.uint64, min_characters: int) -> tuple[str, int]:
    """(the text without repeated lines, characters removed).

    `known` are the hashes of repeated lines, exclusive-or `salt`, ascending. All go in the unbroken run of repeated and
    blank lines at the top or the bottom of a text, where a site's furniture is. Inside a text a block (the lines
    between two blank ones) goes as a whole or not at all: if every line of it repeats and one has `min_characters`.
    Short lines that stand alone ("Parameters", "See also") are headings there, and a repeated line among others is part
    of what they say: an import in a listing, a row of a table.
    """
    hashes = line_hashes(code_points(text))
    blank = hashes == 0
    hit = contains(known, hashes ^ salt) & ~blank
    if not hit.any():
        return text, 0
    rows = text.split("\n")
    drop = np.zeros(len(rows), bool)
    bounds = np.flatnonzero(np.diff(~blank, prepend=False, append=False))  # starts and ends of blocks in turn
    for start, end in bounds.reshape(-1, 2):
        drop[start:end] = hit[start:end].all() and max(len(row.strip()) for row in rows[start:end]) >= min_characters
    outside = np.flatnonzero(~(hit | blank))
    first, last = (outside[0], outside[-1]) if len(outside) else (len(rows), -1)
    drop[:first] |= hit[:first]
    drop[last + 1 :] |= hit[last + 1 :]
    kept = [row for row, gone in zip(rows, drop, strict=True) if not gone]
    rest = re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip("\n")
    return rest, sum(len(row) for row, gone in zip(rows, drop, strict=True) if gone)
