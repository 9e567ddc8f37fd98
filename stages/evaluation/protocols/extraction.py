"""What a generated text answers: a letter, a number, or the text itself.

Every reader gives "" where it finds no answer: that is scored as wrong, and counted apart.
"""

import re
import string
from collections.abc import Sequence

STRICT_NUMBER = re.compile(r"#### (\-?[0-9\.\,]+)")
NUMBER = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")
ARTICLES = re.compile(r"\b(a|an|the)\b")


def letter_of(text: str, choices: Sequence[str], letters: Sequence[str]) -> str:
    """The letter that a free text answers with, or "".

    In this order: the last one that the text declares ("the answer is (B)", "Answer: B"); one that opens it and stands
    by itself ("B", "B.", "(B) Paris", "**B**"); the only one in parentheses or bold; the only choice whose text it
    mentions (of "town" and "old town", the longer one).
    """
    one = "|".join(map(re.escape, letters))
    marked = rf"[(\[*\s]*({one})(?![\w'’])"
    declared = re.findall(rf"(?i:\b(?:answer|choice|option))(?:\s+(?i:is|was|would be))?\s*:?{marked}", text)
    if declared:
        return declared[-1]
    opening = re.match(rf"[(\[*\s]*({one})(?:[)\].:,;*]|\s*$|\s*\n)", text)
    if opening:
        return opening[1]
    apart = set(re.findall(rf"(?:\(|\*\*)({one})(?:\)|\*\*)", text))
    if len(apart) == 1:
        return apart.pop()
    said = f" {normalised(text)} "
    bare = {letter: normalised(choice) for letter, choice in zip(letters, choices, strict=True)}
    named = {letter: own for letter, own in bare.items() if own and f" {own} " in said}
    longest = [letter for letter, own in named.items() if not any(own != one and own in one for one in named.values())]
    return longest[0] if len({named[letter] for letter in longest}) == 1 else ""


def strict_number(text: str) -> str:
    """The first number behind "#### ", as GSM8K's solutions end ("strict-match" of the LM Evaluation Harness)."""
    found = STRICT_NUMBER.search(text)
    return plain_number(found[1]) if found else ""


def last_number(text: str) -> str:
    """The last number, wherever it stands ("flexible-extract")."""
    found = NUMBER.findall(text)
    return plain_number(next(part for part in found[-1] if part)) if found else ""


def plain_number(text: str) -> str:
    """Without separators of thousands, dollar signs and a full stop behind it."""
    return re.sub(r"\.$", "", text.strip().replace(",", "").replace("$", ""))


def normalised(text: str) -> str:
    """Lower case, without punctuation, articles and superfluous white space (SQuAD's evaluation)."""
    bare = text.lower().translate(str.maketrans("", "", string.punctuation))
    return " ".join(ARTICLES.sub(" ", bare).split())
