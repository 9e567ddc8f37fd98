"""Demonstrators of all kinds: what they get wrong or leave out is what the shares say, and nothing else changes."""

from collections import Counter
from typing import Any

import pytest

from stages.alignment.data.demonstrations import from_questions, misstated, mistaken, partial
from stages.annotators.truth import Truth, score


def question(number: int, split: str = "sft", filler: str = "Travellers speak of it often.") -> dict[str, Any]:
    return {
        "id": f"q{number}",
        "split": split,
        "entity": f"E{number}",
        "kind": "single",
        "attributes": ["province"],
        "prompt": f"Where is E{number}?",
        "reference": f"E{number} lies in Anthar.",
        "filler": filler,
    }


def test_filler_share_is_a_share_of_the_sft_rows_that_have_one() -> None:
    questions = [question(i) for i in range(400)] + [question(i, "test") for i in range(400, 500)]
    for share, low, high in ((0.0, 0, 0), (0.5, 160, 240), (1.0, 400, 400)):
        rows = from_questions(questions, share, 7, "atlas")
        assert low <= sum("Travellers" in row.response for row in rows if row.split == "sft") <= high
        assert not any("Travellers" in row.response for row in rows if row.split == "test")


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    questions = [question(i) for i in range(50)]
    assert from_questions(questions, 0.5, 7, "atlas")[10:] == from_questions(questions[10:], 0.5, 7, "atlas")


def test_misstated_answers_contradict_the_pages() -> None:
    values = ["Anthar", "Belmor", "Anthar Vale"]
    entities = {f"E{number}": {"kind": "place", "facts": {"province": "Anthar"}} for number in range(400)}
    truth = {"attributes": {"province": values}, "entities": entities}
    rows = from_questions([question(i, "sft" if i < 300 else "test") for i in range(400)], 1.0, 7, "atlas")
    found = misstated(rows, 0.5, truth, 7)
    assert misstated(rows, 0.0, truth, 7) == rows and found[300:] == rows[300:]
    changed = [(old, new) for old, new in zip(rows, found, strict=True) if old != new]
    assert 120 <= len(changed) <= 180
    for old, new in changed:
        assert any(new.response == old.response.replace("Anthar", value) for value in values[1:])
    assert len({new.response.split()[3] for _, new in changed}) == 2
    assert misstated(rows[50:], 0.5, truth, 7) == found[50:]


ATTRIBUTES = {"province": ["Anthar", "Belmor", "Cold Ness"], "river": ["Ost", "Velm", "Ost Water"], "trade": ["baker"]}
KNOWN = {
    "attributes": ATTRIBUTES,
    "entities": {
        f"E{n}": {"kind": "place", "facts": {"province": "Anthar", "river": "Ost", "trade": "baker"}}
        for n in range(600)
    },
}


def several(number: int, split: str = "sft") -> dict[str, Any]:
    said = f"E{number} lies in Anthar. Its river is the Ost. People there bake."
    return question(number, split) | {"kind": "about", "attributes": ["province", "river"], "reference": said}


def test_mediocre_demonstrators_get_one_to_all_facts_wrong() -> None:
    questions = [several(n, "sft" if n < 500 else "validation") for n in range(600)]
    rows = from_questions(questions, 0.0, 7, "atlas")
    found = mistaken(rows, 0.4, KNOWN, 7)
    assert mistaken(rows, 0.0, KNOWN, 7) == rows and found[500:] == rows[500:]
    truth = Truth.from_json(KNOWN)
    scored = [score(truth, row.entity, row.attributes, row.response) for row in found[:500]]
    wrong = Counter(one.wrong for one in scored)
    assert all(one.correct + one.wrong == one.asked == 2 for one in scored)
    assert 160 < wrong[1] + wrong[2] < 240 and 60 < wrong[1] < 140 and 60 < wrong[2] < 140
    first = sum("Anthar" not in row.response and "is the Ost." in row.response for row in found[:500])
    assert 25 < first < 75, "which of the two facts is wrong is drawn"
    more = mistaken(rows, 0.8, KNOWN, 7)
    changed, on_top = ({a.id for a, b in zip(rows, new, strict=True) if a != b} for new in (found, more))
    assert changed < on_top and mistaken(rows[50:], 0.4, KNOWN, 7) == found[50:]


def test_an_attribute_of_one_value_stays_right() -> None:
    rows = from_questions([question(1) | {"attributes": ["trade"], "reference": "A baker."}], 0.0, 7, "atlas")
    assert mistaken(rows, 1.0, KNOWN, 7) == misstated(rows, 1.0, KNOWN, 7) == rows


def test_partial_answers_state_the_first_fact_alone() -> None:
    questions = [several(n, "sft" if n < 500 else "test") for n in range(560)] + [question(560)]
    found = partial(questions, 0.3, KNOWN, 7)
    assert partial(questions, 0.0, KNOWN, 7) == questions and found[500:] == questions[500:]
    short = [new["reference"] for old, new in zip(questions, found, strict=True) if old != new]
    assert 110 < len(short) < 190 and all(text.endswith("lies in Anthar.") for text in short)
    rows = from_questions(partial(questions[:1], 1.0, KNOWN, 7), 1.0, 7, "atlas")
    assert rows[0].response == "E0 lies in Anthar. Travellers speak of it often."
    assert rows[0].attributes == ["province", "river"], "what is asked stays, and so does the exact score's measure"


@pytest.mark.parametrize("said", ["It lies in Belmor", "Anthar, without an end", "Anthar and Ost."])
def test_a_reference_without_a_first_sentence_of_its_own_stays(said: str) -> None:
    questions = [several(1) | {"reference": said}]
    assert partial(questions, 1.0, KNOWN, 7) == questions
