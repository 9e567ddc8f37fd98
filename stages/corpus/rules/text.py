"""One text as the rules look at it: its characters and its words as arrays, each made when first asked for."""

from functools import cached_property

import numpy as np

from stages.corpus.rules import characters
from stages.corpus.rules.lexicon import Lexicon


class Text:
    """A text whose chunks the lexicon has looked up; it is to be described before the words are asked for."""

    def __init__(self, string: str, lexicon: Lexicon) -> None:
        self.string, self.lexicon = string, lexicon
        self.codes = characters.codes(string)  # uint32
        self.chunks = lexicon.chunks(string, self.codes)

    @cached_property
    def _row(self) -> tuple[np.ndarray, bool]:
        return self.lexicon.expand(self.chunks)

    @property
    def doubtful(self) -> bool:
        """Whether neighbouring chunks may have changed each other's words."""
        return self._row[1]

    @cached_property
    def words(self) -> np.ndarray:
        """Numbers of the words (int32)."""
        return self.lexicon.whole(self.string) if self.doubtful else self._row[0]

    @cached_property
    def lowered(self) -> str:
        return self.string.lower()
