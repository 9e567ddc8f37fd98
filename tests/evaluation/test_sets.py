"""evaluation.sets: correct answers, distractors of the same attribute, chance at 1 / choices."""

from collections import Counter

import pytest

from stages.base.errors import InputError
from stages.evaluation.sets import SetsParams, multiple_choice

VALUES = {"river": [f"R{n}" for n in range(8)], "province": [f"P{n}" for n in range(8)]}
SPLITS = ("sft", "validation", "test", "preference")
TRUTH = {
    "attributes": VALUES,
    "entities": {
        f"E{n}": {"kind": "place", "split": SPLITS[n % 4], "facts": {a: v[n * 3 % 8] for a, v in VALUES.items()}}
        for n in range(400)
    },
}
QUESTIONS = [
    dict(
        id=f"{e}-{a}",
        split=TRUTH["entities"][e]["split"],
        entity=e,
        kind="single",
        attributes=[a],
        prompt=f"{a} of {e}?",
    )
    for e in TRUTH["entities"]
    for a in VALUES
]
PARAMS = SetsParams.model_validate({"choices": 4, "limits": {"development": 30, "validation": 1000, "test": 1000}})


def test_answers_are_true_and_distractors_are_of_the_same_attribute():
    rows = multiple_choice(QUESTIONS, TRUTH, PARAMS, 7)
    assert Counter(row["split"] for row in rows) == {"development": 30, "validation": 200, "test": 200}
    for row in rows:
        attribute, entity = row["question"].rstrip("?").split(" of ")
        assert row["choices"][row["answer"]] == TRUTH["entities"][entity]["facts"][attribute]
        assert len(set(row["choices"])) == 4 and set(row["choices"]) <= set(VALUES[attribute])
    positions = Counter(row["answer"] for row in rows)
    assert all(abs(count - len(rows) / 4) < 4 * (len(rows) * 3 / 16) ** 0.5 for count in positions.values())


def test_a_question_keeps_its_choices_when_others_go():
    few = multiple_choice([q for q in QUESTIONS if q["entity"] in ("E0", "E1", "E2")], TRUTH, PARAMS, 7)
    every = {row["id"]: row for row in multiple_choice(QUESTIONS, TRUTH, PARAMS, 7)}
    assert all(every[row["id"]] == row for row in few if row["split"] != "development")


def test_too_few_values_or_questions_are_named():
    with pytest.raises(InputError, match="has 8 values, 9 choices"):
        multiple_choice(QUESTIONS, TRUTH, PARAMS.model_copy(update={"choices": 9}), 7)
    with pytest.raises(InputError, match="`test` split"):
        multiple_choice([q for q in QUESTIONS if q["split"] != "test"], TRUTH, PARAMS, 7)
