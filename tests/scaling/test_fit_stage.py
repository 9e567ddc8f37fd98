"""What fit.json says about a ladder whose law is known."""

import json
import math

import pytest

from stages.base.errors import InputError
from stages.scaling.fit import analyse


def test_law_intervals_and_withheld_run(ladder_points, fit_params, law) -> None:
    result = analyse(ladder_points(), fit_params(), seed=1)
    fitted = result["transformer"]
    for name in ("A", "B", "E", "alpha", "beta", "a"):
        low, high = fitted["interval"][name]
        assert low < high
    assert fitted["interval"]["E"][0] < law.E < fitted["interval"]["E"][1]
    assert fitted["residual_rms"] < 0.02
    (withheld,) = result["withheld"]["points"]
    assert (
        withheld["key"]
        == max(
            (point for point in ladder_points() if point["arch"] == "transformer"), key=lambda point: point["flops"]
        )["key"]
    )
    assert abs(withheld["error"]) < 0.05 and withheld["low"] < withheld["loss"] < withheld["high"]


def test_runs_that_scatter_more_than_was_assumed_widen_what_is_forecast(ladder_points, fit_params) -> None:
    calm, wild = (analyse(ladder_points(noise=noise), fit_params(), seed=1) for noise in (0.001, 0.05))
    assert calm["noise"] == fit_params().prior.noise > calm["transformer"]["residual_rms"]
    assert wild["noise"] == wild["transformer"]["residual_rms"] > fit_params().prior.noise


def test_lstm_shares_the_exponents(ladder_points, fit_params, lstm_ratio) -> None:
    lstm = analyse(ladder_points(noise=0.001), fit_params(), seed=1)["lstm"]
    assert lstm["ratio"] == pytest.approx(lstm_ratio, rel=0.05)
    assert lstm["ratio_interval"][0] < lstm_ratio < lstm["ratio_interval"][1]
    alpha, beta = lstm["alpha"], lstm["beta"]
    assert lstm["compute_multiplier"] == pytest.approx(lstm["ratio"] ** (1 / alpha + 1 / beta))
    assert lstm["compute_multiplier"] > 1


def test_isoflop_refusals_are_reported_and_json_is_plain(ladder_points, fit_params) -> None:
    result = analyse(ladder_points(), fit_params(), seed=1)
    assert result["isoflop"]["minima"] and all(minimum["reason"] for minimum in result["isoflop"]["minima"])
    assert math.isnan(result["isoflop"]["a"]) and "a slope needs 2" in result["isoflop"]["reason"]
    json.dumps(result)


def test_equal_inputs_give_equal_results(ladder_points, fit_params) -> None:
    assert json.dumps(analyse(ladder_points(), fit_params(), 5)) == json.dumps(
        analyse(ladder_points(), fit_params(), 5)
    )


def test_too_few_transformers_are_refused(ladder_points, fit_params) -> None:
    with pytest.raises(InputError, match="3 Transformer points, a law needs 4"):
        analyse(ladder_points()[:3], fit_params(), seed=1)


def test_no_lstm_is_no_error(ladder_points, fit_params) -> None:
    points = [point for point in ladder_points() if point["arch"] == "transformer"]
    assert analyse(points, fit_params(), seed=1)["lstm"] is None
