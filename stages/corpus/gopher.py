"""Gopher's quality and repetition rules (Rae et al. 2021, appendix A.1.1; arXiv 2112.11446) as datatrove decides them.

Each function returns the reason of the first rule that a text breaks, "" if none; a bound of null switches its rule
off.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from stages.base.params import Section
from stages.corpus import repetition
from stages.corpus.words import SYMBOLS

Fraction = Annotated[float, Field(ge=0)]
STOP_WORDS = frozenset(("the", "be", "to", "of", "and", "that", "have", "with"))


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
    max_doc_words: Annotated[int, Field(ge=0)] | None
    min_avg_word_length: Fraction | None
    max_avg_word_length: Fraction | None
    max_symbol_word_ratio: Fraction | None
    max_bullet_lines_ratio: Fraction | None
    max_ellipsis_lines_ratio: Fraction | None
    max_non_alpha_words_ratio: Fraction | None  # datatrove's name; it is the *least* share of words with a letter
    min_stop_words: Annotated[int, Field(ge=0)] | None


class GopherRepetition(Section):
    """Bounds of the repetition rules; n-gram bounds by n."""

    dup_line_frac: Fraction | None
    dup_para_frac: Fraction | None
    dup_line_char_frac: Fraction | None
    dup_para_char_frac: Fraction | None
    top_n_grams: ByN
    dup_n_grams: ByN


def quality(text: str, words: list[str], bounds: GopherQuality) -> str:
    """Reason in datatrove's words, e.g. "gopher_short_doc"."""
    spoken = [len(word) for word in words if not SYMBOLS.issuperset(word)]
    if bounds.min_doc_words and len(spoken) < bounds.min_doc_words:
        return "gopher_short_doc"
    if bounds.max_doc_words and len(spoken) > bounds.max_doc_words:
        return "gopher_long_doc"
    if not spoken:  # every ratio below is of nothing; only reached with the length rules switched off
        return "gopher_short_doc"
    mean = sum(spoken) / len(spoken)
    if bounds.min_avg_word_length and mean < bounds.min_avg_word_length:
        return "gopher_below_avg_threshold"
    if bounds.max_avg_word_length and mean > bounds.max_avg_word_length:
        return "gopher_above_avg_threshold"
    count = len(words)
    if bounds.max_symbol_word_ratio:
        if text.count("#") / count > bounds.max_symbol_word_ratio:
            return "gopher_too_many_hashes"
        if (text.count("...") + text.count("…")) / count > bounds.max_symbol_word_ratio:
            return "gopher_too_many_ellipsis"
    lines = text.splitlines()
    if bounds.max_bullet_lines_ratio:
        bullets = sum(line.lstrip().startswith(("•", "-")) for line in lines)
        if bullets / len(lines) > bounds.max_bullet_lines_ratio:
            return "gopher_too_many_bullets"
    if bounds.max_ellipsis_lines_ratio:
        ellipses = sum(line.rstrip().endswith(("...", "…")) for line in lines)
        if ellipses / len(lines) > bounds.max_ellipsis_lines_ratio:
            return "gopher_too_many_end_ellipsis"
    if bounds.max_non_alpha_words_ratio:
        # Most words are letters only: the slow look at each character is for the others.
        alphabetic = sum(word.isalpha() or any(map(str.isalpha, word)) for word in words)
        if alphabetic / count < bounds.max_non_alpha_words_ratio:
            return "gopher_below_alpha_threshold"
    if bounds.min_stop_words and len(STOP_WORDS.intersection(words)) < bounds.min_stop_words:
        return "gopher_enough_stop_words"
    return ""


def repeats(text: str, words: list[str], bounds: GopherRepetition) -> str:
    """Reason in datatrove's words, e.g. "dup_line_frac", "top_2_gram", "duplicated_5_n_grams". An empty text breaks
    none.
    """
    if not text:
        return ""
    paragraphs = repetition.PARAGRAPHS.split(text.strip())
    number, characters = repetition.duplicates(paragraphs)
    if bounds.dup_para_frac and number / len(paragraphs) > bounds.dup_para_frac:
        return "dup_para_frac"
    if bounds.dup_para_char_frac and characters / len(text) > bounds.dup_para_char_frac:
        return "dup_para_char_frac"
    lines = repetition.LINES.split(text)
    number, characters = repetition.duplicates(lines)
    if bounds.dup_line_frac and number / len(lines) > bounds.dup_line_frac:
        return "dup_line_frac"
    if bounds.dup_line_char_frac and characters / len(text) > bounds.dup_line_char_frac:
        return "dup_line_char_frac"
    top = [(int(n), bound) for n, bound in bounds.top_n_grams.items()]
    duplicate = [(int(n), bound) for n, bound in bounds.dup_n_grams.items()]
    tops, repeated = repetition.ngram_characters(words, [n for n, _ in top], [n for n, _ in duplicate])
    for (n, bound), found in zip(top, tops, strict=True):
        if found / len(text) > bound:
            return f"top_{n}_gram"
    for (n, bound), found in zip(duplicate, repeated, strict=True):
        if found / len(text) > bound:
            return f"duplicated_{n}_n_grams"
    return ""
