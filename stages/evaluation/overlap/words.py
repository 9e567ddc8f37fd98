"""Words of a text as overlap counts them: what a reader takes for the same word is the same number.

A text is first normalised (`normalised`): compatibility forms, case and invisible characters go. Words are then runs of
letters, digits and their marks; in scripts that put no spaces between words (Chinese, Japanese, Thai, Lao, Khmer,
Burmese) each character is a word. `hash_words` does both at once on the UTF-8 bytes of many texts, in one compiled
pass, and gives each word as a 32-bit hash.
"""

import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numba
import numpy as np
import pyarrow as pa

PLANES = 0x40000  # code points of the tables; beyond are private use, tags and variation selectors
BREAK, LETTER, ALONE, IGNORED, MARK, SEVERAL = (np.uint8(kind) for kind in range(6))
DOTLESS = 0x131  # the i without a dot, whose upper case is that of i
FNV_OFFSET, FNV_PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)
MIX, GOLDEN = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0x9E3779B97F4A7C15)
MARKS = 32  # on one letter, that are put in order
NO_WORD = np.uint32(0)  # no word has this hash: it stands between documents

# Scripts written without spaces, Unicode blocks.
SPACELESS = (
    (0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3005, 0x3007), (0x3021, 0x3029), (0x3031, 0x3035),
    (0x3038, 0x30FF), (0x31F0, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xA9E0, 0xA9FF), (0xAA60, 0xAA7F),
    (0x1AFF0, 0x1B16F), (0x20000, 0x3FFFF),
)  # fmt: skip
# Beside format characters (Cf): variation selectors and fillers, which show nothing either.
INVISIBLE = ((0x034F, 0x034F), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F), (0x3164, 0x3164),
             (0xFE00, 0xFE0F), (0xFFA0, 0xFFA0), (0xE0100, 0xE01EF))  # fmt: skip


class Words(NamedTuple):
    """The words of a row of texts, one after the other."""

    hashes: np.ndarray  # uint32, never NO_WORD but where `between` put it
    starts: np.ndarray  # int64, bytes from the beginning of the word's text; empty where not asked for
    ends: np.ndarray  # int64
    counts: np.ndarray  # int64, words of each text


def _within(code: int, ranges: Sequence[tuple[int, int]]) -> bool:
    return any(low <= code <= high for low, high in ranges)


def _visible(text: str) -> str:
    return "".join(c for c in text if unicodedata.category(c) != "Cf" and not _within(ord(c), INVISIBLE))


def normalised(text: str) -> str:
    """Without what has no width (format characters, soft hyphens, variation selectors), compatibility forms replaced,
    case folded, marks composed: the compatibility caseless match of Unicode (3.13, D146), then NFC."""
    return unicodedata.normalize("NFC", _folded(text))


def _folded(text: str) -> str:
    text = unicodedata.normalize("NFD", text if text.isascii() else _visible(text))
    for _ in range(2):
        text = unicodedata.normalize("NFKD", text.casefold())
    return _visible(text).replace(chr(DOTLESS), "i")


def kind_of(character: str) -> np.uint8:
    """Of a character of a normalised, decomposed text: BREAK, LETTER, ALONE (a word of its own) or MARK."""
    category = unicodedata.category(character)
    if category[0] == "M":
        return MARK
    if category[0] not in "LN":
        return BREAK
    return ALONE if _within(ord(character), SPACELESS) else LETTER


def split_words(text: str) -> list[str]:
    """The words themselves, by the definition; slow, for a few lines."""
    words: list[str] = []
    last = BREAK
    for character in _folded(text):
        kind = kind_of(character)
        if kind == ALONE or (kind == LETTER and last != LETTER):
            words.append(character)
            last = kind
        elif kind == LETTER or (kind == MARK and last != BREAK):
            words[-1] += character
        elif kind == BREAK:
            last = BREAK
    return words


class Tables(NamedTuple):
    """What a code point becomes: one character (`values`), or the parts from `firsts[value]` on."""

    kinds: np.ndarray  # uint8 [PLANES]
    values: np.ndarray  # uint32 [PLANES]
    classes: np.ndarray  # uint8 [PLANES], combining class of a mark
    firsts: np.ndarray  # int64
    part_kinds: np.ndarray  # uint8
    part_values: np.ndarray  # uint32
    part_classes: np.ndarray  # uint8


def _parts(code: int) -> list[tuple[np.uint8, int, int]]:
    """(kind, code point, combining class) of each character that this one becomes by itself."""
    found = []
    for piece in unicodedata.normalize("NFD", _visible(chr(code))):
        made = _folded(piece)
        for character in made:
            subscript = len(made) == 1 and unicodedata.combining(piece)
            order = unicodedata.combining(character) or subscript
            found.append((MARK if subscript else kind_of(character), ord(character), order))
    return found


@cache
def tables() -> Tables:
    """Made once a process from Python's own Unicode data, in about a tenth of a second."""
    kinds, values = np.zeros(PLANES, np.uint8), np.arange(PLANES, dtype=np.uint32)
    classes, firsts = np.zeros(PLANES, np.uint8), [0]
    parts: list[tuple[np.uint8, int, int]] = []
    for code in range(PLANES):
        if 0x3400 <= code < 0xA000 or 0x20000 <= code < 0x2F800 or code >= 0x30000:
            kinds[code] = ALONE if unicodedata.category(chr(code)) == "Lo" else BREAK
            continue
        character = chr(code)
        category = unicodedata.category(character)
        if category in ("Cn", "Co", "Cs", "Cc"):
            continue
        plain = category not in ("Cf", "Mn", "Mc", "Me") and character.casefold() == character and code != DOTLESS
        if plain and not unicodedata.decomposition(character) and not 0xAC00 <= code < 0xD7A4:  # syllables decompose
            kinds[code] = kind_of(character) if not _within(code, INVISIBLE) else IGNORED
            continue
        made = _parts(code)
        if not made:
            kinds[code] = IGNORED
        elif len(made) == 1:
            kinds[code], values[code], classes[code] = made[0]
        else:
            kinds[code], values[code] = SEVERAL, len(firsts) - 1
            parts += made
            firsts.append(len(parts))
    part_kinds, part_values, part_classes = zip(*parts, strict=True)
    return Tables(
        kinds, values, classes, np.array(firsts), np.array(part_kinds, np.uint8), np.array(part_values, np.uint32),
        np.array(part_classes, np.uint8),
    )  # fmt: skip


@numba.njit(cache=True)
def _hash_words(data, offsets, between, placed, table):  # type: ignore[no-untyped-def]
    """data uint8, offsets int64 [texts + 1]; between[i]: a NO_WORD stands behind text i."""
    kinds, values, classes, firsts, part_kinds, part_values, part_classes = table
    size = offsets[-1] - offsets[0]
    hashes = np.empty(2 * size + len(between), np.uint32)
    starts = np.empty(2 * size + len(between) if placed else 0, np.int64)
    ends = np.empty(len(starts), np.int64)
    counts = np.zeros(len(between), np.int64)
    held, orders, waiting = np.zeros(MARKS, np.uint32), np.zeros(MARKS, np.uint8), 0
    count = 0
    for text in range(len(between)):
        place, end, before = offsets[text], offsets[text + 1], count
        inside, value = BREAK, FNV_OFFSET  # what kind of word we are in
        begun, seen = place, place
        while place <= end:
            first = place
            code, part, parts = np.int64(0), np.int64(0), np.int64(1)
            kind, order = BREAK, np.uint8(0)
            if place == end:
                place += 1
            else:
                code = np.int64(data[place])
                if code < 0x80:
                    place += 1
                elif code < 0xE0:
                    code = (code & 0x1F) << 6 | (data[place + 1] & 0x3F)
                    place += 2
                elif code < 0xF0:
                    code = (code & 0xF) << 12 | (data[place + 1] & 0x3F) << 6 | (data[place + 2] & 0x3F)
                    place += 3
                else:
                    code = (
                        (code & 7) << 18
                        | np.int64(data[place + 1] & 0x3F) << 12
                        | np.int64(data[place + 2] & 0x3F) << 6
                        | np.int64(data[place + 3] & 0x3F)
                    )
                    place += 4
                if code < PLANES:
                    kind, order = kinds[code], classes[code]
                    code = np.int64(values[code])
                    if kind == SEVERAL:
                        part, parts = firsts[code], firsts[code + 1]
                elif 0xE0000 <= code < 0xE0200:  # tags and variation selectors
                    kind = IGNORED
            several = kind == SEVERAL
            while part < parts:
                if several:
                    kind, order, code = part_kinds[part], part_classes[part], np.int64(part_values[part])
                part += 1
                if kind == IGNORED:
                    continue
                if kind == MARK and order > 0 and waiting < MARKS and inside != BREAK:
                    at = waiting
                    while at > 0 and orders[at - 1] > order:
                        held[at], orders[at] = held[at - 1], orders[at - 1]
                        at -= 1
                    held[at], orders[at] = code, order
                    waiting += 1
                    seen = place
                    continue
                for at in range(waiting):
                    value = (value ^ np.uint64(held[at])) * FNV_PRIME
                waiting = 0
                if kind == MARK:
                    if inside != BREAK:
                        value = (value ^ np.uint64(code)) * FNV_PRIME
                        seen = place
                    continue
                if inside != BREAK and (kind in (BREAK, ALONE) or inside == ALONE):
                    value ^= value >> np.uint64(33)
                    value *= MIX
                    value ^= value >> np.uint64(29)
                    value *= GOLDEN
                    short = np.uint32(value >> np.uint64(32))
                    hashes[count] = short if short != NO_WORD else np.uint32(1)
                    if placed:
                        starts[count], ends[count] = begun - offsets[text], seen - offsets[text]
                    count += 1
                    inside = BREAK
                if kind != BREAK:
                    if inside == BREAK:
                        inside, value, begun = kind, FNV_OFFSET, first
                    value = (value ^ np.uint64(code)) * FNV_PRIME
                    seen = place
        counts[text] = count - before
        if between[text]:
            hashes[count] = NO_WORD
            count += 1
    return hashes[:count], starts[: count if placed else 0], ends[: count if placed else 0], counts


def hash_words(texts: pa.Array, between: np.ndarray | None = None, *, placed: bool = False) -> Words:
    """The words of all texts (an Arrow array of strings, none null).

    between [texts] bool: a NO_WORD stands behind that text, so that no run of words goes on into the next one.
    placed: where each word stands is told too.
    """
    large = texts.cast(pa.large_string())
    _, offset_bytes, data = large.buffers()
    offsets = np.frombuffer(offset_bytes, np.int64)[large.offset : large.offset + len(large) + 1]
    content = np.frombuffer(
        data if data is not None and data.size else b"\0", np.uint8
    )  # no text: nothing is read of it
    behind = np.zeros(len(large), bool) if between is None else between
    if not len(large):
        nothing = np.zeros(0, np.int64)
        return Words(np.zeros(0, np.uint32), nothing, nothing, nothing)
    return Words(*_hash_words(content, offsets, behind, placed, tuple(tables())))


def words_of(texts: Sequence[str]) -> list[np.ndarray]:
    """uint32 words of each text; half a surrogate pair counts as a break."""
    whole = pa.array([text.encode("utf-8", "replace").decode() for text in texts], pa.large_string())
    found = hash_words(whole)
    return np.split(found.hashes, np.cumsum(found.counts)[:-1]) if len(texts) else []
