"""C4's rules (Raffel et al. 2020, section 2.2; JMLR 21:140) and FineWeb's (Penedo et al. 2024, arXiv 2406.17557), as
datatrove decides them.
"""

import re
from typing import Annotated

import numba
import numpy as np
from pydantic import Field

from stages.base.params import Section
from stages.corpus.rules.characters import LINE_FEED, is_space, next_line, strip, table_size
from stages.corpus.rules.lexicon import TERMINAL, Lexicon, Text
from stages.corpus.rules.repetition import met
from stages.corpus.rules.sentences import count, count_words_and_sentences

Fraction = Annotated[float, Field(ge=0)]
CITATION = re.compile(r"\[\d*]|\[edit]|\[citation needed]")
LINE_ENDS = (".", "?", "!", '"', "'")
LOREM, JAVASCRIPT = "lorem ipsum", "javascript"
POLICIES = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
END_MARKS = np.array(sorted(map(ord, TERMINAL)), np.uint32)


class C4(Section):
    """C4's line and document rules; -1 switches a number's rule off, as in datatrove."""

    remove_citations: bool
    """Cut marks like [1] and [edit]."""
    filter_no_terminal_punct: bool
    """Cut lines that don't end in punctuation."""
    min_num_sentences: Annotated[int, Field(ge=-1)]
    """Fewest sentences of a document."""
    min_words_per_line: Annotated[int, Field(ge=-1)]
    """Cut lines with fewer words."""
    max_word_length: Annotated[int, Field(ge=-1)]
    """Cut lines with a longer word."""
    filter_lorem_ipsum: bool
    """Drop documents with lorem ipsum."""
    filter_javascript: bool
    """Cut lines that name JavaScript."""
    filter_curly_bracket: bool
    """Drop documents with a curly bracket."""
    filter_policy: bool
    """Cut lines of privacy and cookie notices."""


class FineWeb(Section):
    """FineWeb's document rules."""

    line_punct_thr: Fraction
    """Least share of lines that end in punctuation."""
    line_punct_exclude_zero: bool
    """Let documents without any such line pass."""
    short_line_thr: Fraction
    """Largest share of short lines."""
    short_line_length: Annotated[int, Field(ge=0)]
    """Characters up to which a line is short."""
    char_duplicates_ratio: Fraction
    """Largest share of characters in repeated lines."""
    new_line_ratio: Fraction
    """Most line breaks by words."""


@numba.njit(cache=True)
def _cut_lines(codes: np.ndarray, min_words: int, max_word: int, terminal: bool) -> tuple[np.ndarray, np.ndarray]:
    """Of each line that stays: bounds of its characters without white space at the ends, and of its chunks.

    Two int64 arrays (lines, 2). Looks at words and last characters only.
    """
    count, place = 0, 0
    while place < codes.shape[0]:
        place = next_line(codes, place)[1]
        count += 1
    bounds, parts = np.empty((count, 2), np.int64), np.empty((count, 2), np.int64)
    kept, place, chunk = 0, 0, 0
    while place < codes.shape[0]:
        end, after = next_line(codes, place)
        start, end = strip(codes, place, end)
        first, longest, length = chunk, 0, 0
        for i in range(start, end + 1):
            if i == end or is_space(codes[i]):
                chunk += length > 0
                longest, length = max(longest, length), 0
            else:
                length += 1
        place = after
        if max_word != -1 and longest > max_word:
            continue
        if terminal:
            last = codes[end - 1] if end > start else 0
            if last != 0x2E and last != 0x3F and last != 0x21 and last != 0x22 and last != 0x27:
                continue
            if end - start >= 3 and last == 0x2E and codes[end - 2] == 0x2E and codes[end - 3] == 0x2E:
                continue
        if chunk - first < min_words:
            continue
        bounds[kept, 0], bounds[kept, 1] = start, end
        parts[kept, 0], parts[kept, 1] = first, chunk
        kept += 1
    return bounds[:kept], parts[:kept]


@numba.njit(cache=True)
def _count_sentences(
    codes: np.ndarray,
    chunks: np.ndarray,
    bounds: np.ndarray,
    parts: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    words: np.ndarray,
    flags: np.ndarray,
) -> int:
    total = 0
    for i in range(bounds.shape[0]):
        line, part = codes[bounds[i, 0] : bounds[i, 1]], chunks[parts[i, 0] : parts[i, 1]]
        total += count_words_and_sentences(line, part, starts, ends, words, flags)[1]
    return total


def c4(text: Text, bounds: C4) -> tuple[str, str]:
    """(reason, text of the lines that stay); the reason is "" if the document stays. A dropped document's text is
    unchanged.
    """
    if _has_phrases(text, bounds) or text.doubtful:
        return _c4_line_by_line(text, bounds)
    lines, parts = _cut_lines(
        text.codes, bounds.min_words_per_line, bounds.max_word_length, bounds.filter_no_terminal_punct
    )
    if bounds.min_num_sentences != -1:
        lexicon = text.lexicon
        found = _count_sentences(text.codes, text.chunks, lines, parts, *lexicon.cuts, lexicon.flags)
        if found < bounds.min_num_sentences:
            return "too_few_sentences", text.string
    return "", "\n".join([text.string[start:end] for start, end in lines.tolist()]).strip()


def _has_phrases(text: Text, bounds: C4) -> bool:
    """Whether anything in the text calls for a look at the wording of its lines."""
    if bounds.filter_curly_bracket and "{" in text.string:
        return True
    if bounds.remove_citations and "[" in text.string and CITATION.search(text.string):
        return True
    phrases = (LOREM,) * bounds.filter_lorem_ipsum + (JAVASCRIPT,) * bounds.filter_javascript
    return any(phrase in text.lowered for phrase in phrases + POLICIES * bounds.filter_policy)


def _c4_line_by_line(text: Text, bounds: C4) -> tuple[str, str]:
    kept: list[str] = []
    for line in text.string.splitlines():
        line = line.strip()
        words = line.split()
        if bounds.max_word_length != -1 and max(map(len, words), default=0) > bounds.max_word_length:
            continue
        if bounds.remove_citations:
            line = CITATION.sub("", line)
        if bounds.filter_no_terminal_punct and (not line.endswith(LINE_ENDS) or line.endswith("...")):
            continue
        if len(words) < bounds.min_words_per_line:
            continue
        lowered = line.lower()
        if bounds.filter_lorem_ipsum and LOREM in lowered:
            return "lorem_ipsum", text.string
        if bounds.filter_javascript and JAVASCRIPT in lowered:
            continue
        if bounds.filter_curly_bracket and "{" in line:
            return "curly_bracket", text.string
        if bounds.filter_policy and any(policy in lowered for policy in POLICIES):
            continue
        kept.append(line)
    # Counted last: most texts that come here are dropped by a bracket on the way.
    if bounds.min_num_sentences != -1 and not _enough_sentences(kept, text.lexicon, bounds.min_num_sentences):
        return "too_few_sentences", text.string
    return "", "\n".join(kept).strip()


def _enough_sentences(lines: list[str], lexicon: Lexicon, least: int) -> bool:
    found = 0
    for line in lines:
        if found >= least:
            break
        found += count(line, lexicon)
    return found >= least


@numba.njit(cache=True)
def _line_facts(codes: np.ndarray, short: int) -> tuple[int, int, int, int, int]:
    """(lines that aren't blank, of them with an end mark, short ones, characters of repeated ones, line feeds)."""
    feeds = 0
    for code in codes:
        feeds += code == LINE_FEED
    table = np.zeros(table_size(feeds + 1), np.uint64)
    lines, ended, brief, repeated, start = 0, 0, 0, 0, 0
    for place in range(codes.shape[0] + 1):
        if place < codes.shape[0] and codes[place] != LINE_FEED:
            continue
        first, last = strip(codes, start, place)
        if last > first:
            lines += 1
            position = np.searchsorted(END_MARKS, codes[place - 1])
            ended += position < END_MARKS.shape[0] and END_MARKS[position] == codes[place - 1]
            brief += place - start <= short
            if met(table, codes[start:place]):
                repeated += place - start
        start = place + 1
    return lines, ended, brief, repeated, feeds


def fineweb(text: Text, bounds: FineWeb) -> str:
    """Reason in datatrove's words, e.g. "line_punct_ratio", "" if the text passes."""
    lines, ended, brief, repeated, feeds = _line_facts(text.codes, bounds.short_line_length)
    if not lines:
        return "empty"
    ratio = ended / lines
    if ratio < bounds.line_punct_thr and not (ratio == 0 and bounds.line_punct_exclude_zero):
        return "line_punct_ratio"
    if brief / lines > bounds.short_line_thr:
        return "short_line_ratio"
    if repeated / (len(text.string) - feeds) > bounds.char_duplicates_ratio:
        return "char_dup_ratio"
    if feeds / len(text.words) > bounds.new_line_ratio:
        return "list_ratio"
    return ""
