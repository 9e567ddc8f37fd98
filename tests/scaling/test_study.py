"""The study of a table: its numbers are the fits', recipes are compared, and little data gives reasons, not errors."""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stages.base.contracts.study import Study
from stages.base.errors import InputError
from stages.base.files import write_json
from stages.commands import scaling as command
from stages.scaling.laws.law import Law, Runs
from stages.scaling.laws.parametric import FittedLaw, Options, fit_law, fit_parametric
from stages.scaling.study import study as module
from stages.scaling.study.study import fit_recipes, summary
from stages.scaling.tables.table import RunTable, read_table
from tests.walk import files_entered

LAW = Law(406.4, 410.7, 1.69, 0.34, 0.28)
QUICK = Options(draws=60)


def study(runs: RunTable, options: Options) -> Study:
    return module.study(runs, fit_recipes(runs, options), options)


def table(law: Law = LAW, recipe: str = "a", seed: int = 0) -> list[str]:
    n, d = (axis.ravel() for axis in np.meshgrid(np.geomspace(5e7, 1e10, 6), np.geomspace(1e9, 5e11, 6)))
    loss = np.asarray(law.predict(n, d)) * np.exp(0.005 * np.random.default_rng(seed).standard_normal(n.size))
    return [f"{a},{b},{c},{recipe}" for a, b, c in zip(n, d, loss, strict=True)]


def read(folder: Path, rows: list[str]) -> RunTable:
    path = folder / "runs.csv"
    path.write_text("N,D,loss,recipe\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return read_table(path)


def test_numbers_are_those_of_the_fit(tmp_path: Path) -> None:
    runs = read(tmp_path, table())
    result = study(runs, QUICK)
    (recipe,) = result.recipes
    fit = fit_parametric(runs.N, runs.D, runs.loss)
    assert recipe.law.alpha == fit.alpha and recipe.law.prior is None
    assert [run.residual for run in result.runs] == pytest.approx([-r for r in fit.residuals])
    assert recipe.sensitivity[0].alpha == fit.alpha
    best = recipe.plan[0]
    assert pytest.approx(fit.optimum(best.C)) == (best.N, best.D)
    assert best.loss.value <= min(row.loss.value for row in recipe.plan if row.C == best.C)
    held = recipe.withheld
    assert len(held.runs) == 5 and held.mean_abs_error < 0.02
    assert min(run.C for run in held.runs) >= np.sort(runs.C)[-5]
    assert all(found.low <= found.value <= found.high for _, found in recipe.frontier)


def test_equal_tables_give_equal_studies(tmp_path: Path) -> None:
    runs = read(tmp_path, table())
    assert study(runs, QUICK) == study(runs, QUICK)


def test_each_recipe_is_fitted_once_and_once_more_without_its_largest_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted = []

    def count(runs: Runs, options: Options) -> FittedLaw:
        fitted.append(runs.loss.size)
        return fit_law(runs, options)

    monkeypatch.setattr(module, "fit_law", count)
    study(read(tmp_path, table() + table(recipe="b", seed=1)), QUICK)
    assert fitted == [36, 31, 36, 31]


def test_recipes_are_compared_by_law_or_by_one_factor(tmp_path: Path) -> None:
    worse = Law(LAW.A * 1.3, LAW.B * 1.3, LAW.E, LAW.alpha, LAW.beta)
    rows = table() + table(worse, "b", 1)[:35] + table(worse, "c", 2)[:3]
    by_law, by_factor = study(read(tmp_path, rows), QUICK).rivals
    assert by_law.second == "b" and not by_law.joint.exponents_differ and by_law.joint.crossover is None
    true = 1.3 ** (1 / LAW.alpha + 1 / LAW.beta)
    assert all(found.low < true < found.high for _, found in by_law.joint.shared.multiplier)
    assert by_law.cells.n == 35 and by_law.cells.difference.low > 0
    assert by_factor.second == "c" and by_factor.joint is None
    assert by_factor.factor.ratio.value == pytest.approx(1.3, rel=0.1)


def test_a_ray_gives_a_law_in_compute_and_a_reason(tmp_path: Path) -> None:
    n = np.geomspace(1e8, 1e10, 24)
    rows = [f"{x},{20 * x},{float(LAW.predict(x, 20 * x))},a" for x in n]
    (recipe,) = study(read(tmp_path, rows), QUICK).recipes
    assert recipe.law is None and "N and D move together" in recipe.reason
    assert all("too few points" in minimum.reason for minimum in recipe.isoflop[0].minima)
    assert recipe.power_laws[1].floor.value == pytest.approx(1.69, abs=0.1)


def test_a_recipe_with_a_law_leads_a_larger_one_without(tmp_path: Path) -> None:
    n = np.geomspace(1e8, 1e10, 40)
    ray = [f"{x},{20 * x},{float(LAW.predict(x, 20 * x))},ray" for x in n]
    result = study(read(tmp_path, ray + table()), QUICK)
    assert [view.name for view in result.recipes] == ["a", "ray"]
    assert result.recipes[0].law and result.recipes[1].reason
    assert [(rival.first, rival.second) for rival in result.rivals] == [("a", "ray")]


def test_the_summary_says_that_priors_made_a_law(tmp_path: Path) -> None:
    few, many = (summary(study(read(tmp_path, rows), QUICK)) for rows in (table()[::5][:7], table()))
    assert any("with priors" in line and "as 7 runs are few" in line for line in few)
    assert not any("prior" in line for line in many)


def test_tokens_per_parameter_follow_the_interval_of_n(tmp_path: Path) -> None:
    for row in study(read(tmp_path, table()), QUICK).recipes[0].plan:
        low, high = row.tokens_per_parameter_interval or (None, None)
        assert (low is None) == (row.name != "law")
        if low is not None:
            assert low < row.tokens_per_parameter < high
            assert [low, high] == pytest.approx([row.C / 6 / end**2 for end in reversed(row.N_interval)])


def test_the_line_of_least_loss_begins_where_its_runs_do(tmp_path: Path) -> None:
    runs = read(tmp_path, table())
    (recipe,) = study(replace(runs, C=3 * runs.C), QUICK).recipes
    assert recipe.frontier[0][0] == pytest.approx((6 * runs.N * runs.D).min())


def tuned(folder: Path, rates: tuple[float, ...]) -> RunTable:
    """Learning rate and shape vary; each rate at each of three sizes, or one rate a size."""
    rng = np.random.default_rng(0)
    rows = ["N,D,loss,lr,width,depth"]
    for i, row in enumerate(table()):
        n, d, loss, _ = row.split(",")
        for rate in rates or (1e-3 * (1 + i % 3),):
            off = 0.01 * np.log(rate / 2e-3) ** 2 + 0.003 * rng.normal() + 0.02 * (i % 6 - 2.5) ** 2
            rows.append(f"{n},{d},{float(loss) * np.exp(off)},{rate},{64 * (1 + i % 6)},8")
    (folder / "runs.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return read_table(folder / "runs.csv")


def test_tuning_takes_the_level(tmp_path: Path) -> None:
    runs = tuned(tmp_path, (5e-4, 1e-3, 2e-3, 4e-3))
    wide, narrow = (study(runs, replace(QUICK, level=level)) for level in (0.95, 0.6))
    for a, b in (
        (wide.knobs[0].n_exponent, narrow.knobs[0].n_exponent),
        (wide.aspects[0].best, narrow.aspects[0].best),
    ):
        assert a.value == b.value and a.high - a.low > b.high - b.low


def test_tuning_without_repeats_has_a_reason(tmp_path: Path) -> None:
    rate = study(tuned(tmp_path, ()), QUICK).knobs[0]
    assert rate.knob == "lr" and rate.reason == "no runs of equal N and D differ in it"


@pytest.mark.parametrize("count", [1, 2])
def test_fewer_than_three_runs_make_no_law(tmp_path: Path, count: int) -> None:
    with pytest.raises(InputError, match=f"no law can be fitted: {count} runs, a law needs"):
        study(read(tmp_path, table()[:count]), QUICK)


@pytest.mark.parametrize("count", [3, 7])
def test_few_runs_are_no_error(tmp_path: Path, count: int) -> None:
    result = study(read(tmp_path, table()[::5][:count]), QUICK)
    (recipe,) = result.recipes
    assert (recipe.law is None) == (count < 4)
    if count < 4:
        assert recipe.reason
    else:  # the prior must not outweigh the runs
        assert recipe.law.prior and recipe.law.residual_rms < 0.02
        losses = [row.loss for row in recipe.sensitivity if row.loss]
        assert losses == pytest.approx([losses[0]] * len(losses), rel=0.1)
    write_json(tmp_path / "study.json", result.model_dump(mode="json"))
    assert Study.model_validate_json((tmp_path / "study.json").read_bytes()) == result


def test_a_walk_of_the_command_enters_few_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From the parsed arguments to the page; a table of several recipes and of what was tuned takes three more."""
    rows = [row.rpartition(",")[0] for row in table()]
    (tmp_path / "runs.csv").write_text("N,D,loss\n" + "\n".join(rows) + "\n")
    arguments = argparse.Namespace(
        runs=[str(tmp_path / "runs.csv")], out=tmp_path / "out", column=[], huber_delta=1e-3, level=0.9, seed=0,
        json=False,
    )  # fmt: skip
    entered = files_entered(lambda: command.run(arguments))
    assert "page: " in capsys.readouterr().out
    assert len(entered) <= 12, sorted(entered)
