"""Examples, groups and the pairs that are generated."""

import math
import re
from collections import Counter
from itertools import zip_longest
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.base.errors import InputError
from stages.evaluation.tasks.declaration import Shots, TaskFile
from stages.evaluation.tasks.groups import Group, TaskScore, aggregate
from stages.evaluation.tasks.item import Item
from stages.evaluation.tasks.loading import load
from stages.evaluation.tasks.minimal_pairs import PHENOMENA, documents
from stages.evaluation.tasks.shots import Examples, choose_shots
from stages.evaluation.tasks.yaml_file import find_in_library


def item(name: str, split: str, subject: str = "s") -> Item:
    return Item(name, "t", subject, split, name, prompt=name, targets=("a",))


def task(**over: object) -> TaskFile:
    return TaskFile.model_validate({"task": "t", "training_split": "train", "test_split": "test", **over})


POOL = [item(f"d{n}", "development") for n in range(9)]
ASKED = [item(f"q{n}", "test") for n in range(20)]


def test_draws_follow_one_another_whatever_order_they_are_asked_in() -> None:
    one, generator = Examples(task(), POOL + ASKED), Random(1234)
    expected = [[f"d{n}" for n in generator.sample(range(9), 3)] for _ in ASKED]
    for place in (7, 0, 19, 7, 3):
        assert [shot.id for shot in one.choose(ASKED[place], 3)] == expected[place]
    assert [shot.id for shot in choose_shots(task(), POOL + ASKED, ASKED[5], 3)] == expected[5]
    assert one.choose(ASKED[0], 3, seed=5) != one.choose(ASKED[0], 3) and one.choose(ASKED[0], 0) == []


def test_no_item_is_an_example_of_itself() -> None:
    twins = [*ASKED, Item("twin", "t", "s", "test", "q3", prompt="q3", targets=("a",))]
    for sampler in ("default", "first_n"):
        chosen = Examples(task(training_split=None, fewshot_config={"sampler": sampler}), twins)
        for one in twins:
            shots = chosen.choose(one, 5)
            assert len({shot.id for shot in shots}) == 5 and one.prompt not in {shot.prompt for shot in shots}


def test_examples_are_of_the_items_subject_where_a_task_has_subjects() -> None:
    pool = [item(f"d{n}", "development", "ab"[n % 2]) for n in range(8)]
    asked = [item(f"q{n}", "test", "ab"[n % 2]) for n in range(4)]
    chosen = Examples(task(subject="subject", fewshot_config=Shots(sampler="first_n")), pool + asked)
    assert [shot.id for shot in chosen.choose(asked[1], 3)] == ["d1", "d3", "d5"]
    with pytest.raises(InputError, match="5 examples asked for, 4 items of the subject `b`"):
        chosen.choose(asked[1], 5)


scores = st.lists(st.integers(0, 4), min_size=3, max_size=3)


@given(st.lists(scores, min_size=2, max_size=4))
def test_win_rate_is_the_chance_to_beat_another_model(table: list[list[int]]) -> None:
    group = Group.model_validate({"group": "g", "task": ["x", "y", "z"], "aggregation": "mean_win_rate"})
    results = {
        f"m{number}": {name: TaskScore(value / 4, 0.25, 10) for name, value in zip("xyz", row, strict=True)}
        for number, row in enumerate(table)
    }
    found = aggregate(group, results)
    assert math.isclose(sum(found.values()), len(table) / 2)
    for model, value in found.items():
        wins = [
            1.0 if mine > its else 0.5 if mine == its else 0.0
            for other in results
            if other != model
            for mine, its in zip(table[int(model[1:])], table[int(other[1:])], strict=True)
        ]
        assert math.isclose(value, sum(wins) / len(wins))


def test_the_other_ways_to_one_number() -> None:
    results = {
        "m": {"x": TaskScore(0.2, 0.25, 10), "y": TaskScore(0.9, 0.5, 30)},
        "n": {"x": TaskScore(0.5, 0.25, 10)},
    }
    for how, value in {
        "size_weighted": (0.2 * 10 + 0.9 * 30) / 40,
        "mean": 0.55,
        "normalised": (0 + 0.8) / 2,
        "centred": (-0.05 / 0.75 + 0.8) / 2,
        "mean_win_rate": math.nan,
    }.items():
        found = aggregate(Group.model_validate({"group": "g", "task": ["x", "y"], "aggregation": how}), results)
        assert math.isclose(found["m"], value) or math.isnan(found["m"]) == math.isnan(value) is True
        assert math.isnan(found["n"])
    with pytest.raises(InputError, match="`g` has no tasks"):
        aggregate(Group.model_validate({"group": "g", "task": []}), results)


def test_groups_as_the_harness_writes_them() -> None:
    values = {
        "group": "g",
        "task": ["a", {"group": "inner", "task": ["b", {"task": "c", "num_fewshot": 2}]}],
        "aggregate_metric_list": [{"metric": "acc_norm", "weight_by_size": False}],
        "num_fewshot": 7,
    }
    group = Group.model_validate(values)
    assert (group.metric, group.aggregation) == ("acc_norm", "mean")
    assert [(one.task, one.over) for one in group.task] == [
        ("a", {"num_fewshot": 7}),
        ("b", {"num_fewshot": 7}),
        ("c", {"num_fewshot": 2}),
    ]
    assert Group.model_validate_json(group.model_dump_json()) == group


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def shared(one: list[str], other: list[str]) -> int:
    """Words that two lists begin with."""
    return next((n for n, pair in enumerate(zip_longest(one, other)) if pair[0] != pair[1]), len(one))


def test_pairs_differ_in_one_thing() -> None:
    made = list(documents())
    assert Counter(one["phenomenon"] for one in made) == {
        name: 60 for phenomena in PHENOMENA.values() for name in phenomena
    }
    assert len({one["id"] for one in made}) == len(made) and len(PHENOMENA["syntax"]) >= 8 <= len(PHENOMENA["sense"])
    for one in made:
        good, bad = words(one["sentence_good"]), words(one["sentence_bad"])
        assert one["choices"][one["answer"]] == one["sentence_good"] != one["sentence_bad"]
        assert one["sentence_good"][0].isupper() and one["sentence_good"].endswith(".")
        assert not re.search(r"[{}\[\];/]|  | \.", one["sentence_good"] + one["sentence_bad"])
        begin = shared(good, bad)
        end = shared(good[begin:][::-1], bad[begin:][::-1])
        changed = [text[begin : len(text) - end] for text in (good, bad)]
        assert sorted(good) == sorted(bad) or max(map(len, changed)) <= 4
    by = {one["phenomenon"]: one for one in made}
    assert sorted(words(by["who_does_what"]["sentence_good"])) == sorted(words(by["who_does_what"]["sentence_bad"]))
    assert any(one["sentence_bad"].endswith("the cheese ate the mouse.") for one in made)


def test_pairs_are_seeded_balanced_and_in_clusters() -> None:
    one, again, other = list(documents(1)), list(documents(1)), list(documents(2))
    assert one == again != other
    answers = Counter(pair["answer"] for pair in one)
    assert abs(answers[0] - len(one) / 2) < 4 * (len(one) / 4) ** 0.5
    for name in {pair["phenomenon"] for pair in one}:
        clusters = Counter(pair["cluster"] for pair in one if pair["phenomenon"] == name)
        assert len(clusters) >= 5 and max(clusters.values()) <= 20
    with pytest.raises(InputError, match="`what_fits_in_what` has 60 pairs"):
        list(documents(pairs=61))


def test_pairs_as_a_task() -> None:
    items = load(find_in_library("minimal_pairs"), "pairs")
    assert len(items) == 1080 and all(one.prompt == "" and len(one.choices) == 2 for one in items)
    assert all(one.question == one.target and one.cluster.startswith(one.subject) for one in items)
    assert len({one.cluster for one in items}) == 200
