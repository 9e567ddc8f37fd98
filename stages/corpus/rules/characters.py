"""A text as an array of code points, for the kernels that look at every character once."""

import sys

import numba
import numpy as np

LAST_SPACE = 0x3000  # no white space lies above the ideographic space
SPACE = np.array([chr(code).isspace() for code in range(LAST_SPACE + 1)])
LINE_FEED, BLANK = 0x0A, 0x20
BASE = np.uint64(0xD1342543DE82EF95)  # odd, from Steele & Vigna's table of multipliers


def codes(text: str) -> np.ndarray:
    """uint32 code points; lone surrogates pass."""
    order = "utf-32-le" if sys.byteorder == "little" else "utf-32-be"
    return np.frombuffer(text.encode(order, "surrogatepass"), np.uint32)


@numba.njit(cache=True, inline="always")
def is_space(code: int) -> bool:
    return code <= LAST_SPACE and SPACE[code]


@numba.njit(cache=True, inline="always")
def ends_line(code: int) -> bool:
    """As str.splitlines has it; "\\r\\n" is one end."""
    return (0x0A <= code <= 0x0D) or (0x1C <= code <= 0x1E) or code == 0x85 or code == 0x2028 or code == 0x2029


@numba.njit(cache=True, inline="always")
def mixed(code: int) -> np.uint64:
    """A character's digit in a polynomial hash mod 2^64."""
    value = (np.uint64(code) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    return value ^ (value >> np.uint64(32))


@numba.njit(cache=True, inline="always")
def slot(table: np.ndarray, key: np.uint64) -> int:
    """Place of a key, or of the free slot where it belongs, in an open-addressing table (0 marks a free slot)."""
    mask = table.shape[0] - 1
    place = np.int64((key * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(20)) & mask
    while table[place] != 0 and table[place] != key:
        place = (place + 1) & mask
    return place


@numba.njit(cache=True)
def table_size(entries: int) -> int:
    """A power of two that leaves half of the slots free."""
    size = 16
    while size < 2 * entries:
        size *= 2
    return size


@numba.njit(cache=True)
def next_line(codes: np.ndarray, place: int) -> tuple[int, int]:
    """(end of the line that starts at `place`, start of the next one), as str.splitlines cuts."""
    end = place
    while end < codes.shape[0] and not ends_line(codes[end]):
        end += 1
    after = end + 1
    if after < codes.shape[0] and codes[end] == 0x0D and codes[after] == 0x0A:
        after += 1
    return end, after


@numba.njit(cache=True)
def strip(codes: np.ndarray, start: int, end: int) -> tuple[int, int]:
    """Bounds of codes[start:end] without white space at its ends."""
    while start < end and is_space(codes[start]):
        start += 1
    while end > start and is_space(codes[end - 1]):
        end -= 1
    return start, end
