import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from stages.base.errors import InputError
from stages.judging.statistics.correlation import correlations, spearman


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=3, max_size=30))
def test_rho_is_scipys_ties_included(pairs: list[tuple[int, int]]) -> None:
    x, y = zip(*pairs, strict=True)
    if len(set(x)) == 1 or len(set(y)) == 1:
        with pytest.raises(InputError, match="same value"):
            spearman(x, y, resamples=5)
    else:
        got = spearman(x, y, resamples=20)
        assert got.rho == pytest.approx(spearmanr(x, y).statistic) and -1 <= got.low <= got.high <= 1


def test_the_interval_covers_and_shrinks() -> None:
    covered, truth = [], 6 / np.pi * math.asin(0.8 / 2)  # of a bivariate normal with correlation 0.8
    for seed in range(120):
        x, y = np.random.default_rng(seed).multivariate_normal([0, 0], [[1, 0.8], [0.8, 1]], 60).T
        got = spearman(x, y, resamples=300, seed=seed)
        covered.append(got.low <= truth <= got.high)
    assert 0.88 < np.mean(covered) <= 1


def test_missing_numbers_are_counted() -> None:
    rows = [{"a": float(i), "b": None if i == 2 else i * i, "c": 1.0} for i in range(6)] + [{"a": None, "b": 3, "c": 1}]
    found = {(one.a, one.b): one for one in correlations(rows, ["a", "b", "c"])}
    assert (found["a", "b"].spearman, found["a", "b"].n) == (1.0, 5)
    assert found["a", "c"].spearman is None and found["a", "c"].n == 6
    with pytest.raises(InputError, match="at least 3"):
        spearman([1, 2, math.nan], [1, 2, 3])
