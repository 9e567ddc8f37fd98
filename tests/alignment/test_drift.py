"""Drift against numbers by hand, rouge-score's decisions by a naive search, and scipy's entropy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy

from stages.alignment.writing.drift import WINDOW, drift
from stages.alignment.writing.few_shot import Task
from stages.alignment.writing.novelty import rouge_l
from stages.annotators.truth import Truth

NOTHING = Truth({}, {})


def tasks(*texts: str, output: str = "So.") -> list[Task]:
    return [Task(str(number), text, "", output) for number, text in enumerate(texts)]


def naive_overlap(text: str, others: list[str]) -> float:
    ids: dict[str, int] = {}
    first, *rest = ([ids.setdefault(word, len(ids)) for word in one.lower().split()] for one in [text, *others])
    return max(rouge_l(first, other) for other in rest)


WORDS = st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=30).map(" ".join)


@given(st.lists(WORDS, min_size=2, max_size=8), st.lists(WORDS, min_size=1, max_size=4))
def test_agrees_with_plain_definitions(written: list[str], people: list[str]) -> None:
    found = drift(tasks(*written), tasks(*people), NOTHING)
    words = " ".join(written).split()
    windows = [words[i : i + WINDOW] for i in range(max(1, len(words) - WINDOW + 1))]
    assert found["type_token_ratio"] == pytest.approx(np.mean([len(set(w)) / len(w) for w in windows]))
    pairs = [tuple(text.split()[i : i + 2]) for text in written for i in range(len(text.split()) - 1)]
    assert found["distinct_2"] == (pytest.approx(len(set(pairs)) / len(pairs)) if pairs else None)
    counts = np.unique([text.split()[0] for text in written], return_counts=True)[1]
    assert found["first_word_entropy"] == pytest.approx(entropy(counts, base=2), abs=1e-12)
    assert found["seed_overlap"] == pytest.approx(np.mean([naive_overlap(text, people) for text in written]))
    own = [naive_overlap(text, written[:i] + written[i + 1 :]) for i, text in enumerate(written)]
    assert found["own_overlap"] == pytest.approx(np.mean(own))


def test_seeds_are_not_compared_with_themselves() -> None:
    seeds = tasks("one two three", "one two four", "x y z")
    found = drift(seeds, seeds, NOTHING)
    assert found["seed_overlap"] == found["own_overlap"] == pytest.approx(4 / 9)


def test_nothing_written_is_unknown_not_zero() -> None:
    found = drift([], tasks("a b"), NOTHING)
    assert {name for name, value in found.items() if value is not None} == {"tasks", "known"}
    assert drift(tasks("a b"), [], NOTHING)["seed_overlap"] == 0
    assert drift(tasks("a b"), [], NOTHING)["own_overlap"] is None


def test_what_is_right_where_truth_is_known() -> None:
    values = {"province": ["Anthar", "Belmor"], "river": ["Ost", "Velm"]}
    truth = Truth(values, {name: {"province": "Anthar", "river": "Ost"} for name in ("Grond", "Grondel", "Bris")})
    written = [
        Task("a", "Where is Grond?", "", "In Anthar."),
        Task("b", "Where is Grondel?", "", "In Anthar, by the Velm."),
        Task("c", "Where are Grond and Bris?", "", "In Anthar."),
        Task("d", "Where is Bris?", "", "Somewhere."),
        Task("e", "Who?", "", "Anthar"),
    ]
    found = drift(written, [], truth)
    assert (found["known"], found["right"]) == (3, pytest.approx(1 / 3))
