"""Estimates, tests and adjustments against scipy, statsmodels and simulations."""

import math

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestIndPower, TTestPower
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW, ttost_paired

from stages.base.contracts.claim import Comparison
from stages.base.crossed import contrast, holm, slope_weights
from stages.experiment import power
from stages.experiment.statistics.scaling_law import (
    compare,
    compare_points,
    crossover,
    fit_laws,
    frontier,
    log_multiplier,
    slope_gap,
)
from stages.experiment.statistics.sequential import bounds, spent

EXACT = {"rel": 1e-9, "abs": 1e-12}
RNG = np.random.default_rng


def column(values: list[float]) -> np.ndarray:
    return np.array(values)[:, None]


def test_one_number_a_run_is_the_paired_t_test() -> None:
    a, b = RNG(1).normal(size=(2, 7))
    ours = contrast([column(a), column(b)], [1, -1])
    theirs = stats.ttest_rel(a, b)
    assert ours.p_two_sided() == pytest.approx(theirs.pvalue, **EXACT)
    assert ours.p_above() == pytest.approx(stats.ttest_rel(a, b, alternative="greater").pvalue, **EXACT)
    assert ours.interval(0.9) == pytest.approx(tuple(theirs.confidence_interval(0.9)), **EXACT)
    assert ours.df == 6


def test_independent_seeds_are_welchs_test() -> None:
    a, b = RNG(2).normal(size=5), RNG(3).normal(1, 3, size=9)
    ours = contrast([column(a), column(b)], [1, -1], pair_seeds=False)
    theirs = stats.ttest_ind(a, b, equal_var=False)
    assert ours.p_two_sided() == pytest.approx(theirs.pvalue, **EXACT)
    assert ours.df == pytest.approx(theirs.df, **EXACT)
    assert ours.interval(0.95) == pytest.approx(tuple(theirs.confidence_interval(0.95)), **EXACT)


def test_equivalence_is_two_one_sided_tests() -> None:
    a, b = RNG(4).normal(size=(2, 12))
    assert contrast([column(a), column(b)], [1, -1]).p_equivalent(0.8) == pytest.approx(
        ttost_paired(a, b, -0.8, 0.8)[0], **EXACT
    )
    theirs = CompareMeans(DescrStatsW(a), DescrStatsW(b)).ttost_ind(-0.8, 0.8, usevar="unequal")[0]
    ours = contrast([column(a), column(b)], [1, -1], pair_seeds=False)
    assert ours.p_equivalent(0.8) == pytest.approx(theirs, **EXACT)


def test_items_alone_are_miller_and_a_cluster_robust_regression() -> None:
    """SE_cl² = SE² + n⁻² Σ_c Σ_{i≠j} (s_i − s̄)(s_j − s̄) of Miller 2024, times G / (G − 1)."""
    rng = RNG(5)
    clusters = np.sort(rng.integers(0, 9, size=60))
    a = rng.normal(size=9)[clusters] + rng.normal(size=60)
    b = rng.normal(size=60)
    ours = contrast([a[None], b[None]], [1, -1], clusters=[clusters, clusters])
    d = a - b
    fit = sm.OLS(d, np.ones(60)).fit(cov_type="cluster", cov_kwds={"groups": clusters, "use_correction": True})
    assert ours.standard_error == pytest.approx(fit.bse[0], **EXACT)
    centred = d - d.mean()
    same = np.equal.outer(clusters, clusters) & ~np.eye(60, dtype=bool)
    miller = (centred**2).sum() / 60**2 + centred @ same @ centred / 60**2
    assert ours.standard_error**2 == pytest.approx(miller * 9 / 8, **EXACT)
    alone = contrast([a[None], b[None]], [1, -1])
    assert alone.p_two_sided() == pytest.approx(stats.ttest_rel(a, b).pvalue, **EXACT)
    # Miller's paired error: SE_A² + SE_B² − 2 ρ SE_A SE_B
    se_a, se_b, rho = stats.sem(a), stats.sem(b), np.corrcoef(a, b)[0, 1]
    assert alone.standard_error**2 == pytest.approx(se_a**2 + se_b**2 - 2 * rho * se_a * se_b, **EXACT)


def test_two_way_variance_is_that_of_the_analysis_of_variance() -> None:
    """(MS_seed + MS_item − MS_residual) / (S · I), by statsmodels' sums of squares."""
    rng = RNG(6)
    y = rng.normal(size=(4, 1)) + rng.normal(size=(1, 11)) + rng.normal(size=(4, 11))
    seed, item = np.indices(y.shape).reshape(2, -1)
    dummies = [(np.equal.outer(labels, np.arange(1, labels.max() + 1))).astype(float) for labels in (seed, item)]
    ones = np.ones((44, 1))
    rss = [sm.OLS(y.ravel(), np.hstack([ones, *some])).fit().ssr for some in (dummies, dummies[1:], dummies[:1])]
    ms_residual, ms_seed, ms_item = rss[0] / 30, (rss[1] - rss[0]) / 3, (rss[2] - rss[0]) / 10
    ours = contrast([y], [1.0])
    assert ours.standard_error**2 == pytest.approx((ms_seed + ms_item - ms_residual) / 44, **EXACT)
    assert ours.seed_variance == pytest.approx((ms_seed - ms_residual) / 11, **EXACT)
    assert ours.item_variance == pytest.approx((ms_item - ms_residual) / 4, **EXACT)
    assert ours.residual_variance == pytest.approx(ms_residual, **EXACT)
    satterthwaite = (ms_seed + ms_item - ms_residual) ** 2 / (ms_seed**2 / 3 + ms_item**2 / 10 + ms_residual**2 / 30)
    assert ours.df <= satterthwaite + 1e-9


def test_equal_clusters_of_one_change_nothing() -> None:
    y, z = RNG(7).normal(size=(2, 5, 20))
    for seeds in (True, False):
        for items in (True, False):
            plain = contrast([y, z], [1, -1], pair_seeds=seeds, pair_items=items)
            single = contrast([y, z], [1, -1], pair_seeds=seeds, pair_items=items, clusters=[np.arange(20)] * 2)
            assert single.standard_error == pytest.approx(plain.standard_error, **EXACT)
            assert single.df == pytest.approx(plain.df, **EXACT)


@given(st.integers(2, 5), st.integers(1, 9), st.integers(0, 10**6), st.booleans(), st.booleans(), st.booleans())
@settings(max_examples=80, deadline=None)
def test_variances_are_never_negative_and_the_interval_holds_its_estimate(
    seeds: int, items: int, draw: int, pair_seeds: bool, pair_items: bool, grouped: bool
) -> None:
    rng = RNG(draw)
    tables = list(rng.integers(0, 3, size=(2, seeds, items)).astype(float))
    clusters = [np.sort(np.append([0, 1], rng.integers(0, 2, size=items - 2)))] * 2 if grouped and items > 2 else None
    found = contrast(tables, [1, -1], pair_seeds=pair_seeds, pair_items=pair_items, clusters=clusters)
    low, high = found.interval(0.95)
    assert low <= found.effect <= high and found.df >= 1
    assert found.effect == pytest.approx(tables[0].mean() - tables[1].mean(), abs=1e-12)
    parts = (found.seed_variance, found.item_variance, found.residual_variance)
    assert all(part >= 0 for part in parts if part is not None)
    assert 0 <= found.p_two_sided() <= 1
    # What the interval says is what the test says.
    if found.standard_error > 0:
        assert (found.p_two_sided() < 0.05) == (not low <= 0 <= high)


def test_leading_axes_are_repetitions() -> None:
    y, z = RNG(8).normal(size=(2, 6, 3, 10))
    together = contrast([y, z], [1, -1], pair_seeds=False)
    for i in range(6):
        one = contrast([y[i], z[i]], [1, -1], pair_seeds=False)
        assert (together.effect[i], together.standard_error[i], together.df[i]) == pytest.approx(
            (one.effect, one.standard_error, one.df), **EXACT
        )


def test_equal_arms_are_never_different_and_a_constant_gap_is_exact() -> None:
    y = RNG(9).normal(size=(3, 8))
    same = contrast([y, y.copy()], [1, -1])
    assert (same.effect, same.standard_error, same.p_two_sided()) == (0, 0, 1)
    shifted = contrast([y + 0.1, y], [1, -1])
    assert shifted.standard_error == 0 and shifted.p_two_sided() == 0 and shifted.p_two_sided(0.1) == 1
    with pytest.raises(ValueError, match="no variance"):
        contrast([np.ones((1, 1)), np.ones((1, 1))], [1, -1])


def test_slope_is_least_squares() -> None:
    x, y = np.array([1.0, 2.0, 4.0, 8.0]), RNG(10).normal(size=4)
    assert slope_weights(x) @ y == pytest.approx(stats.linregress(x, y).slope, **EXACT)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
@settings(deadline=None)
def test_holm_is_statsmodels(p: list[float]) -> None:
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1], **EXACT)


# ------------------------------------------------------------------------------------------------ sequential


def test_bounds_are_the_published_ones() -> None:
    """Two-sided .05 at equal looks: the tables of Lan and DeMets' functions (Reboussin et al. 2000)."""
    equal = [(i + 1) / 5 for i in range(5)]
    assert [b.z for b in bounds(equal, 0.05, "obrien_fleming")] == pytest.approx(
        [4.8769, 3.3569, 2.6803, 2.2898, 2.0310], abs=2e-4
    )
    assert [b.z for b in bounds(equal, 0.05, "pocock")] == pytest.approx(
        [2.4380, 2.4268, 2.4101, 2.3966, 2.3859], abs=2e-4
    )
    assert [b.z for b in bounds([1 / 3, 2 / 3, 1], 0.05, "obrien_fleming")] == pytest.approx(
        [3.7103, 2.5114, 1.9930], abs=2e-4
    )
    assert bounds([1.0], 0.05, "pocock")[0].z == pytest.approx(stats.norm.isf(0.025), abs=1e-9)


def test_bounds_spend_alpha_by_simulation() -> None:
    rng, shares = RNG(11), np.array([3, 5, 8]) / 8
    found = bounds(list(shares), 0.1, "pocock")
    steps = rng.normal(size=(200_000, 3)) * np.sqrt(np.diff(shares, prepend=0))
    z = steps.cumsum(1) / np.sqrt(shares)
    crossed = np.maximum.accumulate(np.abs(z) > [b.z for b in found], axis=1).mean(0)
    assert crossed == pytest.approx([spent(share, 0.1, "pocock") for share in shares], abs=3e-3)
    with pytest.raises(ValueError, match="rise to 1"):
        bounds([0.5, 0.4, 1], 0.05, "pocock")


# ------------------------------------------------------------------------------------------------ power


def test_power_is_statsmodels() -> None:
    noise = power.Noise(seed=1.7)
    ours = power.visible_effect(noise, 6, alpha=0.05, power=0.8)
    theirs = TTestPower().solve_power(nobs=6, alpha=0.05, power=0.8, alternative="two-sided") * math.sqrt(1.7)
    assert ours == pytest.approx(theirs, rel=1e-5)
    # Two independent arms whose seeds' standard deviation is 1: their contrast has the variance 2 a seed.
    n = TTestIndPower().solve_power(effect_size=1.0, alpha=0.05, power=0.8)
    needed = power.seeds_needed(power.Noise(seed=2.0), 1.0)
    assert needed is not None and 0 <= needed - n <= 2  # paired seeds have half the degrees of freedom


def test_power_by_simulation() -> None:
    rng, noise = RNG(12), power.Noise(seed=0.2, item=1.0, residual=2.0)
    effect = power.visible_effect(noise, 5, 60)
    y = (
        effect
        + math.sqrt(0.2) * rng.normal(size=(4000, 5, 1))
        + rng.normal(size=(4000, 1, 60))
        + math.sqrt(2) * rng.normal(size=(4000, 5, 60))
    )
    assert np.mean(contrast([y], [1.0]).p_two_sided() < 0.05) == pytest.approx(0.8, abs=0.05)


def test_more_seeds_see_no_less_and_items_set_the_end() -> None:
    noise = power.Noise(seed=1.0, item=4.0)
    seen = [power.visible_effect(noise, n, 100) for n in (1, 2, 3, 5, 20)]
    assert seen == sorted(seen, reverse=True) and seen[0] == math.inf
    assert power.seeds_needed(noise, 0.3, 100) is None
    assert "add items" in power.hidden(noise, 0.3, 5, 100)
    assert power.hidden(noise, 5.0, 5, 100) == ""
    needed = power.seeds_needed(noise, 1.0, 100)
    assert needed and power.visible_effect(noise, needed, 100) <= 1.0 < power.visible_effect(noise, needed - 1, 100)
    assert f"it takes {needed} seeds" in power.hidden(noise, 1.0, 3, 100)


def test_items_are_millers_worked_example() -> None:
    """Section 5 of the paper: 969 questions for a difference of 3 points where ω² = 1/9 and answers don't vary."""
    assert power.items_needed(1 / 9, 0, 0, 0.03) == 969
    assert power.items_needed(1 / 9, 1 / 6, 1 / 6, 0.03) > power.items_needed(
        1 / 9, 1 / 6, 1 / 6, 0.03, samples_a=10, samples_b=10
    ) > 969  # fmt: skip


def test_noise_is_pooled_over_comparisons_by_their_seeds() -> None:
    def row(variance: float | None, seeds: int) -> Comparison:
        return Comparison(
            label="a − b", a="a", b="b", effect=0, low=0, high=0, standard_error=0, df=1, p=1, n_seeds=seeds,
            n_items=0, seed_variance=variance,
        )  # fmt: skip

    assert power.noise_of([row(1.0, 3), row(4.0, 2), row(None, 1)]) == power.Noise(2.0, 0.0, 0.0)
    assert power.noise_of([row(None, 1)]) is None


# ------------------------------------------------------------------------------------------------ scaling laws

COMPUTE = np.geomspace(1e13, 1e15, 5)


def losses(multiplier: float, floor: float = 1.5, exponent: float = 0.2) -> np.ndarray:
    return floor + 2 * (COMPUTE * multiplier / 1e13) ** -exponent


def test_a_known_multiplier_is_found() -> None:
    laws = fit_laws({"a": [(COMPUTE, losses(1.4))] * 2, "b": [(COMPUTE, losses(1.0))] * 2})
    assert laws.floor == pytest.approx(1.5, abs=0.05) and laws.reference == COMPUTE[-1]
    assert math.exp(log_multiplier(laws.laws["a"][0], laws.laws["b"][0])) == pytest.approx(1.4, rel=0.02)
    assert log_multiplier(laws.laws["b"][0], laws.laws["a"][0]) == -log_multiplier(laws.laws["a"][0], laws.laws["b"][0])
    assert crossover(laws, "a", "b") is None


def test_fit_is_linregress_and_laws_cross_where_they_do() -> None:
    noisy = losses(1.0, floor=0.0) * np.exp(0.01 * RNG(13).normal(size=5))
    law = fit_laws({"a": [(COMPUTE, noisy)]}, floor=0.0).laws["a"][0]
    points = frontier(COMPUTE, noisy)
    theirs = stats.linregress(np.log(points.compute / COMPUTE[-1]), np.log(points.loss))
    assert (law.height, -law.exponent) == pytest.approx((theirs.intercept, theirs.slope), **EXACT)
    steep, flat = 2 * (COMPUTE / 1e14) ** -0.3, 2 * (COMPUTE / 1e14) ** -0.1
    laws = fit_laws({"a": [(COMPUTE, steep)] * 2, "b": [(COMPUTE, flat)] * 2}, floor=0.0)
    assert crossover(laws, "a", "b") == pytest.approx(1e14)
    assert slope_gap(laws.laws["a"][0], laws.laws["b"][0]) == pytest.approx(-0.2)


def test_paired_ladders_are_a_t_test_of_log_multipliers_and_points_cover_one_seed() -> None:
    rng = RNG(14)
    ladders = {
        arm: [(COMPUTE, losses(m, floor=0.0) * np.exp(0.01 * rng.normal(size=5))) for _ in range(4)]
        for arm, m in (("a", 1.5), ("b", 1.0))
    }
    laws = fit_laws(ladders, floor=0.0)
    ours = compare(log_multiplier, laws.laws["a"], laws.laws["b"], pair_seeds=True)
    each = [log_multiplier(x, y) for x, y in zip(laws.laws["a"], laws.laws["b"], strict=True)]
    assert ours.p_two_sided() == pytest.approx(stats.ttest_1samp(each, 0).pvalue, **EXACT)
    apart = compare(log_multiplier, laws.laws["a"], laws.laws["b"], pair_seeds=False)
    assert apart.effect == pytest.approx(ours.effect, rel=0.1)
    inside = 0
    for _ in range(200):
        drawn = {arm: [(COMPUTE, losses(m, floor=0.0) * np.exp(0.01 * rng.normal(size=5)))] for arm, m in
                 (("a", 1.5), ("b", 1.0))}  # fmt: skip
        one = fit_laws(drawn, floor=0.0)
        low, high = compare_points(log_multiplier, one.laws["a"][0], one.laws["b"][0], 0.0).interval(0.95)
        inside += low <= math.log(1.5) <= high
    assert 180 <= inside <= 200


@given(st.lists(st.tuples(st.sampled_from([1.0, 2.0, 3.0]), st.floats(1, 5)), min_size=1, max_size=12))
@settings(deadline=None)
def test_the_frontier_is_what_no_cheaper_point_beats(points: list[tuple[float, float]]) -> None:
    compute, loss = np.array(points).T
    kept = frontier(compute, loss)
    expected = {(c, y) for c, y in points if not any((y2 < y and c2 <= c) or (y2 <= y and c2 < c) for c2, y2 in points)}
    assert set(zip(*map(np.ndarray.tolist, kept), strict=True)) == expected
