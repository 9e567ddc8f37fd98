"""Published fits, minima, savings and bills, recomputed from the data they were made from."""

import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.scaling.laws.isoflop import fit_isoflop
from stages.scaling.laws.parametric import bootstrap, fit_parametric


@pytest.fixture(scope="module")
def hoffmann(reference: Path) -> pd.DataFrame:
    """Hoffmann et al.'s runs as Besiroglu et al. 2024 read them off figure 4, their five highest losses dropped."""
    table = pd.read_csv(reference / "scaling" / "hoffmann2022_epoch_svg.csv")
    return table.sort_values("loss").head(240).sort_index()


def test_huber_fit_of_hoffmanns_runs(hoffmann: pd.DataFrame) -> None:
    """The minimum of the notebook's own objective; its 4,500 starts reach 1.01827403e-3, A 477.84, B 2143.86."""
    start = time.process_time()
    fit = fit_parametric(hoffmann.N, hoffmann.D, hoffmann.loss)
    assert time.process_time() - start < 0.5
    assert fit.objective <= 1.0182741e-3
    assert pytest.approx(477.83, rel=2e-3) == fit.A
    assert pytest.approx(2143.4, rel=2e-3) == fit.B
    assert (fit.E, fit.alpha, fit.beta) == pytest.approx((1.81722, 0.34731, 0.36717), abs=1e-4)
    assert fit.a == pytest.approx(0.514, abs=1e-3)
    assert fit.optimum(5.76e23).tokens_per_parameter == pytest.approx(17.9, abs=0.1)


def test_least_absolute_deviations_give_the_published_point(hoffmann: pd.DataFrame) -> None:
    """Besiroglu et al. fit a scale jointly, which makes their Huber loss least absolute deviations."""
    fit = fit_parametric(hoffmann.N, hoffmann.D, hoffmann.loss, estimator="lad")
    published = (482.01, 2085.43, 1.8172, 0.3478, 0.3658)
    assert (fit.A, fit.B, fit.E, fit.alpha, fit.beta) == pytest.approx(published, rel=2e-3)


def test_bootstrap_standard_errors(hoffmann: pd.DataFrame) -> None:
    """The notebook's 4,000 resamples, by its own indices: a loop of BFGS there, batches of Newton steps here."""
    legacy = np.random.RandomState(42)
    indices = np.array([legacy.choice(240, 240, replace=True) for _ in range(4000)])
    resampled = bootstrap(hoffmann.N, hoffmann.D, hoffmann.loss, indices=indices)
    errors = resampled.standard_errors
    published = {"A": 124.52, "B": 1293.28, "E": 0.02566, "alpha": 0.01540, "beta": 0.02060}
    assert errors == pytest.approx(published, rel=2e-3)
    low, high = resampled.interval(0.95)["a"]
    assert low < 0.492 < 0.514 < high


def test_extrapolation_to_hoffmanns_largest_runs(hoffmann: pd.DataFrame) -> None:
    small, large = hoffmann[hoffmann.C <= 7e20], hoffmann[hoffmann.C > 7e20]
    assert len(large) == 39
    fit = fit_parametric(small.N, small.D, small.loss)
    error = np.abs(fit.predict(large.N, large.D) / large.loss - 1)
    assert error.mean() <= 0.01 and error.max() <= 0.04


def test_isoflop_exponent_of_chinchilla(reference: Path) -> None:
    """Approach 2: .49 published (.462-.534); one of nine budgets has its minimum outside the sizes tried."""
    table = pd.read_csv(reference / "scaling" / "chinchilla_isoflop.csv")
    points = table[table.source == "epochai_chinchilla"]
    fit = fit_isoflop(points.C, points.N, points.loss)
    assert fit.a == pytest.approx(0.492, abs=0.01)
    assert len(fit.accepted) == 8
    assert [minimum.reason for minimum in fit.minima if not minimum.accepted] == [
        "no interior minimum: try smaller sizes at this budget"
    ]
    n, d = fit.optimum(5.76e23)
    assert 18 < d / n < 30


def test_akima_minima_reach_every_published_exponent_of_porian(reference: Path) -> None:
    points = pd.read_csv(reference / "scaling" / "porian2024_isoflop.csv")
    published = pd.read_csv(reference / "scaling" / "porian2024_exponents_published.csv").set_index("setting")
    for setting, group in points.groupby("setting"):
        fit = fit_isoflop(group.C, group.N, group.loss, method="akima")
        assert published.a_lo95[setting] <= fit.a <= published.a_hi95[setting], setting
