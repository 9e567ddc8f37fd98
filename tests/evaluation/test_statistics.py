"""Intervals and comparisons against scipy, statsmodels, Miller's formulas, and simulation."""

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from stages.base.crossed import smallest_visible, tiers
from stages.base.paired import compare, difference, rank_flips
from stages.evaluation.statistics import over_seeds, score, seeds_apart, stratified

RNG = np.random.default_rng(5)


def draw(n: int, share: float = 0.4) -> list[float]:
    return (np.random.default_rng(n).random(n) < share).astype(float).tolist()


def test_shares_have_clopper_and_pearsons_interval() -> None:
    values = draw(60)
    found = score(values)
    exact = scipy_stats.binomtest(int(sum(values)), 60).proportion_ci(method="exact")
    assert (found.mean, found.n, found.method) == (np.mean(values), 60, "exact binomial")
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high))


def test_other_values_have_students_interval_within_0_and_1() -> None:
    values = RNG.random(30).tolist()
    found = score(values)
    low, high = scipy_stats.t.interval(0.95, 29, np.mean(values), scipy_stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert score([0.98, 1.0, 0.9]).high == 1.0


def test_clustered_standard_errors_are_millers() -> None:
    """SE² = n⁻² Σ_c Σ_ij (s_i − s̄)(s_j − s̄), times G / (G − 1); and statsmodels' cluster-robust one of a mean."""
    import statsmodels.api as sm

    rng = np.random.default_rng(2)
    groups = np.repeat(np.arange(15), 4)
    values = (rng.random(60) < 0.3 + 0.4 * rng.random(15)[groups]).astype(float)
    found = score(values.tolist(), [f"passage {g}" for g in groups])
    left = values - values.mean()
    own = sum(left[groups == g].sum() ** 2 for g in range(15)) / 60**2 * 15 / 14
    half = scipy_stats.t.ppf(0.975, 14) * math.sqrt(own)
    assert (found.clusters, found.method) == (15, "t, clustered")
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half))
    robust = sm.OLS(values, np.ones(60)).fit(cov_type="cluster", cov_kwds={"groups": groups})
    assert robust.bse[0] ** 2 == pytest.approx(own * 59 / 60 * 60 / 59, rel=0.02)


def test_groups_of_one_item_are_none_and_of_equal_values_count_as_one_item() -> None:
    assert score([0.0, 1.0, 1.0], ["a", "", "b"]) == score([0.0, 1.0, 1.0])
    same = score([1.0] * 12, ["a", "b", "c"] * 4)
    assert (same.low, same.clusters, same.n) == (pytest.approx(0.025 ** (1 / 3)), 3, 12)
    assert score([0.5, 1.0], ["a", "a"]).low is None and score([]).mean is None


def test_strata_take_the_spread_between_subjects_out() -> None:
    rng = np.random.default_rng(0)
    strata = {f"s{i}": (rng.random(n) < share).astype(float).tolist() for i, (n, share) in
              enumerate([(40, 0.1), (20, 0.9), (30, 0.5)])}  # fmt: skip
    whole = [value for own in strata.values() for value in own]
    by_size, equal = stratified(strata, "size"), stratified(strata, "equal")
    assert by_size.mean == pytest.approx(np.mean(whole))
    assert equal.mean == pytest.approx(np.mean([np.mean(own) for own in strata.values()]))
    assert by_size.high - by_size.low < score(whole).high - score(whole).low
    variance = sum((1 / 3) ** 2 * np.var(own, ddof=1) / len(own) for own in strata.values())
    half = (equal.high - equal.low) / 2 / math.sqrt(variance)
    assert 1.96 < half < 2.06  # Satterthwaite's t, near the normal for 90 items
    assert stratified(strata | {"lone": [1.0]}, "equal").low is None


def paired_case() -> tuple[dict[str, float], dict[str, float]]:
    """500 items of which both models have 252 right, the first alone 66, the second alone 39."""
    kinds = [(1.0, 1.0)] * 252 + [(1.0, 0.0)] * 66 + [(0.0, 1.0)] * 39 + [(0.0, 0.0)] * 143
    return ({str(i): a for i, (a, _) in enumerate(kinds)}, {str(i): b for i, (_, b) in enumerate(kinds)})


def test_paired_where_lm_evals_comparison_is_not() -> None:
    """The LM Evaluation Harness compares two scores by z = (a − b) / √(SE_a² + SE_b²), as though on different items: a
    p of .080 where the items' own differences give .008."""
    a, b = paired_case()
    x, y = np.array(list(a.values())), np.array(list(b.values()))
    z = (x.mean() - y.mean()) / math.hypot(scipy_stats.sem(x), scipy_stats.sem(y))
    unpaired = 2 * scipy_stats.norm.sf(z)
    found = difference(a, b)
    assert (round(unpaired, 3), round(found.p, 3)) == (0.080, 0.008)
    assert found.p == pytest.approx(scipy_stats.ttest_rel(x, y).pvalue)
    assert found.correlation == pytest.approx(np.corrcoef(x, y)[0, 1])


def test_what_a_comparison_could_have_shown() -> None:
    a, b = paired_case()
    found = difference(a, b)
    gaps = np.array(list(a.values())) - np.array(list(b.values()))
    error, df = scipy_stats.sem(gaps), len(gaps) - 1
    power = scipy_stats.nct.sf(scipy_stats.t.ppf(0.975, df), df, found.visible / error)
    assert power == pytest.approx(0.8, abs=1e-6)
    assert found.items_needed(found.visible) == 500 and found.items_needed(found.visible / 2) == 2000
    assert smallest_visible(1.0, 1e6) == pytest.approx(1.959964 + 0.841621, abs=1e-4)
    assert smallest_visible(0.0, 5) == 0.0


def test_only_items_in_common_are_compared_and_clusters_widen() -> None:
    a, b = paired_case()
    fewer = difference(a, {item: b[item] for item in list(b)[:120]})
    assert fewer.n == 120
    clusters = {str(i): f"passage {i // 10}" for i in range(500)}
    clustered = difference(a, b, clusters)
    assert (clustered.difference, clustered.clusters) == (difference(a, b).difference, 50)
    assert clustered.high - clustered.low > difference(a, b).high - difference(a, b).low
    assert difference({"x": 1.0}, {"x": 0.0}) is None and difference(a, {}) is None


@pytest.mark.parametrize("n", [2, 6, 30, 400])
@pytest.mark.parametrize("gap", [0.0, 1.0, -1.0])
def test_models_that_never_differ_otherwise_have_an_interval_with_width(n: int, gap: float) -> None:
    one, other = ({str(i): value for i in range(n)} for value in (max(gap, 0.0), max(-gap, 0.0)))
    found = difference(one, other)
    _, high = scipy_stats.binomtest(0, n).proportion_ci()  # Clopper–Pearson: the share that goes another way
    assert (found.low, found.high) == pytest.approx((max(-1, gap - high), min(1, gap + high)))
    assert found.p == pytest.approx(1.0 if gap == 0 else scipy_stats.binomtest(0, n).pvalue)
    if n > 6:  # as many as show it: six of six by the sign test
        assert scipy_stats.binom.sf(5, n, found.visible) == pytest.approx(0.8)
    groups = {str(i): f"group {i % 2}" for i in range(n)}
    assert n == 2 or difference(one, other, groups).high >= found.high
    assert (difference({"a": -2.5, "b": -2.5}, {"a": -1.0, "b": -1.0}).high, found.n) == (-1.5, n)  # no shares


def test_equal_models_are_called_different_about_one_time_in_twenty() -> None:
    rng = np.random.default_rng(11)
    hits = 0
    for _ in range(400):
        ease = rng.random(40)
        one, other = (dict(enumerate((rng.random(40) < ease).astype(float))) for _ in range(2))
        hits += difference(one, other).p < 0.05
    low, high = scipy_stats.binomtest(hits, 400).proportion_ci()
    assert low <= 0.05 <= high


def test_seeds_and_items_together() -> None:
    rng = np.random.default_rng(3)
    base, shift = rng.random(50), np.array([-0.1, 0.0, 0.12])
    table = np.clip(base + shift[:, None] + 0.05 * rng.standard_normal((3, 50)), 0, 1)
    found, lone = over_seeds(table.tolist()), score(table[1].tolist())
    assert found.mean == pytest.approx(table.mean()) and found.n == 50
    assert found.high - found.low > lone.high - lone.low
    assert "3 seeds" in found.method
    other = np.clip(table - 0.1 + 0.02 * rng.standard_normal((3, 50)), 0, 1)
    apart = seeds_apart(table.tolist(), other.tolist())
    assert apart.effect == pytest.approx(table.mean() - other.mean()) and apart.n_seeds == 3
    # Two trainings of three seeds each: no better known than a t test of their six means would say.
    means = scipy_stats.ttest_ind(table.mean(1), other.mean(1))
    assert apart.standard_error >= 0.99 * abs(means.statistic and (apart.effect / means.statistic))


def test_tiers_and_rank_flips() -> None:
    rng = np.random.default_rng(4)
    ease = rng.random(300)
    models = {"strong": 0.25, "equal": 0.24, "weak": -0.3}
    values = {
        name: {str(i): float(u < e + shift) for i, (u, e) in enumerate(zip(rng.random(300), ease, strict=True))}
        for name, shift in models.items()
    }
    pairs, placed = compare(values)
    assert placed == {"strong": 1, "equal": 1, "weak": 2} and len(pairs) == 3
    assert all(one.difference >= 0 for one in pairs.values())
    assert tiers({"a": 0.9, "b": 0.8, "c": 0.7}, {("a", "b"): 0.2, ("c", "a"): 0.001, ("b", "c"): 0.5}) == {
        "a": 1, "b": 1, "c": 2,
    }  # fmt: skip
    assert compare({"alone": {"x": 1.0}}) == ({}, {})
    values["elsewhere"] = {"another item": 1.0}  # compared with nobody: in no tier
    assert compare(values)[1] == placed
    falcon = {"helm": {"falcon": 0.571, "llama": 0.637}, "harness": {"falcon": 0.527, "llama": 0.488}}
    assert rank_flips(falcon) == [("helm", "harness", "llama", "falcon")]
