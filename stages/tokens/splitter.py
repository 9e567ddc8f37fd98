"""The pre-tokenizers' patterns as one state machine over UTF-8 bytes, without a regular expression.

Each function says which part of a pattern it stands for. All positions are of bytes; texts are valid UTF-8.
"""

import numba
import numpy as np

from stages.tokens.characters import CUT, LETTER, NEWLINE, NUMBER, OTHER, SPACE, kinds_for
from stages.tokens.pretokenizers import PRETOKENIZERS, find_pre_tokenizer

GPT2, CODE = -2, -1  # families of patterns; of cl100k's, the rule is the longest run of digits
APOSTROPHE, BLANK = ord("'"), ord(" ")


def rule_of(name: str) -> int:
    """The number of a pre-tokenizer for `piece_end`."""
    chosen = find_pre_tokenizer(name)
    return chosen.digits or (GPT2 if chosen.pattern == PRETOKENIZERS["gpt2"].pattern else CODE)


def join_texts(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """(uint8 bytes of all texts and 8 zeros, int64 [texts + 1] starts): what the kernels read.

    The zeros let a kernel load eight bytes at any place of a text.
    """
    parts = [text.encode("utf-8") for text in texts]
    starts = np.zeros(len(parts) + 1, np.int64)
    np.cumsum([len(part) for part in parts], out=starts[1:])
    return np.frombuffer(b"".join([*parts, bytes(8)]), np.uint8), starts


@numba.njit(inline="always")
def _kind(text, place, kinds):
    """(kind of the code point at `place`, the place after it)"""
    lead = np.uint32(text[place])
    if lead < 0x80:
        return kinds[lead], place + 1
    second = np.uint32(text[place + 1]) & np.uint32(0x3F)
    if lead < 0xE0:
        return kinds[((lead & np.uint32(0x1F)) << np.uint32(6)) | second], place + 2
    third = (second << np.uint32(6)) | (np.uint32(text[place + 2]) & np.uint32(0x3F))
    if lead < 0xF0:
        return kinds[((lead & np.uint32(0x0F)) << np.uint32(12)) | third], place + 3
    fourth = (third << np.uint32(6)) | (np.uint32(text[place + 3]) & np.uint32(0x3F))
    return kinds[((lead & np.uint32(0x07)) << np.uint32(18)) | fourth], place + 4


@numba.njit(cache=True)
def _run(text, place, end, kinds, kind):
    """Where a run of code points of one kind ends that may begin at `place`."""
    while place < end:
        found, after = _kind(text, place, kinds)
        if found != kind:
            break
        place = after
    return place


@numba.njit(cache=True)
def _contraction(text, place, end, any_case):
    """'s|'t|'re|'ve|'m|'ll|'d at an apostrophe: its end, or `place` if there is none.

    In any case, the long s (U+017F) is an s too: case folding of Unicode.
    """
    if place + 1 >= end:
        return place
    first = text[place + 1]
    if any_case:
        if first == 0xC5 and text[place + 2] == 0xBF:
            return place + 3
        first |= 0x20
    if first == ord("s") or first == ord("t") or first == ord("m") or first == ord("d"):
        return place + 2
    if place + 2 >= end:
        return place
    second = text[place + 2]
    if any_case:
        second |= 0x20
    if (first == ord("r") or first == ord("v")) and second == ord("e"):
        return place + 3
    return place + 3 if first == ord("l") and second == ord("l") else place


@numba.njit(cache=True)
def _spaces(text, place, end, kinds, to_newline):
    r"""`\s+(?!\S)|\s+`: white space, without its last character if something follows and it has more than one.

    `to_newline`: `\s*[\r\n]+` comes first, which ends behind the last newline of the run.
    """
    last, newline, kind = place, place, SPACE
    after = place
    while after < end:
        kind, following = _kind(text, after, kinds)
        if kind != SPACE and kind != NEWLINE:
            break
        last, after = after, following
        if kind == NEWLINE:
            newline = after
    if to_newline and newline > place:
        return newline
    return after if after == end or kind == CUT or last == place else last


@numba.njit(cache=True)
def _end_gpt2(text, place, end, kinds, code):
    kind, after = _kind(text, place, kinds)
    if text[place] == BLANK and after < end:  # ` ?` before letters, digits or others
        following, behind = _kind(text, after, kinds)
        if following in (LETTER, OTHER) or (following == NUMBER and not code):
            return _run(text, behind, end, kinds, following)
    if kind in (LETTER, OTHER):
        return _run(text, after, end, kinds, kind)
    if kind == CUT or (kind == NUMBER and code):
        return after
    if kind == NUMBER or code:
        return _run(text, after, end, kinds, kind)
    return _spaces(text, place, end, kinds, False)


@numba.njit(cache=True)
def _end_cl100k(text, place, end, kinds, digits):
    kind, after = _kind(text, place, kinds)
    if kind == LETTER:
        return _run(text, after, end, kinds, LETTER)
    if kind == NUMBER:
        for _ in range(digits - 1):
            if after == end:
                break
            following, behind = _kind(text, after, kinds)
            if following != NUMBER:
                break
            after = behind
        return after
    if kind != NEWLINE and after < end:  # `[^\r\n\p{L}\p{N}]?` before letters, ` ?` before others
        following, behind = _kind(text, after, kinds)
        if following == LETTER:
            return _run(text, behind, end, kinds, LETTER)
        if following == OTHER and text[place] == BLANK:
            kind, after = OTHER, behind
    if kind == OTHER:
        return _run(text, _run(text, after, end, kinds, OTHER), end, kinds, NEWLINE)
    return _spaces(text, place, end, kinds, True)


@numba.njit(cache=True)
def piece_end(text, place, end, kinds, rule):
    """Where the piece ends that begins at `place` of the text that ends at `end`.

    `kinds` is of `characters.kinds_for`, `rule` of `rule_of`; both of one pre-tokenizer.
    """
    if text[place] == APOSTROPHE:
        after = _contraction(text, place, end, rule > 0)
        if after > place:
            return after
    if rule > 0:
        return _end_cl100k(text, place, end, kinds, rule)
    return _end_gpt2(text, place, end, kinds, rule == CODE)


@numba.njit(cache=True)
def _ends(text, starts, kinds, rule):
    ends = np.empty(len(text), np.int64)
    count = 0
    for number in range(len(starts) - 1):
        place = starts[number]
        while place < starts[number + 1]:
            place = piece_end(text, place, starts[number + 1], kinds, rule)
            ends[count] = place
            count += 1
    return ends[:count].copy()


def split(texts: list[str], name: str) -> list[bytes]:
    """The pieces of all texts, in order, under the pre-tokenizer `name`: for tests and pages."""
    joined, starts = join_texts(texts)
    ends = _ends(joined, starts, kinds_for(name), rule_of(name)).tolist()
    whole = joined.tobytes()
    return [whole[first:last] for first, last in zip([0, *ends], ends, strict=False)]
