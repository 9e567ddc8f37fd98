import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from stages.base.errors import InputError
from stages.judging.statistics.correlation import correlate, main, probability_higher, spearman


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
    rows = [{"model": f"m{i}", "a": float(i), "b": "" if i == 2 else i * i} for i in range(6)] + [
        {"model": "x", "a": None, "b": 3}
    ]
    got = correlate(rows, "a", "b")
    assert (got.rho, got.n, got.n_missing) == (1.0, 5, 2)
    with pytest.raises(InputError, match="no column `c`; numeric columns are: a, b"):
        correlate(rows, "a", "c")
    with pytest.raises(InputError, match="isn't numeric"):
        correlate(rows, "a", "model")
    with pytest.raises(InputError, match="at least 3"):
        spearman([1, 2, math.nan], [1, 2, 3])


def test_the_better_of_two_columns_is_decided_jointly() -> None:
    generator = np.random.default_rng(0)
    target = generator.normal(size=80)
    near, far = target + generator.normal(0, 0.2, 80), target + generator.normal(0, 2.0, 80)
    assert probability_higher(near, far, target) > 0.99 and probability_higher(far, near, target) < 0.01
    assert probability_higher(near, near, target) == 0.5


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "leaderboard.csv"
    table.write_text("model,a,b\nx,1,3\ny,2,2\nz,3,1\n", encoding="utf-8")
    assert main([str(table), "a", "b"]) == 0 and capsys.readouterr().out.startswith("rho -1.000 [")
    assert main([str(table), "a", "c"]) == 2 and "no column `c`" in capsys.readouterr().err
    assert main([str(tmp_path / "none.csv"), "a", "b"]) == 2
