import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.annotators.truth import Question, Truth, question_lookup, score
from stages.base.errors import InputError

VALUES = {"colour": ["red", "dark red", "blue"], "river": ["Ondra", "Mir"]}
TRUTH = Truth(VALUES, {"Velm": {"colour": "dark red", "river": "Ondra"}})


@pytest.mark.parametrize(
    ("answer", "correct", "wrong", "right"),
    [
        ("Velm is dark red.", 1, 0, True),
        ("DARK\n RED!", 1, 0, True),
        ("Velm is red.", 0, 1, False),  # a value that ends another one
        ("darkish reddish Mirror", 0, 0, False),  # whole words only
        ("dark red, or blue", 1, 1, False),
        ("dark red on the Ondra, dark red", 1, 0, True),  # true but not asked: neither way; repeats count once
        ("dark red on the Mir", 1, 1, False),
        ("", 0, 0, False),
    ],
)
def test_score_by_hand(answer: str, correct: int, wrong: int, right: bool) -> None:
    result = score(TRUTH, "Velm", ["colour"], answer)
    assert (result.correct, result.wrong, result.right) == (correct, wrong, right)
    assert result.score == correct - wrong


@given(st.lists(st.sampled_from(["red", "dark red", "blue", "Ondra", "Mir", "the", "is", "dark"]), max_size=8))
def test_score_equals_a_word_by_word_reading(words: list[str]) -> None:
    text = ", ".join(words)
    mentioned = {w.lower() for w in words if re.fullmatch("red|dark red|blue|ondra|mir", w.lower())}
    result = score(TRUTH, "Velm", ["colour", "river"], text)
    assert result.correct == len(mentioned & {"dark red", "ondra"})
    assert result.wrong == len(mentioned - {"dark red", "ondra"})


def test_unknown_entities_and_attributes_are_named() -> None:
    with pytest.raises(InputError, match="Nowhere"):
        score(TRUTH, "Nowhere", ["colour"], "")
    with pytest.raises(InputError, match="height"):
        score(TRUTH, "Velm", ["height"], "")


def test_nothing_may_be_known() -> None:
    nothing = Truth.from_json({"attributes": {}, "entities": {}})
    assert "Velm" not in nothing and nothing.mentions("dark red") == set()
    with pytest.raises(InputError, match="no values"):
        Truth({}, {"Velm": {"colour": "red"}})


def test_one_prompt_asks_one_thing() -> None:
    row = {"id": "1", "prompt": "p", "entity": "Velm", "attributes": ["colour"]}
    assert question_lookup([row, row]) == {"p": Question("Velm", ("colour",))}
    with pytest.raises(InputError, match="two entities"):
        question_lookup([row, row | {"entity": "Other"}])
