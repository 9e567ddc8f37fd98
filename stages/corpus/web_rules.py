"""C4's rules (Raffel et al. 2020, section 2.2; JMLR 21:140) and FineWeb's (Penedo et al. 2024, arXiv 2406.17557), as
datatrove decides them.
"""

import re
from typing import Annotated

from pydantic import Field

from stages.base.params import Section
from stages.corpus.repetition import duplicates
from stages.corpus.words import TERMINAL, sentences

Fraction = Annotated[float, Field(ge=0)]
CITATION = re.compile(r"\[\d*]|\[edit]|\[citation needed]")
LINE_ENDS = (".", "?", "!", '"', "'")
POLICIES = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")


class C4(Section):
    """C4's line and document rules; -1 switches a number's rule off, as in datatrove."""

    remove_citations: bool
    filter_no_terminal_punct: bool
    min_num_sentences: Annotated[int, Field(ge=-1)]
    min_words_per_line: Annotated[int, Field(ge=-1)]
    max_word_length: Annotated[int, Field(ge=-1)]
    filter_lorem_ipsum: bool
    filter_javascript: bool
    filter_curly_bracket: bool
    filter_policy: bool


class FineWeb(Section):
    """FineWeb's document rules."""

    line_punct_thr: Fraction
    line_punct_exclude_zero: bool
    short_line_thr: Fraction
    short_line_length: Annotated[int, Field(ge=0)]
    char_duplicates_ratio: Fraction
    new_line_ratio: Fraction


def c4(text: str, bounds: C4) -> tuple[str, str]:
    """(reason, text of the lines that stay); the reason is "" if the document stays. A dropped document's text is
    unchanged.
    """
    kept: list[str] = []
    count = 0
    for line in text.splitlines():
        line = line.strip()
        words = line.split()
        if bounds.max_word_length != -1 and any(len(word) > bounds.max_word_length for word in words):
            continue
        if bounds.remove_citations:
            line = CITATION.sub("", line)
        if bounds.filter_no_terminal_punct and (not line.endswith(LINE_ENDS) or line.endswith("...")):
            continue
        if len(words) < bounds.min_words_per_line:
            continue
        lowered = line.lower()
        if bounds.filter_lorem_ipsum and "lorem ipsum" in lowered:
            return "lorem_ipsum", text
        if bounds.filter_javascript and "javascript" in lowered:
            continue
        if bounds.filter_curly_bracket and "{" in line:
            return "curly_bracket", text
        if bounds.filter_policy and any(policy in lowered for policy in POLICIES):
            continue
        if bounds.min_num_sentences != -1:
            count += sentences(line)
        kept.append(line)
    if count < bounds.min_num_sentences:
        return "too_few_sentences", text
    return "", "\n".join(kept).strip()


def fineweb(text: str, words: list[str], bounds: FineWeb) -> str:
    """Reason in datatrove's words, e.g. "line_punct_ratio", "" if the text passes."""
    lines = [line for line in text.split("\n") if line.strip()]
    if not lines:
        return "empty"
    ratio = sum(line.endswith(TERMINAL) for line in lines) / len(lines)
    if ratio < bounds.line_punct_thr and not (ratio == 0 and bounds.line_punct_exclude_zero):
        return "line_punct_ratio"
    if sum(len(line) <= bounds.short_line_length for line in lines) / len(lines) > bounds.short_line_thr:
        return "short_line_ratio"
    if duplicates(lines)[1] / len(text.replace("\n", "")) > bounds.char_duplicates_ratio:
        return "char_dup_ratio"
    if text.count("\n") / len(words) > bounds.new_line_ratio:
        return "list_ratio"
    return ""
