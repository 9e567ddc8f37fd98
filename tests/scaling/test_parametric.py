"""The parametric fit on surfaces whose truth is known, and on input it must refuse."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.base.errors import InputError
from stages.scaling.laws import parametric
from stages.scaling.laws.law import Law, Runs
from stages.scaling.laws.parametric import Bootstrap, Options, Prior, bootstrap, fit_law, fit_parametric, posterior
from stages.scaling.laws.solver import Problem, projected_starts

TRUTH = Law(A=406.4, B=410.7, E=1.69, alpha=0.34, beta=0.28)


def grid(law: Law, sizes: int = 6, ratios: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n, d = (axis.ravel() for axis in np.meshgrid(np.geomspace(5e7, 1e10, sizes), np.geomspace(1e9, 5e11, ratios)))
    return n, d, np.asarray(law.predict(n, d))


@settings(max_examples=15, deadline=None)
@given(
    alpha=st.floats(0.2, 0.6), beta=st.floats(0.2, 0.6), share_n=st.floats(0.1, 0.6), share_d=st.floats(0.1, 0.6),
    E=st.floats(0.5, 3.0),
)  # fmt: skip
def test_recovers_a_noiseless_surface(alpha: float, beta: float, share_n: float, share_d: float, E: float) -> None:
    """`share_*`: each term at the middle of the grid, in units of E."""
    law = Law(share_n * E * 7e8**alpha, share_d * E * 2.2e10**beta, E, alpha, beta)
    fit = fit_parametric(*grid(law))
    assert fit.predict(1e11, 1e13) == pytest.approx(law.predict(1e11, 1e13), rel=1e-6)
    assert (fit.E, fit.alpha, fit.beta) == pytest.approx((E, alpha, beta), rel=1e-6)
    assert pytest.approx((law.A, law.B), rel=1e-4) == (fit.A, fit.B)  # e^(ln N) amplifies an exponent's last digits


@pytest.mark.parametrize("options", [{"residual": "linear"}, {"estimator": "lad"}])
def test_other_objectives_agree_without_noise(options: dict) -> None:
    fit = fit_parametric(*grid(TRUTH), **options)
    assert (fit.E, fit.alpha, fit.beta) == pytest.approx((TRUTH.E, TRUTH.alpha, TRUTH.beta), rel=1e-5)


def test_least_absolute_deviations_ignore_gross_outliers() -> None:
    n, d, loss = grid(TRUTH)
    loss[[3, 17]] *= 1.4
    fit = fit_parametric(n, d, loss, estimator="lad")
    assert (fit.alpha, fit.beta) == pytest.approx((TRUTH.alpha, TRUTH.beta), rel=1e-3)


def test_optimum_lies_on_the_budget_and_beats_its_neighbours() -> None:
    n, d = TRUTH.optimum(1e22)
    assert 6 * n * d == pytest.approx(1e22)
    for factor in (0.8, 0.99, 1.01, 1.25):
        assert TRUTH.predict(n * factor, d / factor) > TRUTH.predict(n, d)


def test_intervals_cover_the_truth() -> None:
    """95 % percentile intervals of β under 1 % log-normal noise; 40 draws, so a loose bound (binomial, 1 in 1,000)."""
    n, d, clean = grid(TRUTH)
    hits = 0
    for seed in range(40):
        noisy = clean * np.exp(0.01 * np.random.default_rng(seed).standard_normal(clean.size))
        low, high = bootstrap(n, d, noisy, resamples=200, seed=seed, huber_delta=0.02).interval(0.95)["beta"]
        hits += low <= TRUTH.beta <= high
    assert hits >= 32


def test_bootstrap_is_a_pure_function_of_its_seed() -> None:
    n, d, loss = grid(TRUTH)
    loss = loss * np.exp(0.01 * np.sin(np.arange(loss.size) * 7.0))
    first, again = (bootstrap(n, d, loss, resamples=50, seed=3).draws for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, bootstrap(n, d, loss, resamples=50, seed=4).draws)


def test_a_prior_identifies_what_few_runs_cannot() -> None:
    """Six noisy runs: the exponents stay near what is known of them, and the interval covers an extrapolation."""
    prior = Prior((0.35, 0.1), (0.35, 0.1), (0.4, 0.5), 0.01)
    rng = np.random.default_rng(0)
    truth = Law(60.0, 2000.0, 1.5, 0.33, 0.5)
    n = np.array([1.5e5, 1.5e5, 3e5, 3e5, 5e5, 1e6])
    d = np.array([1.2e5, 4e5, 2.5e5, 8e5, 4e5, 2e5])
    covered = 0
    for _ in range(10):
        loss = np.asarray(truth.predict(n, d)) * np.exp(0.01 * rng.standard_normal(6))
        fit = fit_parametric(n, d, loss, huber_delta=0.05, prior=prior)
        assert 0.1 < fit.alpha < 0.7 and 0.1 < fit.beta < 0.9 and fit.E > 0.2
        draws = posterior(Runs(n, d, loss), fit, prior, resamples=200, seed=1)
        low, high = np.quantile(draws.predict(1.2e6, 2.4e6), [0.05, 0.95])
        covered += low <= truth.predict(1.2e6, 2.4e6) <= high
    assert covered >= 7


@pytest.mark.parametrize(
    ("loss", "along"),
    [
        (lambda n, d: 10 - TRUTH.predict(n, d), "[ND]"),
        (lambda n, d: 2 + 300 * d**-0.3 + 0.001 * n**0.1, "N"),
        (lambda n, d: 2 + 300 * n**-0.3 + 0.001 * d**0.1, "D"),
    ],
)
def test_a_loss_that_rises_makes_no_law(loss: Callable, along: str, recwarn: pytest.WarningsRecorder) -> None:
    n, d, _ = grid(TRUTH)
    noise = np.exp(0.005 * np.random.default_rng(0).standard_normal(n.size))
    with pytest.raises(InputError, match=f"the loss doesn't fall with {along}, so there"):
        fit_law(Runs(n, d, loss(n, d) * noise), Options(draws=50))
    assert not recwarn.list


def test_starts_of_large_tables_are_sought_on_some_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def spy(problem: Problem, *rest: Any) -> np.ndarray:
        seen.append(problem.z.size)
        return projected_starts(problem, *rest)

    monkeypatch.setattr(parametric, "projected_starts", spy)
    n, d, loss = grid(TRUTH, 60, 50)
    fit = fit_parametric(n, d, loss)
    assert seen == [2_000] and fit.n == 3_000
    assert (fit.E, fit.alpha, fit.beta) == pytest.approx((TRUTH.E, TRUTH.alpha, TRUTH.beta), rel=1e-6)


def test_draws_without_an_optimum_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    n, d, loss = grid(TRUTH)
    honest = bootstrap(n, d, loss, resamples=50)

    def some_rise(share: float) -> Bootstrap:
        draws = honest.draws.copy()
        draws[: round(share * len(draws)), 3] = -0.1
        return replace(honest, draws=draws)

    monkeypatch.setattr(parametric, "bootstrap", lambda *runs, **options: some_rise(0.2))
    assert len(fit_law(Runs(n, d, loss), Options(draws=50)).draws.draws) == 40
    monkeypatch.setattr(parametric, "bootstrap", lambda *runs, **options: some_rise(0.6))
    with pytest.raises(InputError, match="30 of 50 laws drawn from these runs don't fall"):
        fit_law(Runs(n, d, loss), Options(draws=50))


def test_flops_of_integer_columns_do_not_overflow() -> None:
    n, d, loss = grid(TRUTH)
    whole = fit_parametric(n.astype(np.int64), d.astype(np.int64), loss)
    assert pytest.approx(TRUTH.optimum(1e24).N, rel=1e-3) == whole.optimum(10**24).N


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda n, d, loss: (n, d, np.where(np.arange(loss.size) == 4, np.nan, loss)), "column `loss`.* rows: 4 "),
        (lambda n, d, loss: (-n, d, loss), "column `N` must be finite and positive"),
        (lambda n, d, loss: (n, d[:-1], loss), "differ in length"),
        (lambda n, d, loss: (n[:4], d[:4], loss[:4]), "can't identify 5 parameters"),
        (lambda n, d, loss: (np.full_like(n, 1e8), d, loss), "distinct N"),
        (lambda n, d, loss: (n, 20 * n, loss), "N and D move together"),
        (lambda n, d, loss: (n, d, np.full_like(loss, 3.0)), "the loss doesn't fall with"),
        (lambda n, d, loss: (["many"] * n.size, d, loss), "`N` is not numeric"),
    ],
)
def test_refuses_bad_runs(change, said: str) -> None:
    with pytest.raises(InputError, match=said):
        fit_parametric(*change(*grid(TRUTH)))


def test_few_runs_without_a_clear_fall_still_make_a_law_with_a_prior() -> None:
    """A toy ladder's points scatter more than they fall; its law then says what the prior says."""
    n, d = np.array([1e5, 1e5, 2e5, 2e5, 3e5]), np.array([1e6, 2e6, 1e6, 2e6, 3e6])
    runs = Runs(n, d, np.array([5.0, 5.01, 5.02, 4.99, 5.0]))
    law = fit_law(runs, Options(draws=50))
    assert law.prior is not None and law.fit.alpha > 0 and law.fit.beta > 0
    with pytest.raises(InputError, match="doesn't fall"):
        fit_law(Runs(*(np.tile(column, 6) for column in runs)), Options(draws=50))
