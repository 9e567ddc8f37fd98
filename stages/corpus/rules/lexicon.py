"""English text as integers: a text is chunks between white space, a chunk is words as spaCy cuts it, and what the rules
ask of a word (length, hash, is it a symbol?) is worked out once.

What was met is remembered up to a bound, then forgotten as a whole between texts. Results never depend on it.
"""

import unicodedata
from collections.abc import Sequence
from functools import cache

import numba
import numpy as np

from stages.corpus.rules.characters import BASE, codes, is_space, mixed, slot, table_size
from stages.corpus.rules.english import CHANGED, CLOSES, OPENS, english
from stages.corpus.rules.words import STOP_WORDS, SYMBOLS

MAX_CHUNKS, MAX_CHARACTERS = 500_000, 16_000_000  # together some 150 MB
# Of a word: symbols only; has a letter; punctuation only; ends a sentence.
SYMBOL, LETTER, PUNCTUATION, END = 1, 2, 4, 8


class Column:
    """A numpy array that grows."""

    def __init__(self, dtype: type[np.generic]) -> None:
        self._array = np.zeros(1024, dtype)
        self._size = 0

    def extend(self, values: Sequence[int] | np.ndarray) -> None:
        end = self._size + len(values)
        if end > len(self._array):
            self._array = np.concatenate([self._array, np.zeros(end, self._array.dtype)])
        self._array[self._size : end] = values
        self._size = end

    def view(self) -> np.ndarray:
        return self._array[: self._size]


class Numbers(dict[str, int]):
    """Words numbered as they are looked up; `fresh` are those not yet described."""

    def __init__(self) -> None:
        self.fresh: list[str] = []

    def __missing__(self, key: str) -> int:
        number = self[key] = len(self)
        self.fresh.append(key)
        return number


class Chunks:
    """Chunks numbered as they are met in texts, known by a 64-bit hash of their characters; `fresh` as above."""

    def __init__(self) -> None:
        self._keys, self._numbers = np.zeros(1 << 16, np.uint64), np.zeros(1 << 16, np.int32)
        self.size = 0
        self.fresh: list[str] = []

    def look_up(self, text: str, codes: np.ndarray) -> np.ndarray:
        """int32 numbers of the chunks of a text of these code points."""
        most = self.size + (len(codes) + 1) // 2
        if 2 * most > len(self._keys):
            keys, numbers = np.zeros(table_size(2 * most), np.uint64), np.zeros(table_size(2 * most), np.int32)
            _move(self._keys, self._numbers, keys, numbers)
            self._keys, self._numbers = keys, numbers
        found, new = _look_up(codes, self._keys, self._numbers, self.size)
        self.size += len(new)
        self.fresh += [text[start:end] for start, end in new.tolist()]
        return found


@numba.njit(cache=True)
def _move(keys: np.ndarray, numbers: np.ndarray, to_keys: np.ndarray, to_numbers: np.ndarray) -> None:
    for place in range(keys.shape[0]):
        if keys[place]:
            there = slot(to_keys, keys[place])
            to_keys[there], to_numbers[there] = keys[place], numbers[place]


@numba.njit(cache=True)
def _look_up(codes: np.ndarray, keys: np.ndarray, numbers: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """(number of each chunk, bounds of the new ones, int64 [new, 2]); the new ones are put into the table."""
    count, inside = 0, False
    for code in codes:
        space = is_space(code)
        count += inside and space
        inside = not space
    count += inside
    found, new = np.empty(count, np.int32), np.empty((count, 2), np.int64)
    met, fresh, place = 0, 0, 0
    while met < count:
        while is_space(codes[place]):
            place += 1
        start = place
        key = np.uint64(0)
        while place < codes.shape[0] and not is_space(codes[place]):
            key = key * BASE + mixed(codes[place])
            place += 1
        key |= np.uint64(1)
        there = slot(keys, key)
        if keys[there] == 0:
            keys[there], numbers[there] = key, size + fresh
            new[fresh, 0], new[fresh, 1] = start, place
            fresh += 1
        found[met] = numbers[there]
        met += 1
    return found, new[:fresh]


@numba.njit(cache=True)
def _hashes(codes: np.ndarray, lengths: np.ndarray, base: np.uint64) -> tuple[np.ndarray, np.ndarray]:
    """Polynomial hash of each word's characters, mod 2^64, and base^length."""
    values, powers = np.zeros(lengths.shape[0], np.uint64), np.ones(lengths.shape[0], np.uint64)
    place = 0
    for word in range(lengths.shape[0]):
        for _ in range(lengths[word]):
            values[word] = values[word] * base + mixed(codes[place])
            powers[word] *= base
            place += 1
    return values, powers


def hashes(words: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(length, uint64 hash, uint64 power) of each word: hash(a + b) = hash(a) power(b) + hash(b)."""
    lengths = np.fromiter(map(len, words), np.int32, len(words))
    return lengths, *_hashes(codes("".join(words)), lengths, BASE)


@numba.njit(cache=True)
def _expand(
    chunks: np.ndarray, starts: np.ndarray, ends: np.ndarray, words: np.ndarray, flags: np.ndarray
) -> tuple[np.ndarray, bool]:
    """(words of the chunks, whether `_meddling` should have a look)."""
    total = 0
    for chunk in chunks:
        total += ends[chunk] - starts[chunk]
    row = np.empty(total, np.int32)
    found = False
    place, before = 0, np.uint8(0)
    for chunk in chunks:
        for word in range(starts[chunk], ends[chunk]):
            row[place] = words[word]
            place += 1
        found |= before & OPENS != 0 and flags[chunk] & CLOSES != 0 and (before | flags[chunk]) & CHANGED != 0
        before = flags[chunk]
    return row, found


class Lexicon:
    """What is known of chunks and words. Look texts up with `chunks`, then call `describe`, then ask."""

    def __init__(self) -> None:
        self._cut = english().cut
        self.clear()

    def clear(self) -> None:
        self._chunks, self._words = Chunks(), Numbers()
        self._characters = 0
        self._firsts, self._lasts = Column(np.int32), Column(np.int32)
        number = self._words.__getitem__
        self._pairs = {(number(first), number(second)) for first, second in sorted(english().pairs)}
        self._starts, self._ends = Column(np.int64), Column(np.int64)
        self._flat, self._chunk_flags = Column(np.int32), Column(np.uint8)
        self._lengths, self._hashes, self._powers = Column(np.int32), Column(np.uint64), Column(np.uint64)
        self._flags, self._stops, self._folded = Column(np.uint8), Column(np.uint8), Column(np.uint64)

    def trim(self) -> None:
        """Forget everything if it has become too much. Numbers given before mean nothing after."""
        if self._chunks.size > MAX_CHUNKS or self._characters > MAX_CHARACTERS:
            self.clear()

    def chunks(self, text: str, codes: np.ndarray) -> np.ndarray:
        """Numbers of the chunks (int32) of a text of these code points; new ones wait for `describe`."""
        return self._chunks.look_up(text, codes)

    def describe(self) -> None:
        """Cut the chunks that are new, and work out what there is to know of new words."""
        if self._chunks.fresh:
            try:
                self._describe_chunks()
            except BaseException:  # half-described, every number would mean something else
                self.clear()
                raise

    def _describe_chunks(self) -> None:
        fresh, self._chunks.fresh = self._chunks.fresh, []
        tokens, starts, ends, edges, flags, order = self._cut(fresh)
        place = len(self._flat.view())
        self._flat.extend(np.fromiter(map(self._words.__getitem__, tokens), np.int32, len(tokens)))
        back = np.argsort(order)
        self._starts.extend(place + starts[back])
        self._ends.extend(place + ends[back])
        self._chunk_flags.extend(flags[back])
        number = self._words.__getitem__
        self._firsts.extend(np.array([number(first) for first, _ in edges], np.int32)[back])
        self._lasts.extend(np.array([number(last) for _, last in edges], np.int32)[back])
        self._characters += sum(map(len, fresh))
        self._describe_words()

    def _describe_words(self) -> None:
        fresh, self._words.fresh = self._words.fresh, []
        lengths, values, powers = hashes(fresh)
        self._lengths.extend(lengths)
        self._hashes.extend(values)
        self._powers.extend(powers)
        self._flags.extend([word_flags(word) for word in fresh])
        self._stops.extend([STOP_WORDS.get(word, 0) for word in fresh])
        self._folded.extend(hashes([word.lower() for word in fresh])[1])

    def expand(self, chunks: np.ndarray) -> tuple[np.ndarray, bool]:
        """(words of a text's chunks (int32), whether neighbours may have changed them: then ask `whole`)."""
        row, suspicious = _expand(chunks, *self.cuts, self._chunk_flags.view())
        return row, suspicious and self._meddling(chunks)

    def _meddling(self, chunks: np.ndarray) -> bool:
        """Whether an exception may seem to stretch over two chunks of which one has an exception of its own."""
        flags = self._chunk_flags.view()[chunks]
        near = (flags[:-1] & OPENS > 0) & (flags[1:] & CLOSES > 0) & ((flags[:-1] | flags[1:]) & CHANGED > 0)
        places = np.flatnonzero(near)
        lasts, firsts = self._lasts.view()[chunks[places]], self._firsts.view()[chunks[places + 1]]
        return any(pair in self._pairs for pair in zip(lasts.tolist(), firsts.tolist(), strict=True))

    def whole(self, text: str) -> np.ndarray:
        """Words of a text, neighbours and all (int32); slower."""
        tokens = [token for token in english().whole(text) if not token.isspace()]
        row = np.fromiter(map(self._words.__getitem__, tokens), np.int32, len(tokens))
        self._describe_words()
        return row

    @property
    def cuts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(start and end of each chunk's words, int64; the words, int32)."""
        return self._starts.view(), self._ends.view(), self._flat.view()

    @property
    def lengths(self) -> np.ndarray:
        """Characters of each word (int32)."""
        return self._lengths.view()

    @property
    def hashes(self) -> tuple[np.ndarray, np.ndarray]:
        """(hash, power) of each word (uint64)."""
        return self._hashes.view(), self._powers.view()

    @property
    def flags(self) -> np.ndarray:
        """SYMBOL, LETTER, PUNCTUATION, END of each word (uint8)."""
        return self._flags.view()

    @property
    def stops(self) -> np.ndarray:
        """The bit of each word that is a stop word, else 0 (uint8)."""
        return self._stops.view()

    @property
    def folded(self) -> np.ndarray:
        """Hash of each word in lower case (uint64)."""
        return self._folded.view()


def word_flags(word: str) -> int:
    """What the rules ask of a word: SYMBOL, LETTER, PUNCTUATION (Unicode's, as spaCy asks), END (its sentencizer's)."""
    if word.isalpha():
        return LETTER
    found = SYMBOL * SYMBOLS.issuperset(word) + LETTER * any(map(str.isalpha, word))
    found += PUNCTUATION * all(unicodedata.category(character)[0] == "P" for character in word)
    return found + END * (word in english().ends)


@cache
def lexicon() -> Lexicon:
    """The process's own."""
    return Lexicon()
