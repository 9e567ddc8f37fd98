"""Sets with an order are told from sets without one."""

from itertools import pairwise

import numpy as np
import pytest

from stages.evaluation.exchangeability import arrangement, grouped
from stages.evaluation.ordering import ordering_test, shuffled_order

NOUNS = [
    a + b for a in ("vel", "mor", "tan", "bri", "sol", "ket", "dar", "lum") for b in ("ak", "en", "ith", "os", "ur")
]


def made(seed: int, count: int = 100) -> tuple[list[str], list[str], list[int]]:
    rng = np.random.default_rng(seed)
    texts = [" ".join(rng.choice(NOUNS, int(rng.integers(5, 20)))) for _ in range(count)]
    return texts, [f"subject {i}" for i in rng.integers(0, 5, count)], rng.integers(0, 4, count).tolist()


def test_a_random_order_is_left_alone() -> None:
    assert all(arrangement(*made(seed), seed) == (None, "") for seed in range(25))


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (lambda row: row[0], "sorted by text"),
        (lambda row: len(row[0]), "sorted by length"),
        (lambda row: -len(row[0]), "sorted by length"),
        (lambda row: row[2], "sorted by answer"),
    ],
)
def test_sorted_sets_are_named(key, reason: str) -> None:
    rows = sorted(zip(*made(1), strict=True), key=key)
    texts, subjects, answers = map(list, zip(*rows, strict=True))
    assert reason in arrangement(texts, subjects, answers, 0).reason


def test_a_file_grouped_by_subject_is_looked_at_within_subjects() -> None:
    rows = sorted(zip(*made(2), strict=True), key=lambda row: row[1])
    texts, subjects, answers = map(list, zip(*rows, strict=True))
    # Subjects have words of their own: without the groups neighbours would be alike.
    texts = [f"{text} {' '.join(subject.replace(' ', str(k)) for k in range(4))}" for text, subject in
             zip(texts, subjects, strict=True)]  # fmt: skip
    assert arrangement(texts, subjects, answers, 0) == (tuple(subjects), "")
    assert "neighbours" in arrangement(texts, ["one"] * 100, answers, 0).reason
    within = sorted(rows, key=lambda row: (row[1], row[0]))
    assert "sorted by text" in arrangement(*map(list, zip(*within, strict=True)), 0).reason


def test_questions_of_one_passage_side_by_side() -> None:
    rng = np.random.default_rng(3)
    passages = [" ".join(rng.choice(NOUNS, 12)) + f" p{i}" for i in range(20)]
    texts = [f"{passage} {' '.join(rng.choice(NOUNS, 4))}" for passage in passages for _ in range(5)]
    assert "neighbours" in arrangement(texts, [""] * 100, rng.integers(0, 4, 100).tolist(), 0).reason


def test_subjects_in_turn_or_at_random_are_no_groups() -> None:
    assert not grouped(["a", "b", "c"] * 20) and not grouped(["a"] * 20)
    assert grouped(["a"] * 20 + ["b"] * 20) and grouped(["a", "a", "b", "b", "c", "c"])


def test_with_blocks_examples_stay_in_their_group() -> None:
    rng, blocks = np.random.default_rng(0), [*"aaabbbbcc"]
    orders = [shuffled_order(rng, 9, blocks) for _ in range(200)]
    assert all([blocks[i] for i in order] == blocks and sorted(order) == list(range(9)) for order in orders)
    assert len({tuple(order) for order in orders}) > 100  # of 3! 4! 2! = 288
    seen: list[list[str]] = []
    examples = [f"{block}{i}" for i, block in enumerate(blocks)]
    ordering_test(lambda order: seen.append(list(order)) or 0.0, examples, 3, 5, 0, blocks=blocks)  # type: ignore[func-returns-value]
    assert all([example[0] for example in order] in (["a"] * 3, ["b"] * 3, ["b", "c", "c"]) for order in seen)


def test_a_grouped_file_that_a_reader_prefers_is_no_evidence_within_its_groups() -> None:
    """A model that likes a subject's questions together: fires on whole shards, not within subjects."""
    blocks = [f"s{i // 5}" for i in range(60)]
    examples = [f"{block}/{i}" for i, block in enumerate(blocks)]

    def likes_topics(order) -> float:
        return float(sum(a.split("/")[0] == b.split("/")[0] for a, b in pairwise(order)))

    assert ordering_test(likes_topics, examples, 6, 20, 0).p_value < 1e-4
    assert ordering_test(likes_topics, examples, 6, 20, 0, blocks=blocks).p_value == 1.0
