"""English text as integers: a text is chunks between white space, a chunk is words as spaCy cuts it, and what the rules
ask of a word (length, hash, is it a symbol?) is worked out once.

What was met is remembered up to a bound, then forgotten as a whole between texts. Results never depend on it.
"""

import unicodedata
from collections.abc import Sequence
from functools import cache, cached_property

import numba
import numpy as np

from stages.corpus.rules.characters import BASE, codes, is_space, mixed, slot, table_size
from stages.corpus.rules.english import CHANGED, CLOSES, OPENS, english

MAX_CHUNKS, MAX_CHARACTERS = 500_000, 16_000_000  # together some 150 MB
# Of a word: symbols only; has a letter; punctuation only; ends a sentence.
SYMBOL, LETTER, PUNCTUATION, END = 1, 2, 4, 8
# Gopher's; each with a bit of its own.
STOP_WORDS = {word: 1 << place for place, word in enumerate(("the", "be", "to", "of", "and", "that", "have", "with"))}

# What datatrove (utils/text.py) counts as a symbol in Gopher's rules: ASCII and common Unicode punctuation, and the
# control characters but for tab and line feed.
MARKS = frozenset(
    "!/—”:％１〈&(、━\\【#%「」，】；+^]~“《„';’{|∶´[=-`*．（–？！：$～«〉,><》)?）。…@_.\"}►»"
    + "".join(map(chr, (*range(0, 9), *range(11, 13), *range(13, 32), *range(127, 160))))
)
# Marks that end a sentence in the scripts of Unicode (property Sentence_Terminal), for FineWeb's line rule.
TERMINAL = tuple(
    chr(c)
    for c in (
        0x21, 0x2E, 0x3F, 0x589, 0x61D, 0x61E, 0x61F, 0x6D4, 0x700, 0x701, 0x702, 0x7F9, 0x837, 0x839, 0x83D,
        0x83E, 0x964, 0x965, 0x104A, 0x104B, 0x1362, 0x1367, 0x1368, 0x166E, 0x1735, 0x1736, 0x17D4, 0x17D5,
        0x17D6, 0x17D9, 0x17DA, 0x1803, 0x1809, 0x1944, 0x1945, 0x1AA8, 0x1AA9, 0x1AAA, 0x1AAB, 0x1B5A, 0x1B5B,
        0x1B5E, 0x1B5F, 0x1B7D, 0x1B7E, 0x1C3B, 0x1C3C, 0x1C7E, 0x1C7F, 0x203C, 0x203D, 0x2047, 0x2048, 0x2049,
        0x2E2E, 0x2E3C, 0x2E53, 0x2E54, 0x3002, 0xA4FF, 0xA60E, 0xA60F, 0xA6F3, 0xA6F7, 0xA876, 0xA877, 0xA8CE,
        0xA8CF, 0xA92F, 0xA9C8, 0xA9C9, 0xAA5D, 0xAA5E, 0xAA5F, 0xAAF0, 0xAAF1, 0xABEB, 0xFE52, 0xFE56, 0xFE57,
        0xFF01, 0xFF0E, 0xFF1F, 0xFF61, 0x10A56, 0x10A57, 0x10F55, 0x10F56, 0x10F57, 0x10F58, 0x10F59, 0x10F86,
        0x10F87, 0x10F88, 0x10F89, 0x11047, 0x11048, 0x110BE, 0x110BF, 0x110C0, 0x110C1, 0x11141, 0x11142,
        0x11143, 0x111C5, 0x111C6, 0x111CD, 0x111DE, 0x111DF, 0x11238, 0x11239, 0x1123B, 0x1123C, 0x112A9,
        0x1144B, 0x1144C, 0x115C2, 0x115C3, *range(0x115C9, 0x115D8), 0x11641, 0x11642, 0x1173C, 0x1173D,
        0x1173E, 0x11944, 0x11946, 0x11A42, 0x11A43, 0x11A9B, 0x11A9C, 0x11C41, 0x11C42, 0x11EF7, 0x11EF8,
        0x11F43, 0x11F44, 0x16A6E, 0x16A6F, 0x16AF5, 0x16B37, 0x16B38, 0x16B44, 0x16E98, 0x1BC9F, 0x1DA88,
    )
)  # fmt: skip
SYMBOLS = MARKS | frozenset(TERMINAL)


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


class Text:
    """A text whose chunks the lexicon has looked up; it is to be described before the words are asked for."""

    def __init__(self, string: str, lexicon: Lexicon) -> None:
        self.string, self.lexicon = string, lexicon
        self.codes = codes(string)  # uint32
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
