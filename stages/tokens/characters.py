"""The kind of every code point, as the tokenizers library classifies it.

Asked of the library and not of `unicodedata`: each follows a Unicode version of its own, and one letter that is new to
the other would cut a text elsewhere than in `tokenizer.json`.
"""

from functools import lru_cache

import numpy as np
from tokenizers import Regex, normalizers, pre_tokenizers

from stages.tokens.pretokenizers import find_pre_tokenizer

# Frozen into the njit kernels of `splitter`: compiled again when this file changes (stages/__init__.py).
OTHER, LETTER, NUMBER, SPACE, NEWLINE, CUT = range(6)  # CUT: a piece by itself, at which the text ends on both sides
PLANES = (0, 1, 2, 3, 14)  # the others have no letters, digits or spaces
_MARK = "\x01"


def _plane(number: int) -> np.ndarray:
    """int64 code points of a plane that a text can have."""
    points = np.arange(number << 16, (number + 1) << 16)
    return points[(points < 0xD800) | (points > 0xDFFF)]


def _matching(points: np.ndarray, pattern: str) -> np.ndarray:
    """bool: which of the code points match, by the library's engine of regular expressions."""
    text = normalizers.Replace(Regex(pattern), _MARK).normalize_str("".join(map(chr, points)))
    return (np.frombuffer(text.encode("utf-32-le"), "<u4") == ord(_MARK)) & (points != ord(_MARK))


def _digits(points: np.ndarray) -> np.ndarray:
    """bool: which of the code points the library's `Digits` cuts off; its Unicode version is not its patterns'."""
    found = np.zeros(len(points), bool)
    split = pre_tokenizers.Digits(individual_digits=True)
    for start in range(0, len(points), 4096):
        for piece, (first, _) in split.pre_tokenize_str("a".join(map(chr, points[start : start + 4096]))):
            if len(piece) == 1 and first % 2 == 0:
                found[start + first // 2] = True
    return found


@lru_cache(maxsize=2)
def _table(digits_apart: bool) -> np.ndarray:
    kinds = np.full(0x110000, OTHER, np.uint8)
    for plane in PLANES:
        points = _plane(plane)
        for pattern, kind in ((r"\p{L}", LETTER), (r"\p{N}", NUMBER), (r"\s", SPACE)):
            kinds[points[_matching(points, pattern)]] = kind
        if digits_apart:
            kinds[points[_digits(points)]] = CUT
    kinds[[ord("\r"), ord("\n")]] = NEWLINE
    kinds.setflags(write=False)
    return kinds


def kinds_for(pretokenizer: str) -> np.ndarray:
    """uint8 [0x110000]: the kind of each code point under a pre-tokenizer of this name."""
    return _table(find_pre_tokenizer(pretokenizer).digits_apart)
