"""Gopher's quality and repetition rules (Rae et al. 2021, appendix A.1.1; arXiv 2112.11446) as datatrove decides them.

Each function returns the reason of the first rule that a text breaks, "" if none; a bound of null switches its rule
off. A text of no words breaks `gopher_short_doc` where datatrove would divide by zero.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import numba
import numpy as np
from pydantic import BeforeValidator, Field

from stages.base.params import Section
from stages.corpus.rules import repetition
from stages.corpus.rules.characters import next_line, strip
from stages.corpus.rules.lexicon import LETTER, SYMBOL, Text

Fraction = Annotated[float, Field(ge=0)]
BULLET, HYPHEN, STOP, ELLIPSIS = map(ord, "•-.…")


def _by_n(value: Any) -> Any:
    """Bounds by n with text keys, as YAML and DVC like them, from those or from datatrove's ((n, bound), …)."""
    pairs = value.items() if isinstance(value, Mapping) else value
    try:
        return {str(n): bound for n, bound in pairs}
    except (TypeError, ValueError):
        return value


ByN = Annotated[dict[Annotated[str, Field(pattern=r"^[1-9]\d?$")], Fraction], BeforeValidator(_by_n)]


class GopherQuality(Section):
    """Bounds of the quality rules."""

    min_doc_words: Annotated[int, Field(ge=0)] | None
    """Fewest words of a document."""
    max_doc_words: Annotated[int, Field(ge=0)] | None
    """Most words of a document."""
    min_avg_word_length: Fraction | None
    """Least mean length of a word."""
    max_avg_word_length: Fraction | None
    """Largest mean length of a word."""
    max_symbol_word_ratio: Fraction | None
    """Most `#` and most ellipses by words."""
    max_bullet_lines_ratio: Fraction | None
    """Largest share of lines that begin with a bullet."""
    max_ellipsis_lines_ratio: Fraction | None
    """Largest share of lines that end in an ellipsis."""
    max_non_alpha_words_ratio: Fraction | None
    """Datatrove's name; it is the *least* share of words with a letter."""
    min_stop_words: Annotated[int, Field(ge=0)] | None
    """Fewest different stop words."""


class GopherRepetition(Section):
    """Bounds of the repetition rules; n-gram bounds by n."""

    dup_line_frac: Fraction | None
    """Largest share of lines that are repeated."""
    dup_para_frac: Fraction | None
    """Largest share of paragraphs that are repeated."""
    dup_line_char_frac: Fraction | None
    """Largest share of characters in repeated lines."""
    dup_para_char_frac: Fraction | None
    """Largest share of characters in repeated paragraphs."""
    top_n_grams: ByN
    """By n, largest share of characters in the most frequent n-gram."""
    dup_n_grams: ByN
    """By n, largest share of characters in n-grams that occur twice."""


@numba.njit(cache=True)
def _profile(words: np.ndarray, lengths: np.ndarray, flags: np.ndarray, stops: np.ndarray) -> tuple[int, int, int, int]:
    """(words that are no symbols, their characters, words with a letter, bits of the stop words met)."""
    spoken, characters, alphabetic = 0, 0, 0
    met = np.uint8(0)
    for word in words:
        if not flags[word] & SYMBOL:
            spoken += 1
            characters += lengths[word]
        alphabetic += (flags[word] & LETTER) != 0
        met |= stops[word]
    return spoken, characters, alphabetic, int(met)


@numba.njit(cache=True)
def _lines(codes: np.ndarray) -> tuple[int, int, int]:
    """(lines, of them with a bullet, of them that end in an ellipsis)."""
    lines, bullets, ellipses, place = 0, 0, 0, 0
    while place < codes.shape[0]:
        end, after = next_line(codes, place)
        start, end = strip(codes, place, end)
        lines += 1
        if end > start:
            bullets += codes[start] == BULLET or codes[start] == HYPHEN
            dots = end - start >= 3 and codes[end - 1] == STOP and codes[end - 2] == STOP and codes[end - 3] == STOP
            ellipses += dots or codes[end - 1] == ELLIPSIS
        place = after
    return lines, bullets, ellipses


def quality(text: Text, bounds: GopherQuality) -> str:
    """Reason in datatrove's words, e.g. "gopher_short_doc"."""
    lexicon = text.lexicon
    spoken, characters, alphabetic, met = _profile(text.words, lexicon.lengths, lexicon.flags, lexicon.stops)
    if bounds.min_doc_words and spoken < bounds.min_doc_words:
        return "gopher_short_doc"
    if bounds.max_doc_words and spoken > bounds.max_doc_words:
        return "gopher_long_doc"
    if not spoken:  # every ratio below is of nothing; only reached with the length rules switched off
        return "gopher_short_doc"
    mean = characters / spoken
    if bounds.min_avg_word_length and mean < bounds.min_avg_word_length:
        return "gopher_below_avg_threshold"
    if bounds.max_avg_word_length and mean > bounds.max_avg_word_length:
        return "gopher_above_avg_threshold"
    count = len(text.words)
    if bounds.max_symbol_word_ratio:
        if text.string.count("#") / count > bounds.max_symbol_word_ratio:
            return "gopher_too_many_hashes"
        if (text.string.count("...") + text.string.count("…")) / count > bounds.max_symbol_word_ratio:
            return "gopher_too_many_ellipsis"
    lines, bullets, ellipses = _lines(text.codes)
    if bounds.max_bullet_lines_ratio and bullets / lines > bounds.max_bullet_lines_ratio:
        return "gopher_too_many_bullets"
    if bounds.max_ellipsis_lines_ratio and ellipses / lines > bounds.max_ellipsis_lines_ratio:
        return "gopher_too_many_end_ellipsis"
    if bounds.max_non_alpha_words_ratio and alphabetic / count < bounds.max_non_alpha_words_ratio:
        return "gopher_below_alpha_threshold"
    if bounds.min_stop_words and met.bit_count() < bounds.min_stop_words:
        return "gopher_enough_stop_words"
    return ""


def repeats(text: Text, bounds: GopherRepetition) -> str:
    """Reason in datatrove's words, e.g. "empty", "dup_line_frac", "top_2_gram", "duplicated_5_n_grams"."""
    length = len(text.string)
    if not length:
        return "empty"
    start, end = strip(text.codes, 0, length)
    parts, number, characters = repetition.duplicates(text.codes[start:end], 2)
    if bounds.dup_para_frac and number / parts > bounds.dup_para_frac:
        return "dup_para_frac"
    if bounds.dup_para_char_frac and characters / length > bounds.dup_para_char_frac:
        return "dup_para_char_frac"
    parts, number, characters = repetition.duplicates(text.codes, 1)
    if bounds.dup_line_frac and number / parts > bounds.dup_line_frac:
        return "dup_line_frac"
    if bounds.dup_line_char_frac and characters / length > bounds.dup_line_char_frac:
        return "dup_line_char_frac"
    sizes = [*map(int, bounds.top_n_grams), *map(int, bounds.dup_n_grams)]
    shares = np.array([*bounds.top_n_grams.values(), *bounds.dup_n_grams.values()], np.float64)
    lexicon, top = text.lexicon, len(bounds.top_n_grams)
    broken = repetition.first_broken(
        text.words, lexicon.lengths, *lexicon.hashes, np.array(sizes, np.int64), shares, top, length
    )
    if broken < 0:
        return ""
    return f"top_{sizes[broken]}_gram" if broken < top else f"duplicated_{sizes[broken]}_n_grams"
