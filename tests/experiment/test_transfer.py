"""Decision accuracy and signal-to-noise against scipy and simulations."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from stages.base.errors import InputError
from stages.experiment.transfer import decision_accuracy, signal_to_noise, transfer


@given(st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9)), min_size=2, max_size=9, unique=True))
@settings(deadline=None)
def test_accuracy_is_kendalls_tau_on_another_scale(pairs: list[tuple[float, float]]) -> None:
    small, large = np.round(np.array(pairs).T, 1)
    names = [f"a{i}" for i in range(len(pairs))]
    found = decision_accuracy(dict(zip(names, small, strict=True)), dict(zip(names, large, strict=True)))
    assert found.pairs == len(pairs) * (len(pairs) - 1) / 2
    if len(set(small)) == len(small) and len(set(large)) == len(large):
        assert found.share == pytest.approx((1 + stats.kendalltau(small, large).statistic) / 2)
    negated = decision_accuracy(dict(zip(names, -small, strict=True)), dict(zip(names, large, strict=True)))
    assert negated.share == pytest.approx(1 - found.share)


def test_reverse_and_what_is_missing() -> None:
    loss, rate = {"a": 1.0, "b": 2.0, "c": 3.0}, {"a": 90.0, "b": 50.0, "c": 60.0, "d": 1.0}
    assert decision_accuracy(loss, rate, reverse=True)[:3] == (2 / 3, 2, 3)
    with pytest.raises(InputError, match="two arms"):
        decision_accuracy(loss, {"a": 1.0})


def test_interval_is_as_wide_as_arms_vary() -> None:
    """Of arms drawn at random, the interval of the share holds the share among all arms in about 95 %."""
    rng = np.random.default_rng(0)
    truth, inside = stats.multivariate_normal([0, 0], [[1, 0.7], [0.7, 1]]), 0
    expected = 0.5 + np.arcsin(0.7) / np.pi
    for _ in range(300):
        drawn = truth.rvs(25, random_state=rng)
        small, large = ({str(i): v for i, v in enumerate(column)} for column in drawn.T)
        found = decision_accuracy(small, large)
        inside += found.low <= expected <= found.high
    assert 0.9 <= inside / 300 <= 0.99


def test_ranking_by_size_and_by_law_side_by_side() -> None:
    compute = [1e12, 1e13, 1e14, 1e15]
    # The flat law is ahead at the small sizes and behind at the large one: only a law sees it coming.
    laws = {"flat": (2.0, 0.05), "steep": (2.4, 0.12), "bad": (3.0, 0.08)}
    sizes = {arm: {c: [k * (c / 1e12) ** -g] * 2 for c in compute} for arm, (k, g) in laws.items()}
    rows = transfer(sizes)
    assert [row.compute for row in rows] == compute[:-1]
    assert rows[0].by_law is None and rows[0].by_size.share == pytest.approx(2 / 3)
    assert rows[1].by_law is not None and rows[1].by_law.share == 1
    rising = {**sizes, "bad": {c: [c] for c in compute}}
    assert transfer(rising)[2].by_law is None
    with pytest.raises(InputError, match="two sizes"):
        transfer({"a": {1.0: [1.0]}, "b": {1.0: [1.0]}})


def test_signal_to_noise_finds_what_was_planted() -> None:
    rng = np.random.default_rng(1)
    arms = {str(i): centre + 0.5 * rng.normal(size=20) for i, centre in enumerate(2 * rng.normal(size=300))}
    late = [0.3 * rng.normal(size=5) for _ in range(200)]
    found = signal_to_noise(arms, late)
    assert found[:3] == pytest.approx((2, 0.5, 0.3), rel=0.1) and found.ratio == pytest.approx(4, rel=0.1)
    same = signal_to_noise({"a": [1.0, 1.0], "b": [1.0, 1.0]})
    assert same.ratio == 0 and signal_to_noise({"a": [1.0, 1.0], "b": [2.0, 2.0]}).ratio == np.inf
    for wrong in ({"a": [1.0, 2.0]}, {"a": [1.0], "b": [2.0]}):
        with pytest.raises(InputError, match="signal-to-noise needs"):
            signal_to_noise(wrong)


def test_accuracy_counts_pairs() -> None:
    rng = np.random.default_rng(2)
    small, large = ({name: rng.normal() for name in "abcdefg"} for _ in range(2))
    right = sum((small[a] > small[b]) == (large[a] > large[b]) for a, b in combinations("abcdefg", 2))
    assert decision_accuracy(small, large).right == right
