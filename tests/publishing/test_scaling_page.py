"""The scaling page: the study's numbers stand on it, hostile names are words, and nothing is loaded or run."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.base.files import read_json, write_json
from stages.publishing import scaling_report
from stages.publishing.scaling_figure import Target
from stages.publishing.scaling_page import scaling_page
from stages.scaling.belief import Options
from stages.scaling.law import Law
from stages.scaling.study import study
from stages.scaling.table import read_table
from tests.publishing.html_page import Page

LAW = Law(406.4, 410.7, 1.69, 0.34, 0.28)
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Two recipes, one with a hostile name, at five budgets; as read back from JSON, where NaN is null."""
    folder = tmp_path_factory.mktemp("study")
    rng = np.random.default_rng(0)
    rows = ["run,recipe,N,D,loss,lr,width,depth"]
    for recipe, ratio in (("plain", 1.0), (HOSTILE, 1.2)):
        for budget in np.geomspace(1e19, 1e21, 5):
            for i, around in enumerate(np.geomspace(0.2, 5, 6)):
                n = LAW.optimum(budget).N * around
                loss = (LAW.E + ratio * (float(LAW.predict(n, budget / 6 / n)) - LAW.E)) * np.exp(0.003 * rng.normal())
                rows.append(
                    f"{HOSTILE}{i},{recipe},{n},{budget / 6 / n},{loss},{0.01 * (i + 1)},{64 * (i + 1)},{8 + i}"
                )
    (folder / "runs.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    write_json(folder / "study.json", study(read_table(folder / "runs.csv"), Options(draws=60)))
    return read_json(folder / "study.json")


def test_the_page_says_what_the_study_says(result: dict[str, Any]) -> None:
    html = scaling_page(result, "mine")
    law = result["recipes"][0]["law"]
    assert f"{law['a']:.3f}" in html and f"{100 * result['recipes'][0]['withheld']['mean_abs_error']:.2f} %" in html
    for section in ("compute", "isoflop", "residuals", "withheld", "sensitivity", "recipes", "plan", "runs"):
        assert f'<section id="{section}">' in html
    minima = result["recipes"][0]["isoflop"][0]["minima"]
    assert html.count("<title>best size at ") == sum(not minimum["reason"] for minimum in minima) > 2
    assert "index.html" not in html  # anyone's page links to no leaderboard


def test_compute_that_isnt_six_n_d_is_said(result: dict[str, Any]) -> None:
    assert "own C" not in scaling_page(result, "t")
    counted = [point | {"C": 0.8 * point["C"]} for point in result["points"]]
    assert "0.8 to 0.8 times that" in scaling_page(result | {"points": counted}, "t").replace("&#39;", "'")


def test_hostile_names_are_words_and_nothing_is_fetched(result: dict[str, Any]) -> None:
    page = Page(scaling_page(result, HOSTILE))
    assert all(tag != "script" for tag, _ in page.tags) and HOSTILE in page.text
    html = scaling_page(result, HOSTILE)
    assert "<script" not in html and "&lt;script&gt;" in html and "http" not in html.replace("http-equiv", "")


def test_the_planned_run_stands_beside_its_prediction(result: dict[str, Any]) -> None:
    html = scaling_page(
        result, "t", target=Target(1e22, 2.5, 2.4, 2.6, 2.45), plan=[("model", "m")], reasons=["because"]
    )
    assert "2.500 was predicted, 2.450 was reached." in html and "inside its" in html and "because" in html


def test_no_law_is_said_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text("N,D,loss\n1e8,2e9,3\n2e8,2e9,2.9\n4e8,2e9,2.8\n")
    html = scaling_page(study(read_table(tmp_path / "runs.csv"), Options(draws=60)), "t")
    assert "no law in parameters and tokens" in html and "3 runs, a law needs 4" in html


def test_the_stage_publishes_the_page(result: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["scaling_report"])
    Path("params.yaml").write_text("publishing:\n  scaling_report: {title: Trainyard}\n")
    plan = {
        "planned_flops": 1e22, "predicted_loss": 2.5, "interval": [2.4, 2.6], "reasons": ["because"],
        "budget_flops": 1e22, "shape": "d", "n_params": 10, "n_nonembedding": 5, "tokens": 100,
        "tokens_per_parameter": 10.0, "batch_tokens": 10, "lr": 0.01,
        "data": {"unique_tokens": 90, "passes": 0.9, "fresh_tokens": 90},
        "optimum": {"n": 10, "tokens": 100}, "model": {"n_layer": 1, "d_model": 8, "n_head": 1},
    }  # fmt: skip
    write_json("data/scaling/fit/study.json", result)
    write_json("data/scaling/plan/plan.json", plan)
    write_json("data/pretraining/pretrain/metrics.json", {"validation_loss": 2.7})
    scaling_report.main()
    html = Path("reports/scaling.html").read_text(encoding="utf-8")
    assert "2.700 was reached" in html and "outside its" in html and 'href="index.html"' in html
    assert read_json("data/publishing/scaling_report/record.json")["outputs"]
