"""The study of a table: its numbers are the fits', recipes are compared, and little data gives reasons, not errors."""

import json
from pathlib import Path

import numpy as np
import pytest

from stages.base.errors import InputError
from stages.base.files import write_json
from stages.scaling.belief import Options
from stages.scaling.fit import Law, fit_parametric
from stages.scaling.study import study
from stages.scaling.table import RunTable, read_table

LAW = Law(406.4, 410.7, 1.69, 0.34, 0.28)
QUICK = Options(draws=60)


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
    (recipe,) = result["recipes"]
    fit = fit_parametric(runs.N, runs.D, runs.loss)
    assert recipe["law"]["alpha"] == fit.alpha and recipe["law"]["prior"] is None
    assert [point["residual"] for point in result["points"]] == pytest.approx([-r for r in fit.residuals])
    assert recipe["sensitivity"][0]["law"]["alpha"] == fit.alpha
    best = recipe["plan"][0]
    assert (best["N"], best["D"]) == pytest.approx(fit.optimum(best["C"]))
    assert best["loss"] <= min(row["loss"] for row in recipe["plan"] if row["C"] == best["C"])
    held = recipe["withheld"]
    assert len(held["points"]) == 5 and held["mean_abs_error"] < 0.02
    assert min(p["C"] for p in held["points"]) >= np.sort(runs.C)[-5]
    band = recipe["frontier"]
    assert all(low <= value <= high for low, value, high in zip(band["low"], band["loss"], band["high"], strict=True))


def test_equal_tables_give_equal_studies(tmp_path: Path) -> None:
    runs = read(tmp_path, table())
    assert json.dumps(study(runs, QUICK)) == json.dumps(study(runs, QUICK))


def test_recipes_are_compared_by_law_or_by_one_factor(tmp_path: Path) -> None:
    worse = Law(LAW.A * 1.3, LAW.B * 1.3, LAW.E, LAW.alpha, LAW.beta)
    rows = table() + table(worse, "b", 1)[:35] + table(worse, "c", 2)[:3]
    by_law, by_factor = study(read(tmp_path, rows), QUICK)["rivals"]
    assert by_law["second"] == "b" and not by_law["joint"]["exponents_differ"] and by_law["joint"]["crossover"] is None
    true = 1.3 ** (1 / LAW.alpha + 1 / LAW.beta)
    assert all(low < true < high for _, _, low, high in by_law["joint"]["shared"]["multiplier"])
    assert by_law["cells"]["n"] == 35 and by_law["cells"]["difference"][1] > 0
    assert by_factor["second"] == "c" and by_factor["joint"] is None
    assert by_factor["ratio"]["ratio"][0] == pytest.approx(1.3, rel=0.1)


def test_a_ray_gives_a_law_in_compute_and_a_reason(tmp_path: Path) -> None:
    n = np.geomspace(1e8, 1e10, 24)
    rows = [f"{x},{20 * x},{float(LAW.predict(x, 20 * x))},a" for x in n]
    (recipe,) = study(read(tmp_path, rows), QUICK)["recipes"]
    assert recipe["law"] is None and "N and D move together" in recipe["reason"]
    assert all("too few points" in m["reason"] for m in recipe["isoflop"][0]["minima"])
    assert recipe["power_laws"][1]["law"]["floor"] == pytest.approx(1.69, abs=0.1)


@pytest.mark.parametrize("count", [1, 2])
def test_fewer_than_three_runs_make_no_law(tmp_path: Path, count: int) -> None:
    with pytest.raises(InputError, match=f"no law can be fitted: {count} runs, a law needs"):
        study(read(tmp_path, table()[:count]), QUICK)


@pytest.mark.parametrize("count", [3, 7])
def test_few_runs_are_no_error(tmp_path: Path, count: int) -> None:
    result = study(read(tmp_path, table()[::5][:count]), QUICK)
    (recipe,) = result["recipes"]
    assert (recipe["law"] is None) == (count < 4)
    if count < 4:
        assert recipe["reason"]
    else:  # the prior must not outweigh the runs
        assert recipe["law"]["prior"] and recipe["law"]["residual_rms"] < 0.02
        losses = [row["law"]["loss"] for row in recipe["sensitivity"] if row["law"]]
        assert losses == pytest.approx([losses[0]] * len(losses), rel=0.1)
    write_json(tmp_path / "study.json", result)
