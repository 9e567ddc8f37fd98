"""The plan of what is read once: every sequence is there, every score is asked for once, in any order of the pairs."""

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.lm import prefixes
from stages.lm.prefixes import Pairs, Plan
from stages.lm.tree_reader import _by_length

IDS = st.lists(st.integers(0, 2), min_size=1, max_size=14)


def arrays(pairs: list[tuple[list[int], list[int]]]) -> Pairs:
    return [(np.array(context, np.int32), np.array(continuation, np.int32)) for context, continuation in pairs]


@pytest.fixture(autouse=True)
def small_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TREE": 9, "CHAIN": 12, "PACK": 16, "EDGE": 3, "PART": 20}.items():
        monkeypatch.setattr(prefixes, name, value)


def contexts_asked(plan: Plan) -> dict[int, tuple[tuple[int, ...], int]]:
    """slot → (all tokens that stand before its target, the target), read off the steps token by token."""
    found = {}
    for part in plan.parts:
        for step in part:
            before = [token for trunk in step.path for token in plan.trunk(trunk).tolist()]
            reading = plan.reading(step)
            assert len(reading.tokens) == step.tokens
            for row, target, slot in zip(reading.rows, reading.targets, reading.slots, strict=True):
                node = int(reading.nodes[row])
                tree = max(start for start in reading.starts if start <= node)
                line = [n for n in range(tree, node + 1) if node < reading.ends[n]]
                assert reading.positions[line].tolist() == list(range(len(before), len(before) + len(line)))
                assert slot not in found
                found[int(slot)] = (*before, *reading.tokens[line].tolist()), int(target)
    return found


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(IDS, IDS), min_size=1, max_size=12))
def test_each_score_is_asked_for_once_behind_its_own_tokens(given_pairs: list[tuple[list[int], list[int]]]) -> None:
    plan = Plan(arrays(given_pairs))
    wanted = {}
    for index, (context, continuation) in enumerate(given_pairs):
        for place, target in enumerate(continuation):
            wanted[int(plan.offsets[index]) + place] = (*context, *continuation[:place]), target
    assert contexts_asked(plan) == wanted


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(IDS, IDS), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_the_order_of_pairs_makes_no_other_steps(given_pairs: list[tuple[list[int], list[int]]], order: Random) -> None:
    def tokens(plan: Plan) -> list[list[int]]:
        return [plan.reading(step).tokens.tolist() for step in plan.steps]

    shuffled = order.sample(given_pairs, len(given_pairs))
    assert tokens(Plan(arrays(shuffled))) == tokens(Plan(arrays(given_pairs)))


def test_what_many_begin_with_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    rng = np.random.default_rng(0)

    def some(count: int) -> list[int]:
        return rng.integers(3, 1000, count).tolist()

    subjects = [[1, 2, *some(600)] for _ in range(3)]
    pairs = [
        ([*subject, *question], [letter])
        for subject in subjects
        for question in (some(40) for _ in range(30))
        for letter in range(4)
    ]
    rng.shuffle(pairs)
    plan = Plan(arrays(pairs))
    read = sum(step.tokens for step in plan.steps)
    assert read <= 3 * (602 + 30 * 40) * 1.01, "examples once a subject, questions once, letters never"
    trunks = [step for step in plan.steps if step.trunk]
    assert [step.tokens for step in trunks] == [602] * 3


def test_packs_are_even_and_padding_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trees that attend together are of about one length: at most a tenth of their rows is padding."""
    monkeypatch.undo()
    rng = np.random.default_rng(1)
    sizes = rng.integers(60, 130, 400)
    plan = Plan(arrays([(rng.integers(3, 9000, size).tolist(), [1]) for size in sizes]))
    real = padded = 0
    for step in plan.steps:
        for _, members in _by_length(plan.reading(step)):
            lengths = [end - start for start, end in members]
            real, padded = real + sum(lengths), padded + len(lengths) * max(lengths)
    assert 0.99 * sizes.sum() <= real and padded <= 1.1 * real
    assert max(step.tokens for step in plan.steps) <= 1.5 * prefixes.PACK
