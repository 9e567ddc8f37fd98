"""IsoFLOP minima: the known exponent of a known surface, and a stated reason for every refused budget."""

import numpy as np
import pytest

from stages.base.errors import InputError
from stages.scaling.laws.isoflop import fit_isoflop, isoflop_exponents
from stages.scaling.laws.law import Law

LAW = Law(A=406.4, B=410.7, E=1.69, alpha=0.34, beta=0.28)


def table(budgets: np.ndarray, around: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sizes at these multiples of each budget's optimum."""
    c = np.repeat(budgets, around.size)
    n = np.concatenate([LAW.optimum(budget).N * around for budget in budgets])
    return c, n, np.asarray(LAW.predict(n, c / 6 / n))


@pytest.mark.parametrize("method", ["parabola", "akima"])
def test_exponent_of_a_known_surface(method) -> None:
    c, n, loss = table(np.geomspace(1e19, 1e22, 7), np.geomspace(0.25, 4, 9))
    fit = fit_isoflop(c, n, loss, method=method)
    assert fit.a == pytest.approx(LAW.a, abs=2e-3)
    assert fit.a + fit.b == pytest.approx(1)
    assert [minimum.reason for minimum in fit.minima] == [""] * 7
    assert fit.optimum(1e23)[0] == pytest.approx(LAW.optimum(1e23).N, rel=0.05)


def test_every_refusal_has_its_reason() -> None:
    good = table(np.array([1e19, 1e20]), np.geomspace(0.25, 4, 7))
    edge = table(np.array([1e21]), np.geomspace(4, 16, 5))
    few = table(np.array([1e22]), np.array([0.5, 2.0]))
    hill = (np.full(3, 1e23), np.array([1e9, 2e9, 4e9]), np.array([2.0, 2.2, 2.0]))
    fit = fit_isoflop(*(np.concatenate(parts) for parts in zip(good, edge, few, hill, strict=True)))
    assert [bool(minimum.reason) for minimum in fit.minima] == [False, False, True, True, True]
    assert "smaller sizes" in fit.minima[2].reason
    assert "too few points: 2" in fit.minima[3].reason
    assert "opens downwards" in fit.minima[4].reason
    assert all(np.isnan(minimum.N) for minimum in fit.minima[2:])
    assert fit.a == pytest.approx(LAW.a, abs=0.01)


def test_one_point_a_budget_gives_no_exponent_and_says_so() -> None:
    """The degenerate ray: N and D grow together, so no budget has a valley."""
    n = np.geomspace(1e8, 1e10, 5)
    fit = fit_isoflop(6 * n * 20 * n, n, LAW.predict(n, 20 * n))
    assert np.isnan(fit.a) and fit.reason == "0 of 5 budgets have a minimum; a slope needs 2"
    assert all("too few points" in minimum.reason for minimum in fit.minima)


def test_repeated_runs_of_one_size_are_averaged() -> None:
    c, n, loss = table(np.array([1e19, 1e20]), np.geomspace(0.25, 4, 7))
    once = fit_isoflop(c, n, loss, method="akima")
    twice = fit_isoflop(np.tile(c, 2), np.tile(n, 2), np.concatenate([loss * 1.01, loss * 0.99]), method="akima")
    assert twice.a == pytest.approx(once.a)


def test_refuses_bad_values() -> None:
    with pytest.raises(InputError, match=r"column `C` must be finite and positive; bad rows: 1 \(0\)"):
        fit_isoflop([1e19, 0, 1e19], [1, 2, 3], [3.0, 2.9, 3.0])


@pytest.mark.parametrize("method", ["parabola", "akima"])
def test_an_exponents_interval_is_of_the_budgets_it_stands_on(method) -> None:
    """A budget without a minimum inside takes no part: neither when noise gives it one, nor by its residuals."""
    good = table(np.geomspace(1e19, 1e22, 4), np.geomspace(0.25, 4, 9))
    edge = table(np.array([1e24]), np.geomspace(4, 16, 9))
    noise = np.random.default_rng(0).normal(0, 0.004, good[0].size)
    good = (good[0], good[1], good[2] + noise)
    wild = (edge[0], edge[1], edge[2] + np.array([0, 1, -1, 1, -1, 1, -1, 1, 0]) * 0.01)
    fit = fit_isoflop(*(np.concatenate(parts) for parts in zip(good, wild, strict=True)), method=method)
    assert fit.minima[-1].reason
    both = [
        isoflop_exponents(*columns, method=method, resamples=60, seed=3)
        for columns in (good, [np.concatenate(parts) for parts in zip(good, wild, strict=True)])
    ]
    assert np.array_equal(*both)
    low, high = np.quantile(both[1], [0.05, 0.95])
    assert low < fit.a < high
