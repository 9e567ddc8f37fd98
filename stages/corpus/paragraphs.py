"""Paragraphs that a site repeats on many pages: headers, footers, notices (the CCNet and lecture rule).

A paragraph is a line of the extracted text. Two lines are the same if they agree up to case, digits and spacing, so
that "Page 3 of 9" and "Page 4 of 9" are.
"""

import re
from collections import Counter
from collections.abc import Sequence

SPACES = re.compile(r"\s+")
DIGITS = re.compile(r"\d+")


def normal(line: str) -> str:
    """The form under which lines are compared; "" for a blank line."""
    return DIGITS.sub("0", SPACES.sub(" ", line).strip().lower())


def repeated(texts: Sequence[str], max_documents: int) -> set[str]:
    """Normal forms of the lines that stand in more than `max_documents` texts."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update({normal(line) for line in text.split("\n")} - {""})
    return {line for line, count in counts.items() if count > max_documents}


def without(text: str, lines: set[str], min_characters: int) -> tuple[str, int]:
    """(the text without repeated lines, characters removed).

    Lines of `min_characters` or more go wherever they stand. Shorter ones ("Parameters", "See also") go only in the
    unbroken run of repeated and blank lines at the top or the bottom of a text, where a site's furniture is: inside a
    text they are headings.
    """
    if not lines:
        return text, 0
    rows = text.split("\n")
    forms = [normal(row) for row in rows]
    hit = [form in lines for form in forms]
    if not any(hit):
        return text, 0
    drop = [is_hit and len(row.strip()) >= min_characters for is_hit, row in zip(hit, rows, strict=True)]
    for order in (range(len(rows)), range(len(rows) - 1, -1, -1)):
        for place in order:
            if forms[place] and not hit[place]:
                break
            drop[place] = drop[place] or hit[place]
    kept = [row for row, gone in zip(rows, drop, strict=True) if not gone]
    rest = re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip("\n")
    return rest, sum(len(row) for row, gone in zip(rows, drop, strict=True) if gone)
