"""spaCy's English words, cut one chunk at a time so that the work on a chunk can be remembered.

spaCy cuts a text at white space, cuts each chunk by its affix rules, then looks for its exceptions ("a.m.", ":-)") in
the row of tokens once more. The first two steps see a chunk alone: `affixes` does them for ASCII, spaCy itself for the
rest. The last one, done here, also compares tokens of neighbouring chunks, but only where they are separated by one
blank, and what it finds across a blank it leaves as it is: all that it can do there is hide a true exception that
overlaps. So chunk by chunk is the same as the whole text unless such a find meets an exception; flags tell where to
look, and `whole` takes the text as one.
"""

import re
import sys
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import chain, pairwise
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from stages.corpus.rules.affixes import Affixes

# Of a chunk: its last token may begin an exception that ends in the next chunk; its first may end one; an exception was
# found in it.
OPENS, CLOSES, CHANGED = 1, 2, 4
LONE_SURROGATE = re.compile("[\ud800-\udfff]")
WHITE_SPACE = re.compile(r"\s+")
LONG, WINDOW = 1000, 100  # characters; spaCy's loop over affixes is quadratic in the length of a chunk
# spaCy's pattern of URLs begins with a user and a password: `S+(:S*)?@`, quadratic in a chunk with many colons and the
# same as `S+@`, since a colon is no white space.
USER, SHORT_USER = r"(?:\S+(?::\S*)?@)?", r"(?:\S+@)?"


class Cuts(NamedTuple):
    """What became of some chunks: tokens[starts[i] : ends[i]] are those of chunk order[i]."""

    tokens: list[str]
    starts: np.ndarray  # int64
    ends: np.ndarray  # int64
    edges: list[tuple[str, str]]  # its first and last token by the affix rules alone
    flags: np.ndarray  # uint8: OPENS | CLOSES | CHANGED
    order: np.ndarray  # int64


class English:
    """The pipeline that datatrove runs for English: spaCy's blank one, with its sentencizer."""

    def __init__(self) -> None:
        spacy = _spacy()
        from spacy.lang.tokenizer_exceptions import URL_PATTERN
        from spacy.pipeline import Sentencizer
        from spacy.symbols import ORTH
        from spacy.tokenizer import Tokenizer
        from spacy.vocab import Vocab

        nlp = spacy.blank("en")
        whole: Any = nlp.tokenizer
        self.is_url = re.compile(URL_PATTERN.replace(USER, SHORT_USER)).match
        self.ends = frozenset(Sentencizer.default_punct_chars)
        self._prefix, self._suffix = whole.prefix_search, whole.suffix_search
        rules = {text: rule for text, rule in whole.rules.items() if not text.isspace()}
        self.exceptions = {text: tuple(part[ORTH] for part in rule) for text, rule in rules.items()}
        # spaCy registers an exception for its last step if an affix rule matches in it: with none at hand while the
        # exceptions are loaded there is no last step, and the affix rules' own result can be seen. A vocabulary
        # without attributes: spaCy would work out thirty of them for every new word.
        self._loaded = False
        vocab = Vocab()
        # spaCy 3.8 numbers this word 1, a number that its tables can't forget: met first inside a memory zone it would
        # be left pointing at freed memory.
        _ = vocab["IS_ALPHA"]
        self._affix_tokenizer = Tokenizer(
            vocab,
            rules=rules,
            # A text this long has been peeled: there is no affix to search for, and no need to look all through it.
            prefix_search=lambda text: whole.prefix_search(text) if self._loaded and len(text) <= LONG else None,
            suffix_search=lambda text: whole.suffix_search(text) if self._loaded and len(text) <= LONG else None,
            infix_finditer=lambda text: whole.infix_finditer(text) if self._loaded else (),
            url_match=self.is_url,
        )
        self._loaded = True
        bare = Tokenizer(
            nlp.vocab,
            prefix_search=whole.prefix_search,
            suffix_search=whole.suffix_search,
            infix_finditer=whole.infix_finditer,
            url_match=whole.url_match,
        )
        late = [text for text in rules if whole.find_prefix(text) or whole.find_infix(text) or whole.find_suffix(text)]
        patterns = {tuple(token.text for token in bare(text)): self.exceptions[text] for text in late}
        # Exceptions of one token are as the affix rules left them.
        self._late = {pattern: tokens for pattern, tokens in patterns.items() if len(pattern) > 1}
        self._by_first: dict[str, list[tuple[str, ...]]] = {}
        for pattern in self._late:
            self._by_first.setdefault(pattern[0], []).append(pattern)
        self._affixes = Affixes(self.exceptions, self.is_url)
        self.pairs = frozenset(pair for pattern in self._late for pair in pairwise(pattern))
        self._not_last = frozenset(first for first, _ in self.pairs)
        self._not_first = frozenset(second for _, second in self.pairs)
        self._second: dict[str, set[str]] = {}
        for pattern in self._late:
            self._second.setdefault(pattern[0], set()).add(pattern[1])

    def cut(self, chunks: Sequence[str]) -> Cuts:
        """The tokens of each chunk (no white space in it, not empty)."""
        tokens, sizes, order = self._without_exceptions(chunks)
        return self._with_exceptions(tokens, sizes, order)

    def _without_exceptions(self, chunks: Sequence[str]) -> tuple[list[str], np.ndarray, np.ndarray]:
        """(tokens, number of each chunk's, which chunk it is) by the affix rules."""
        foreign = [place for place, chunk in enumerate(chunks) if not chunk.isascii()]
        if not foreign:
            return *self._affixes.cut(chunks), np.arange(len(chunks))
        tokens, sizes = self._affixes.cut([chunk for chunk in chunks if chunk.isascii()])
        rows = list(self._by_affixes([chunks[place] for place in foreign]))
        tokens += chain.from_iterable(rows)
        order = np.concatenate([np.delete(np.arange(len(chunks)), foreign), foreign])
        return tokens, np.concatenate([sizes, list(map(len, rows))]), order

    def _with_exceptions(self, tokens: list[str], sizes: np.ndarray, order: np.ndarray) -> Cuts:
        """spaCy's last step: exceptions in the rows of tokens."""
        ends = np.cumsum(sizes)
        starts = ends - sizes
        edges = [(tokens[start], tokens[end - 1]) for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
        flags = OPENS * np.array([last in self._not_last for _, last in edges], np.uint8)
        flags += CLOSES * np.array([first in self._not_first for first, _ in edges], np.uint8)
        second = self._second
        begun = [
            place for place, token in enumerate(tokens[:-1]) if token in second and tokens[place + 1] in second[token]
        ]
        for chunk in np.unique(np.searchsorted(ends, begun, side="right")).tolist():
            row = tokens[starts[chunk] : ends[chunk]]
            spans = self._found(row)
            if spans:
                row = self._replace(row, _chosen(spans))
                starts[chunk], ends[chunk] = len(tokens), len(tokens) + len(row)
                tokens += row
                flags[chunk] |= CHANGED
        return Cuts(tokens, starts, ends, edges, flags, order)

    def _by_affixes(self, chunks: list[str]) -> Iterable[Sequence[str]]:
        """spaCy's affix rules, for many chunks at once: lines of one text, as an end of line keeps them apart."""
        cores = [self._peel(chunk) if len(chunk) > LONG else ([], chunk, []) for chunk in chunks]
        text = LONE_SURROGATE.sub("\ue000", "\n".join(core for _, core, _ in cores))  # spaCy can't encode them
        with self._affix_tokenizer.vocab.memory_zone():  # without it spaCy keeps every string it has ever met
            lengths = self._affix_tokenizer(text).to_array("LENGTH").tolist()
        token = 0
        for before, core, after in cores:
            row, start = before, 0
            while start < len(core):
                end = start + lengths[token]
                row.append(core[start:end])
                start = end
                token += 1
            token += 1  # the end of line
            row += after
            yield row

    def _peel(self, chunk: str) -> tuple[list[str], str, list[str]]:
        """(prefixes, the rest, suffixes): spaCy's loop over the affixes of a long chunk, by windows at its ends.

        No affix is longer than a window but for a run of dots, and no exception is as long as what is left.
        """
        before: list[str] = []
        after: list[str] = []
        start, end = 0, len(chunk)
        while end - start > LONG // 2:
            prefix = self._prefix(chunk[start : start + WINDOW])
            first = prefix.end() - prefix.start() if prefix else 0
            if chunk.startswith("..", start):
                first = _dots(chunk, range(start, end))
            inner = max(start + first, end - WINDOW)
            suffix = self._suffix(chunk[inner:end])
            last = suffix.end() - suffix.start() if suffix else 0
            if chunk.endswith("..", start + first, end):
                last = _dots(chunk, range(end - 1, start + first - 1, -1))
            if not first and not last:
                break
            if first:
                before.append(chunk[start : start + first])
            if last:
                after.append(chunk[end - last : end])
            start, end = start + first, end - last
        return before, chunk[start:end], after[::-1]

    def _found(self, row: Sequence[str]) -> list[tuple[int, int]]:
        """(length, place) of every exception in a row of tokens."""
        second = self._second
        return [
            (len(pattern), place)
            for place, (token, after) in enumerate(pairwise(row))
            if token in second and after in second[token]
            for pattern in self._by_first[token]
            if tuple(row[place : place + len(pattern)]) == pattern
        ]

    def _replace(self, row: Sequence[str], chosen: dict[int, int]) -> list[str]:
        """The row with exceptions put in, given as place -> length."""
        tokens: list[str] = []
        start = 0
        for place, length in sorted(chosen.items()):
            tokens += row[start:place]
            start = place + length
            tokens += self._late[tuple(row[place:start])]
        return [*tokens, *row[start:]]

    def whole(self, text: str) -> list[str]:
        """Tokens of a whole text, neighbours and all; a line feed stands for every token of white space."""
        rows = self._rows(text.split())
        if not rows:
            return ["\n"] * bool(text)
        row: list[str] = []
        blanks: set[int] = set()  # places before which there is one blank
        gaps = WHITE_SPACE.findall(text.strip())
        if text[:1].isspace():
            row.append("\n")
        for gap, tokens in zip(["", *gaps], rows, strict=True):
            if gap == " ":
                blanks.add(len(row))
            elif gap:
                row.append("\n")
            row += tokens
        if text[-1].isspace() and text[len(text.rstrip()) :] != " ":
            row.append("\n")
        chosen = _chosen(self._found(row))
        across = [place for place, length in chosen.items() if blanks & set(range(place + 1, place + length))]
        return self._replace(row, {place: length for place, length in chosen.items() if place not in across})

    def _rows(self, chunks: Sequence[str]) -> list[list[str]]:
        tokens, sizes, order = self._without_exceptions(chunks)
        ends = np.cumsum(sizes)
        return [tokens[ends[place] - sizes[place] : ends[place]] for place in np.argsort(order)]


def _dots(chunk: str, places: range) -> int:
    """Length of the run of dots that begins at the first of the places, in their order."""
    return next((length for length, place in enumerate(places) if chunk[place] != "."), len(places))


def _chosen(spans: list[tuple[int, int]]) -> dict[int, int]:
    """place -> length of the exceptions that stand: the longest first, of equal ones the leftmost, as spaCy chooses."""
    taken: set[int] = set()
    chosen: dict[int, int] = {}
    for length, place in sorted(spans, key=lambda span: (-span[0], span[1])):
        if place not in taken and place + length - 1 not in taken:
            chosen[place] = length
        taken.update(range(place, place + length))
    return chosen


def _spacy() -> ModuleType:
    """spaCy without torch: it loads that where it is installed, for neural models, and it is two thirds of the wait."""
    hidden = "torch" not in sys.modules
    if hidden:
        sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        import spacy
    finally:
        if hidden:
            del sys.modules["torch"]
    return spacy


@cache
def english() -> English:
    """The process's own pipeline; loading it takes a second."""
    return English()
