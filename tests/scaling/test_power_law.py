"""Power laws in one variable, what was tuned against scale, and width against depth: known truths come back."""

import numpy as np
import pytest

from stages.base.contracts.study import Aspect, Knob
from stages.base.errors import InputError
from stages.scaling.laws.law import Law, envelope, fit_power_law
from stages.scaling.study.tuning import aspect, knobs
from stages.scaling.tables.table import RunTable

X = np.geomspace(1e6, 1e9, 9)


def test_kaplans_law_of_size() -> None:
    """L(N) = (8.8e13 / N)^.076 (Kaplan et al. 2020, equation 1.1)."""
    law = fit_power_law(X, (8.8e13 / X) ** 0.076, floor=False)
    assert (law.exponent, law.scale, law.floor) == pytest.approx((0.076, 8.8e13, 0.0), rel=1e-6)


def test_a_floor_is_found_and_its_lack_would_bend_the_exponent() -> None:
    loss = 1.7 + (8.8e9 / X) ** 0.3
    law = fit_power_law(X, loss, floor=True)
    assert (law.exponent, law.scale, law.floor) == pytest.approx((0.3, 8.8e9, 1.7), rel=1e-5)
    assert fit_power_law(X, loss, floor=False).exponent < 0.29


def test_intervals_hold_the_truth_under_noise() -> None:
    """60 draws of 20 runs at 90 %; 44 is 1 in 10,000 below."""
    x = np.geomspace(1e6, 1e10, 20)
    hits = 0
    for seed in range(60):
        noisy = (1e13 / x) ** 0.08 * np.exp(0.01 * np.random.default_rng(seed).standard_normal(x.size))
        low, high = fit_power_law(x, noisy, floor=False, huber_delta=0.02, level=0.9, seed=seed).interval["exponent"]
        hits += low <= 0.08 <= high
    assert hits >= 44


def test_the_envelope_keeps_what_nothing_smaller_beats() -> None:
    x, loss = [1.0, 2.0, 3.0, 3.0, 4.0, 0.5], [3.0, 3.5, 2.0, 2.5, 2.0, 4.0]
    assert envelope(x, loss).tolist() == [5, 0, 2]


def test_too_few_sizes_are_refused() -> None:
    with pytest.raises(InputError, match="3 distinct x: a power law of 3 parameters"):
        fit_power_law(X[:3], [3.0, 2.5, 2.2], floor=True)


def sweep(ds: tuple[float, ...] = (1e9, 1e10, 5e10)) -> np.ndarray:
    """Rates around 1.79 N^-.713 D^.307 (the law of Li et al. 2025), losses a parabola in log rate."""
    rows = []
    for n in (1e8, 3e8, 1e9):
        for d in ds:
            best = 1.79 * n**-0.713 * d**0.307
            rows += [(n, d, best * m, 2 + 0.05 * np.log(m) ** 2) for m in (0.2, 0.5, 1.1, 2.0, 5.0)]
    return np.array(rows).T


def table(n: np.ndarray, d: np.ndarray, loss: np.ndarray, **extra: np.ndarray) -> RunTable:
    names = ("",) * n.size
    return RunTable(n, d, 6 * n * d, loss, names, names, extra, tuple(range(n.size)))


def best_rate(n: np.ndarray, d: np.ndarray, rate: np.ndarray, loss: np.ndarray) -> Knob:
    (found,) = knobs("", table(n, d, loss, lr=rate), 0.95)
    return found


def test_the_best_rates_law_comes_back() -> None:
    law = best_rate(*sweep())
    assert law.n_exponent and law.d_exponent
    assert (law.n_exponent.value, law.d_exponent.value) == pytest.approx((-0.713, 0.307), abs=1e-5)
    assert [cell.value for cell in law.cells] == pytest.approx([1.79 * c.N**-0.713 * c.D**0.307 for c in law.cells])


def test_worse_batches_beside_a_rate_dont_move_its_best() -> None:
    """Each rate was also run with a bad batch: the profile takes the better of both."""
    n, d, rate, loss = sweep()
    twice = best_rate(np.tile(n, 2), np.tile(d, 2), np.tile(rate, 2), np.concatenate([loss, loss + 0.3 * rate**0.1]))
    assert twice.n_exponent and twice.n_exponent.value == pytest.approx(-0.713, abs=1e-5)


def test_cells_without_a_best_rate_are_refused_with_their_reason() -> None:
    n, d, rate, loss = sweep()
    kept = (n > 1e8) | (rate < 1.5 * 1.79 * n**-0.713 * d**0.307)
    assert best_rate(n[kept], d[kept], rate[kept], loss[kept]).n_exponent
    assert best_rate(*sweep((1e9,))).d_exponent is None
    falling = np.where(n == 1e8, 3 - 0.1 * np.log(rate), loss)
    refused = [cell.reason for cell in best_rate(n, d, rate, falling).cells if cell.N < 1.5e8]
    assert len(refused) == 3 and all(refused)


def test_no_exponents_are_told_apart_on_a_ray() -> None:
    rows = [(n, 20 * n, n**-0.5 * m, 2 + np.log(m) ** 2) for n in (1e8, 1e9, 1e10) for m in (0.5, 1.0, 2.0)]
    law = best_rate(*np.array(rows).T)
    assert law.d_exponent is None and "move together" in law.reason
    assert law.n_exponent and law.n_exponent.value == pytest.approx(-0.5, abs=1e-6)


def proportions(residual: np.ndarray) -> Aspect:
    """Of runs that lie so far above a law, in log loss."""
    law, same = Law(406.4, 410.7, 1.69, 0.34, 0.28), np.full(WIDTH.size, 1e9)
    loss = np.asarray(law.predict(same, 20 * same)) * np.exp(residual)
    return aspect("", table(same, 20 * same, loss, width=WIDTH, depth=DEPTH), law, 0.95)


WIDTH, DEPTH = np.array([256.0, 512, 768, 1024, 1536, 2048]), np.array([32.0, 24, 16, 12, 8, 4])


def test_the_best_proportions_come_back() -> None:
    u = np.log(WIDTH / DEPTH)
    found = proportions(0.01 * (u - np.log(40)) ** 2)
    assert found.best and found.best.value == pytest.approx(40, rel=1e-6)
    assert found.cost and found.cost.value == pytest.approx(np.expm1(0.01 * np.log(4) ** 2), rel=1e-6)
    assert "no best ratio" in proportions(0.01 * u).reason
