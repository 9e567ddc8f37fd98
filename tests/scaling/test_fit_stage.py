"""What fit.json and study.json say about a ladder whose law is known."""

import json
from pathlib import Path

import pytest

from stages.base.contracts.study import Study
from stages.base.errors import InputError
from stages.base.files import read_json, write_json
from stages.scaling import fit as fit_stage
from stages.scaling.fit import analyse, metrics
from stages.scaling.laws.law import Forecast
from tests.contracts import scaling
from tests.walk import files_entered


def test_law_intervals_and_withheld_run(ladder_points, fit_params, law) -> None:
    fit, study = analyse(ladder_points(), fit_params(), seed=1)
    shown = study.recipes[0].law
    for name in ("A", "B", "E", "alpha", "beta", "a"):
        low, high = shown.interval[name]
        assert low < high
    low, high = shown.interval["E"]
    assert low < law.E < high and shown.residual_rms < 0.02
    (withheld,) = study.recipes[0].withheld.runs
    largest = max((point for point in ladder_points() if point.arch == "transformer"), key=lambda point: point.flops)
    assert withheld.run == largest.key and fit.largest_flops == largest.flops
    assert abs(withheld.error) < 0.05 and withheld.inside
    assert fit.withheld_error == pytest.approx(abs(withheld.error))


def test_the_plan_gets_the_law_its_draws_and_the_ladders_recipe(ladder_points, fit_params) -> None:
    fit, study = analyse(ladder_points(), fit_params(), seed=1)
    shown = study.recipes[0].law
    forecast = Forecast.of(fit)
    assert (forecast.law.alpha, forecast.law.E) == (shown.alpha, shown.E) and forecast.draws.shape == (100, 5)
    assert fit.recipe == scaling.RECIPE
    other = ladder_points()
    other[3] = other[3].model_copy(update={"recipe": scaling.RECIPE.model_copy(update={"rope_theta": 5e5})})
    with pytest.raises(InputError, match="different recipes"):
        analyse(other, fit_params(), seed=1)


def test_runs_that_scatter_more_than_was_assumed_widen_what_is_forecast(ladder_points, fit_params) -> None:
    (calm, calm_study), (wild, wild_study) = (
        analyse(ladder_points(noise=noise), fit_params(), seed=1) for noise in (0.001, 0.05)
    )
    assert calm.noise == fit_params().prior.noise > calm_study.recipes[0].law.residual_rms
    assert wild.noise == wild_study.recipes[0].law.residual_rms > fit_params().prior.noise


def test_lstm_shares_the_exponents(ladder_points, fit_params, lstm_ratio) -> None:
    fit, study = analyse(ladder_points(noise=0.001), fit_params(), seed=1)
    (rival,) = study.rivals
    assert (rival.first, rival.second, rival.n) == ("transformer", "lstm", 3)
    ratio, multiplier = rival.factor.ratio, rival.factor.multiplier
    assert ratio.value == pytest.approx(lstm_ratio, rel=0.05) and ratio.low < lstm_ratio < ratio.high
    assert (
        multiplier.value == pytest.approx(ratio.value ** (1 / fit.law.alpha + 1 / fit.law.beta))
        and multiplier.value > 1
    )
    assert metrics(fit, study)["lstm_compute_multiplier"] == multiplier.value


def test_equal_inputs_give_equal_files(ladder_points, fit_params) -> None:
    first, again = (analyse(ladder_points(), fit_params(), 5) for _ in range(2))
    assert first == again


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    study = scaling.study()
    assert all(minimum.reason and minimum.N is None for minimum in study.recipes[0].isoflop[0].minima)
    write_json(tmp_path / "study.json", study.model_dump(mode="json"))
    assert Study.model_validate_json((tmp_path / "study.json").read_bytes()) == study
    json.dumps(read_json(tmp_path / "study.json"), allow_nan=False)


def test_too_few_transformers_are_refused(ladder_points, fit_params) -> None:
    with pytest.raises(InputError, match="3 Transformer points, a law needs 4"):
        analyse(ladder_points()[:3], fit_params(), seed=1)


def test_no_lstm_is_no_error(ladder_points, fit_params) -> None:
    points = [point for point in ladder_points() if point.arch == "transformer"]
    fit, study = analyse(points, fit_params(), seed=1)
    assert not study.rivals and set(metrics(fit, study)) == {
        "A", "B", "E", "alpha", "beta", "a", "residual_rms", "withheld_error"
    }  # fmt: skip


def test_a_walk_of_the_stage_enters_few_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["fit"])
    write_json("params.yaml", {"run": {"seed": 1}, "scaling": {"fit": scaling.fit_params().model_dump()}})
    points = scaling.points()
    write_json("data/scaling/ladder/points.json", {"points": [point.key for point in points]})
    for point in points:
        write_json(f"data/scaling/ladder/{point.key}/point.json", point.model_dump(mode="json"))
    entered = files_entered(fit_stage.main)
    assert Study.model_validate(read_json("data/scaling/fit/study.json")).rivals
    assert len(entered) <= 12, sorted(entered)
