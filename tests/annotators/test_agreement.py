"""Agreement against scikit-learn, statsmodels, published tables, and the theory of annotators that flip a coin."""

import math
from statistics import multimode

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import fleiss_kappa

from stages.annotators.agreement import (
    cohen_kappas,
    krippendorff_alpha,
    majority,
    matches,
    mean_kappa,
    nominal,
    percent_agreement,
    variance,
)

NAN = math.nan
# Krippendorff 2011, "Computing Krippendorff's alpha-reliability", sections A, B and C: observers are rows there.
BINARY = [[0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]]
NOMINAL = [[1, 1, 2, 2, 4, 3, 3, 3, 5, 4, 4, 1], [2, 1, 2, 2, 2, 3, 3, 3, 5, 4, 4, 4]]
MISSING = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
    [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
]


@pytest.mark.parametrize(("table", "published"), [(BINARY, 0.095), (NOMINAL, 0.692), (MISSING, 0.743)])
def test_alpha_of_published_tables(table: list[list[float]], published: float) -> None:
    assert krippendorff_alpha(np.array(table, dtype=float).T).value == pytest.approx(published, abs=5e-4)


def literal_alpha(votes: np.ndarray) -> float:
    """Through the coincidences of every couple of votes, one by one, as Krippendorff defines them."""
    units = [[value for value in row if not math.isnan(value)] for row in votes.tolist()]
    units = [unit for unit in units if len(unit) > 1]
    values = [value for unit in units for value in unit]
    if not units or len(set(values)) == 1:
        return NAN
    observed = sum(
        (a != b) / (len(unit) - 1) for unit in units for i, a in enumerate(unit) for j, b in enumerate(unit) if i != j
    ) / len(values)
    total = len(values)
    expected = sum(a != b for i, a in enumerate(values) for j, b in enumerate(values) if i != j) / total / (total - 1)
    return 1 - observed / expected


tables = st.lists(st.lists(st.sampled_from([1.0, 1.5, 2.0, NAN]), min_size=4, max_size=4), min_size=1, max_size=8)


@given(tables)
def test_alpha_is_its_definition(rows: list[list[float]]) -> None:
    votes = np.array(rows)
    assert krippendorff_alpha(votes).value == pytest.approx(literal_alpha(votes), nan_ok=True)


@given(tables)
def test_kappa_is_that_of_scikit_learn(rows: list[list[float]]) -> None:
    votes = np.array(rows)
    kappas, shared = cohen_kappas(votes)
    for a in range(4):
        for b in range(4):
            both = ~np.isnan(votes[:, a]) & ~np.isnan(votes[:, b])
            assert shared[a, b] == both.sum()
            said = votes[both][:, [a, b]].astype(str)
            one = len(set(said.ravel())) < 2
            expected = NAN if a == b or one else cohen_kappa_score(said[:, 0], said[:, 1])
            assert kappas[a, b] == pytest.approx(expected, nan_ok=True)


def test_where_all_have_voted_alpha_is_fleiss_and_agreement_too() -> None:
    votes = np.random.default_rng(3).choice([1.0, 1.5, 2.0], size=(50, 5), p=[0.3, 0.1, 0.6])
    counts = np.stack([(votes == value).sum(axis=1) for value in (1.0, 1.5, 2.0)], axis=1)
    # Krippendorff's alpha corrects Fleiss' kappa for few votes: 1 − α = (1 − κ)(1 − 1 / number of votes)
    assert 1 - krippendorff_alpha(votes).value == pytest.approx((1 - fleiss_kappa(counts)) * (1 - 1 / votes.size))
    same = [(votes[:, a] == votes[:, b]).mean() for a in range(5) for b in range(a)]
    assert percent_agreement(votes) == pytest.approx(np.mean(same))


def test_votes_that_say_nothing() -> None:
    for votes in (np.full((3, 2), NAN), np.array([[1.0, NAN], [NAN, 2.0]]), np.ones((4, 3))):
        assert math.isnan(krippendorff_alpha(votes).value) and math.isnan(mean_kappa(votes))
    assert math.isnan(percent_agreement(np.array([[1.0, NAN]]))) and math.isnan(variance(np.array([[1.0, NAN]])))
    one = krippendorff_alpha(np.array([[1.0, 2.0]]))
    assert one.value == pytest.approx(0) and math.isnan(one.low)  # one pair: nothing to draw from


def test_what_the_others_say() -> None:
    votes = np.array([[1.0, 1, 2], [2, 2, 2], [1, NAN, 2], [2, 1, 1.5]])
    assert np.array_equal(majority(votes), [1, 2, NAN, NAN], equal_nan=True)
    # Others of each vote, by row: (-, -, 1), (2, 2, 2), (2, ., 1), (1, 2, -); "-" where they are even: half.
    assert variance(votes) == pytest.approx((0.5 + 0.5 + 1 + 0 + 2 + 2) / 11)
    assert variance(np.array([[1.5, 1, 1]])) == pytest.approx((0.5 + 0 + 0) / 3)  # a tie where others name a side
    assert variance(np.array([[1.5, 1.5]])) == 0
    assert matches(votes[:, 0], majority(votes)) == 1
    assert np.array_equal(nominal(np.array([1.2, 1.5, 1.51, NAN])), [1, 1.5, 2, NAN], equal_nan=True)


def test_variance_is_that_of_ties_broken_at_random() -> None:
    """AlpacaFarm takes the mode of the others; where those are even, a coin names it."""
    rng = np.random.default_rng(5)
    votes = rng.choice([1.0, 2.0, NAN], size=(300, 5), p=[0.4, 0.3, 0.3])
    errors = []
    for pair in votes:
        said = pair[~np.isnan(pair)].tolist()
        for k, own in enumerate(said):
            others = said[:k] + said[k + 1 :]
            modes = multimode(others)
            errors += [float(own != rng.choice(modes)) for _ in range(200)] if others else []
    assert variance(votes) == pytest.approx(np.mean(errors), abs=0.005)


@pytest.mark.parametrize("p", [0.1, 0.25, 0.4])
def test_annotators_that_flip_agree_as_theory_says(p: float) -> None:
    """Two of them: (1 − p)² + p². With both answers equally often better, κ and α are (1 − 2p)²."""
    rng = np.random.default_rng(7)
    truth = rng.integers(1, 3, 4_000)
    votes = np.where(rng.random((4_000, 2)) < p, 3 - truth[:, None], truth[:, None]).astype(float)
    assert percent_agreement(votes) == pytest.approx((1 - p) ** 2 + p**2, abs=0.03)
    assert mean_kappa(votes) == pytest.approx((1 - 2 * p) ** 2, abs=0.05)
    alpha = krippendorff_alpha(votes)
    assert alpha.low < (1 - 2 * p) ** 2 < alpha.high
    assert variance(votes) == pytest.approx(2 * p * (1 - p), abs=0.03)


def test_the_interval_covers_and_knows_groups() -> None:
    """Of 100 samples of 80 prompts with 4 pairs, where some prompts are hard: near 95 % by prompts, fewer where
    pairs are taken for independent."""
    rng = np.random.default_rng(1)
    flips = np.array([0.02, 0.45])  # an easy prompt, a hard one
    agree = (1 - 2 * flips) ** 2
    truth_alpha, prompts = agree.mean(), np.repeat(np.arange(80), 4)
    covered = {"prompts": 0, "pairs": 0}
    for k in range(100):
        hard = rng.integers(0, 2, 80)[prompts]
        truth = rng.integers(1, 3, 320)
        votes = np.where(rng.random((320, 3)) < flips[hard][:, None], 3 - truth[:, None], truth[:, None]).astype(float)
        for name, groups in (("prompts", prompts.tolist()), ("pairs", None)):
            _, low, high = krippendorff_alpha(votes, groups, seed=k)
            covered[name] += low < truth_alpha < high
    assert 88 <= covered["prompts"] <= 99 and covered["pairs"] < covered["prompts"]
