"""Which machine-written instructions are kept: the filters of Self-Instruct (Wang et al. 2022, section 2.2).

Words are compared by ROUGE-L, the F-measure of the longest common subsequence (Lin 2004, eqs. 2-4 with beta = 1).
"""

import re
import string
import sys
from collections.abc import Iterable, Sequence

from rapidfuzz.distance import LCSseq

WORD = re.compile(r"[a-z0-9]+")


def words_of(text: str) -> list[str]:
    """As rouge-score reads them: lower-cased runs of a-z and digits."""
    return WORD.findall(text.lower())


def rouge_l(first: Sequence[int], second: Sequence[int]) -> float:
    """ROUGE-L F1 of two sequences of word ids, 0..1; 0 where either is empty."""
    if not first or not second:
        return 0.0
    common = LCSseq.similarity(first, second)
    if not common:
        return 0.0
    # Not 2 · common / (both lengths): in this order the last bit is rouge-score's, and so is a decision at the bound.
    precision, recall = common / len(first), common / len(second)
    return 2 * precision * recall / (precision + recall)


class Novelty:
    """Instructions kept so far, and the rules a new one has to pass.

    `overlap`: the highest ROUGE-L to any kept instruction that still passes (the paper: 0.7).
    `min_words`, `max_words`: inclusive bounds of the length.
    `excluded`: words that no instruction to a model of text has.
    """

    def __init__(
        self,
        kept: Iterable[str],
        overlap: float = 1.0,
        min_words: int = 1,
        max_words: int = sys.maxsize,
        excluded: Iterable[str] = (),
    ) -> None:
        self.overlap, self.min_words, self.max_words = overlap, min_words, max_words
        self.excluded = {word.lower() for word in excluded}
        self._ids: dict[str, int] = {}
        self._kept: list[list[int]] = []
        for text in kept:
            self._kept.append(self._encode(text))

    def _encode(self, text: str) -> list[int]:
        return [self._ids.setdefault(word, len(self._ids)) for word in words_of(text)]

    def closest(self, text: str, leaving_out: int | None = None) -> float:
        """Highest ROUGE-L of `text` to anything kept, but for that of index `leaving_out`; 0 where nothing is."""
        words = self._encode(text)
        kept = self._kept
        if leaving_out is not None:
            kept = kept[:leaving_out] + kept[leaving_out + 1 :]
        return max((rouge_l(words, other) for other in kept), default=0.0)

    def refusal(self, text: str) -> str:
        """Why `text` is not kept, or "" and it is kept from now on."""
        if not text:
            return "empty"
        if not text[0].isascii():
            return "non_ascii_start"
        if text[0] in string.punctuation:
            return "punctuation_start"
        words = len(text.split())
        if words < self.min_words:
            return "too_short"
        if words > self.max_words:
            return "too_long"
        if self.excluded & set(words_of(text)):
            return "excluded_word"
        if self.closest(text) > self.overlap:
            return "similar"
        self._kept.append(self._encode(text))
        return ""
