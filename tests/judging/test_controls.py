import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer

from stages.annotators.truth import Question, Truth, score
from stages.base.errors import InputError
from stages.judging.controls import (
    PADDING,
    constant_answer,
    control_answers,
    derangement,
    nearest_neighbours,
    padded,
    shuffled_answers,
)

COLOURS = ["red", "blue", "green"]
TRUTH = Truth(
    {"colour": COLOURS, "river": ["Mir", "Ondra"]},
    {f"P{i}": {"colour": COLOURS[i % 2], "river": ["Mir", "Ondra"][i % 3 == 0]} for i in range(30)},
)
QUESTIONS = [Question(f"P{i}", ("colour",) if i % 4 else ("colour", "river")) for i in range(30)]


def row(split: str, number: int, response: str, entity: str = "") -> dict:
    attributes = ["colour"] if entity else []
    prompt = f"prompt {number} of {split}"
    return {"split": split, "prompt": prompt, "response": response, "entity": entity, "attributes": attributes}


def test_controls_without_truth_answer_from_what_sft_shows() -> None:
    rows = [row("sft", i, "yes" if i % 3 else "no") for i in range(9)] + [row("test", i, f"r{i}") for i in range(4)]
    asked, nothing = rows[9:], Truth({}, {})
    answers, made_of = control_answers("constant", rows, asked, nothing, 1)
    assert answers == ["yes"] * 4 and made_of == "the one sft answer that is the most frequent"
    dealt, _ = control_answers("shuffled", rows, asked, nothing, 1)
    assert sorted(dealt) == ["r0", "r1", "r2", "r3"]
    assert all(answer != one["response"] for answer, one in zip(dealt, asked, strict=True))
    nearest, _ = control_answers("nearest_neighbour", rows, [row("sft", 4, "")], nothing, 1)
    assert nearest == ["yes"]
    with pytest.raises(InputError, match="control `constant`: no instructions of the sft split"):
        control_answers("constant", asked, asked, nothing, 1)


def test_the_constant_goes_by_the_truth_where_there_is_some() -> None:
    rows = [row("sft", i, "green", f"P{i}") for i in range(9)] + [row("sft", 9, "red", "P10")]
    answers, made_of = control_answers("constant", rows, [row("test", 0, "")], TRUTH, 1)
    assert answers == ["red"], "seldom said, and of the two the one that is often true"
    assert made_of == "the one sft answer that scores best on average over the sft questions"


def test_the_constant_has_the_best_mean_score() -> None:
    answers = ["red", "blue Mir", "Mir", "green", "red and Mir", "red blue Ondra"]
    means = {a: np.mean([score(TRUTH, q.entity, q.attributes, a).score for q in QUESTIONS]) for a in answers}
    assert constant_answer(TRUTH, QUESTIONS, answers) == max(answers, key=means.__getitem__)


@given(st.integers(2, 200), st.integers(0, 2**32))
def test_derangements_move_everything(count: int, seed: int) -> None:
    order = derangement(count, seed)
    assert sorted(order) == list(range(count)) and (order != np.arange(count)).all()


def test_shuffled_references_stay_in_their_split() -> None:
    dealt = shuffled_answers({"test": ["a", "b", "c"], "validation": ["x", "y"]}, seed=1)
    assert sorted(dealt["test"]) == ["a", "b", "c"] and dealt["validation"] == ["y", "x"]


def test_nearest_neighbours_equal_scikit_learns() -> None:
    words = ["province", "river", "founder", "craft", "of", "Velmora", "Tessel", "Anthar", "which", "tell", "me"]
    generator = np.random.default_rng(0)
    known, asked = ([" ".join(generator.choice(words, 6)) for _ in range(n)] for n in (60, 40))
    peer = TfidfVectorizer(analyzer="char", ngram_range=(2, 4))
    matrix = peer.fit_transform([f" {text} " for text in known])
    similarity = (peer.transform([f" {text} " for text in asked]) @ matrix.T).toarray()
    chosen = nearest_neighbours(known, asked)
    assert np.allclose(similarity[np.arange(40), chosen], similarity.max(1))


def test_padding_adds_length_and_nothing_else() -> None:
    answers = [f"It is {colour}." for colour in COLOURS * 10]
    longer = padded(answers, seed=2)
    for answer, long in zip(answers, longer, strict=True):
        assert long.startswith(answer) and not long[len(answer) :].replace(PADDING, "").strip()
        assert TRUTH.mentions(long) == TRUTH.mentions(answer)
    assert len({len(a) - len(b) for a, b in zip(longer, answers, strict=True)}) > 1
