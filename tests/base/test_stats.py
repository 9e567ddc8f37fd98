import numpy as np
import pytest
from scipy import stats as scipy_stats

from stages.base.seeds import derive
from stages.base.stats import mean_interval, paired_interval, share_interval


def test_intervals_match_scipy_t_tests() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(1, 2, 40), rng.normal(0.5, 1, 40)
    expected = scipy_stats.ttest_rel(a, b).confidence_interval(0.9)
    found = paired_interval(a, b, level=0.9)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert np.isnan(mean_interval([1.0]).low)
    with pytest.raises(ValueError, match="equal lengths"):
        paired_interval(a, b[:-1])


@pytest.mark.parametrize(("count", "n"), [(0, 6), (1, 6), (6, 6), (40, 400)])
def test_shares_have_scipys_exact_interval(count: int, n: int) -> None:
    expected = scipy_stats.binomtest(count, n).proportion_ci(0.95, "exact")
    assert share_interval(count, n) == pytest.approx((count / n, expected.low, expected.high))
    assert np.isnan(share_interval(0, 0)).all()


def test_seeds_differ_by_every_part_and_stay_63_bit() -> None:
    seeds = {derive(1, "a"), derive(1, "b"), derive(2, "a"), derive(1, "a", ""), derive(1, "a", "b"), derive(1, "ab")}
    assert len(seeds) == 6 and all(0 <= seed < 2**63 for seed in seeds)
    assert derive(7, "pretrain", 3) == derive(7, "pretrain", "3")
