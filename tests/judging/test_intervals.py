"""Intervals of rates: exact where that is known, and cover what they should."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta

from bench.judging.intervals import coverage, simulated
from stages.judging.statistics.intervals import exact_deviance, mean_bounds, rate_bounds
from stages.judging.statistics.prediction_powered import FEWEST, corrected


@pytest.mark.parametrize(("wins", "n"), [(0, 20), (1, 20), (10, 20), (20, 20), (3, 800), (799, 800)])
def test_of_wins_and_losses_they_are_clopper_and_pearsons(wins: int, n: int) -> None:
    low = 0.0 if wins == 0 else beta.ppf(0.025, wins, n - wins + 1)
    high = 1.0 if wins == n else beta.ppf(0.975, wins + 1, n - wins)
    assert mean_bounds([1.0] * wins + [0.0] * (n - wins)) == pytest.approx((low, high), abs=2e-3)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.integers(0, 99))
def test_of_soft_preferences_they_are_gaffkes_by_simulation(values: list[float], seed: int) -> None:
    weights = np.random.default_rng(seed).dirichlet(np.ones(len(values) + 1), 20_000)
    low = np.quantile(weights @ [*values, 0.0], 0.025)
    high = np.quantile(weights @ [*values, 1.0], 0.975)
    got = mean_bounds(values)
    assert got == pytest.approx((low, high), abs=0.02)
    assert 0 <= got.low < got.high <= 1 and got.low <= np.mean(values) <= got.high


def test_a_deviance_is_the_likelihood_ratio_at_the_exact_bounds() -> None:
    def loss(share: float) -> float:
        return -(30 * np.log(share) + 10 * np.log1p(-share))

    low, high = mean_bounds([1.0] * 30 + [0.0] * 10)
    expected = [2 * (loss(end) - loss(0.75)) for end in (low, high)]
    assert exact_deviance(30, 40) == pytest.approx(expected, rel=1e-3)
    # Half the variance is twice the comparisons, by a likelihood that counts each of them half.
    assert exact_deviance(30, 40, spread=0.5) == pytest.approx([d / 2 for d in exact_deviance(60, 80)])
    assert exact_deviance(0, 20)[0] == np.inf and exact_deviance(0, 20)[1] == pytest.approx(-2 * np.log(0.025))


def test_intervals_cover_at_every_size() -> None:
    """`bench/judging/intervals.py` with fewer models, whose bars are wider by what chance leaves them."""
    found = simulated(480, (20, 50, 200), seed=1)
    for kind, by_size in coverage(found).items():
        assert min(by_size.values()) > 89 and np.mean(list(by_size.values())) > 93, (kind, by_size)
    rates = [one for one in found if "Terry" not in one.kind]
    assert all(0 <= one.low < one.high <= 100 for one in rates)


def test_a_corrected_rate_is_free_of_the_judges_bias_and_its_interval_covers() -> None:
    generator, truth, hits, naive = np.random.default_rng(0), 0.4, [], []
    for _ in range(200):
        y = (generator.random(400) < truth).astype(float)
        judged = np.where(generator.random(400) < 0.3, 1.0, y)  # three in ten go to the model whatever it says
        known = np.where(np.arange(400) < 100, y, np.nan)
        got = corrected(judged, known)
        assert got is not None and got.n == 100 and 0 < got.power < 1
        hits.append(got.low <= 100 * truth <= got.high)
        low, high = rate_bounds(judged)
        naive.append(low <= 100 * truth <= high)
        alone = mean_bounds(y[:100])
        assert got.high - got.low < 100 * (alone.high - alone.low) * 1.02  # the judge helps
    assert 0.93 <= np.mean(hits) <= 0.99 and np.mean(naive) < 0.01


def test_a_judge_that_says_nothing_is_not_listened_to() -> None:
    generator = np.random.default_rng(0)
    y = (generator.random(300) < 0.5).astype(float)
    known = np.where(np.arange(300) < 60, y, np.nan)
    got = corrected(np.full(300, 0.9), known)
    assert got is not None and got.power == 0 and got.rate == pytest.approx(100 * y[:60].mean())
    every = corrected(generator.random(300), y)
    assert every is not None and (every.low, every.high) == pytest.approx(rate_bounds(y))
    assert corrected(y, np.where(np.arange(300) < FEWEST - 1, y, np.nan)) is None
