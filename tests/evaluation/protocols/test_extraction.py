import gzip
import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.evaluation.protocols.extraction import last_number, letter_of, plain_number, strict_number
from stages.evaluation.protocols.filters import exact_match, filtered

CHOICES = ("Paris", "the Seine", "A. Dumas", "1789")


@pytest.mark.parametrize(
    "text, letter",
    [
        ("B", "B"),
        (" B.", "B"),
        ("(B)", "B"),
        ("**B**", "B"),
        ("B) the Seine", "B"),
        ("B\n\nBecause it is a river.", "B"),
        ("The answer is B.", "B"),
        ("The correct answer is (D), as the revolution began then.", "D"),
        ("Answer: C", "C"),
        ("First I thought the answer is A. No: the answer is B", "B"),
        ("The correct option is **A**.", "A"),
        ("I choose (C) here", "C"),
        ("the Seine", "B"),
        ("Paris.", "A"),
        ("A river runs through Paris", "A"),  # by its text, not by the article
        ("A river runs through Lyon", ""),
        ("It is not Paris but the Seine", ""),
        ("Parisian", ""),
        ("The answer is a river", ""),
        ("Both (A) and (B) are right", ""),
        ("E", ""),
        ("I don't know", ""),
        ("", ""),
    ],
)
def test_letters(text: str, letter: str) -> None:
    assert letter_of(text, CHOICES, "ABCD") == letter


def test_of_choices_within_each_other_the_longer_is_named() -> None:
    assert letter_of("It is the old town.", ("town", "old town", "field"), "ABC") == "B"
    assert letter_of("It is a town.", ("town", "old town", "field"), "ABC") == "A"
    assert letter_of("In the field.", ("field", "Field"), "AB") == "A"  # they say the same


@pytest.mark.parametrize(
    "text, strict, last",
    [
        ("#### 1,234", "1234", "1234"),
        ("it costs $1,234.", "", "1234"),
        ("#### -5\n\n6", "-5", "6"),
        ("3 of 4 is 75%", "", "75"),
        ("none", "", ""),
        ("12.50.", "", "12.50"),
    ],
)
def test_numbers(text: str, strict: str, last: str) -> None:
    assert (strict_number(text), last_number(text)) == (strict, last)


def test_every_solution_of_gsm8k_gives_its_own_answer(reference: Path) -> None:
    with gzip.open(reference / "posttraining" / "gsm8k" / "test.jsonl.gz", "rt", encoding="utf-8") as lines:
        solutions = [json.loads(line)["answer"] for line in lines]
    assert len(solutions) == 1319
    for solution in solutions:
        wanted = plain_number(solution.split("#### ")[1])
        assert strict_number(solution) == last_number(solution) == wanted


FLEXIBLE = r"(-?[$0-9.,]{2,})|(-?[0-9]+)"
IGNORED = (",", "\\$", "(?s).*#### ", "\\.$")


@settings(max_examples=500)
@given(st.text(alphabet="#$.,-0123456789 ab\n", max_size=40))
def test_flexible_reading_equals_the_harness_filter(text: str) -> None:
    """Of its gsm8k.yaml: what our reader takes is what the filter takes, up to what its exact_match ignores."""
    found = filtered(text, [("regex", {"regex_pattern": FLEXIBLE, "group_select": -1}), ("take_first", {})])
    for pattern in IGNORED:
        found = re.sub(pattern, "", found)
    assert last_number(text) == ("" if found == "[invalid]" else found)


def test_filters() -> None:
    assert filtered("a 1 b 2", [("regex", {"regex_pattern": r"(\d)"})]) == "1"
    assert filtered("none", [("regex", {"regex_pattern": r"(\d)", "fallback": "?"})]) == "?"
    steps = [("remove_whitespace", {}), ("lowercase", {}), ("map", {"mapping_dict": {"yes": "1"}})]
    assert filtered(" YES\n", steps) == "1"
    assert filtered("no", [("uppercase", {})]) == "NO"


def test_exact_match_ignores_what_it_is_told_to() -> None:
    assert exact_match("Yes.", ["yes"], ignore_case=True, ignore_punctuation=True) == 1.0
    assert exact_match("Yes.", ["yes"], ignore_case=True) == 0.0
    assert exact_match("a1", ["b", "a"], ignore_numbers=True) == 1.0
    assert exact_match("$2", ["x #### 2"], regexes_to_ignore=IGNORED) == 1.0
    assert re.sub(IGNORED[2], "", "x #### 2") == "2"
