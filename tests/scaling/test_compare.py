"""Two recipes whose laws are known: shared exponents or not, the compute one saves, and where they cross."""

import numpy as np
import pytest

from stages.base.errors import InputError
from stages.scaling.laws.law import Law, Runs
from stages.scaling.study.recipes import compare

FIRST = Law(406.4, 410.7, 1.69, 0.34, 0.28)
SCALED = Law(406.4 * 1.3, 410.7 * 1.3, 1.69, 0.34, 0.28)
STEEPER = Law(250.0, 410.7, 1.69, 0.30, 0.28)


def runs(law: Law, noise: float = 0.0, seed: int = 0) -> Runs:
    n, d = (axis.ravel() for axis in np.meshgrid(np.geomspace(5e7, 1e10, 6), np.geomspace(1e9, 5e11, 6)))
    return Runs(
        n, d, np.asarray(law.predict(n, d)) * np.exp(noise * np.random.default_rng(seed).standard_normal(n.size))
    )


def needed(first: Law, second: Law, C: float) -> float:
    """The multiplier by bisection over the second law's own optima: no closed form."""
    goal = float(first.predict(*first.optimum(C)))
    low, high = C * 1e-6, C * 1e6
    for _ in range(200):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if float(second.predict(*second.optimum(middle))) > goal else (low, middle)
    return high / C


def test_the_frontier_is_a_power_law() -> None:
    k, gamma = FIRST.frontier
    for C in (1e18, 1e22, 1e26):
        assert float(FIRST.predict(*FIRST.optimum(C))) == pytest.approx(FIRST.E + k * C**-gamma, rel=1e-12)


def test_one_factor_where_exponents_are_shared() -> None:
    found = compare(runs(FIRST, 0.004, 1), runs(SCALED, 0.004, 2), resamples=200)
    assert not found.exponents_differ
    for C in (1e19, 1e23):
        value, low, high = found.chosen.multiplier(C)
        assert low < needed(FIRST, SCALED, C) < high
        assert value == pytest.approx(needed(FIRST, SCALED, C), rel=0.1)


def test_separate_exponents_are_noticed_and_the_crossing_found() -> None:
    found = compare(runs(FIRST, 0.003, 1), runs(STEEPER, 0.003, 2), resamples=300)
    assert found.exponents_differ
    assert found.separate.objective < found.shared.objective
    difference = found.separate.difference("alpha")
    assert difference.low < -0.04 < difference.high < 0
    for C in (1e20, 1e22):
        _, low, high = found.separate.multiplier(C)
        assert low < needed(FIRST, STEEPER, C) < high
    (k1, g1), (k2, g2) = FIRST.frontier, STEEPER.frontier
    crossing = found.separate.crossover()
    assert crossing.low < np.log10(k2 / k1) / (g2 - g1) < crossing.high
    assert needed(FIRST, STEEPER, 10 ** (np.log10(k2 / k1) / (g2 - g1))) == pytest.approx(1, rel=1e-6)


def test_without_noise_both_laws_are_exact() -> None:
    found = compare(runs(FIRST), runs(STEEPER), resamples=20)
    for fitted, law in ((found.separate.first, FIRST), (found.separate.second, STEEPER)):
        assert (fitted.alpha, fitted.beta, fitted.E) == pytest.approx((law.alpha, law.beta, law.E), rel=1e-6)
    assert found.separate.multiplier(1e21).value == pytest.approx(needed(FIRST, STEEPER, 1e21), rel=1e-6)


def test_says_which_recipe_is_too_small() -> None:
    few = Runs(*(column[:4] for column in runs(STEEPER)))
    with pytest.raises(InputError, match="recipe 2: 4 runs can't identify"):
        compare(runs(FIRST), few, resamples=10)
