"""The scaling page: the study's numbers stand on it, hostile names are words, and nothing is loaded or run."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.base.files import read_json, write_json
from stages.publishing import scaling_report
from stages.publishing.scaling.charts import LIMIT, compute_chart, isoflop_chart
from stages.publishing.scaling.figure import Target
from stages.publishing.scaling.page import scaling_page
from stages.publishing.scaling.recipes import knob_view, rival_view
from stages.publishing.scaling.tables import between, withheld_words
from stages.scaling.laws.estimate import Options
from stages.scaling.laws.law import Law
from stages.scaling.study.study import study
from stages.scaling.tables.table import read_table
from tests.publishing.html_page import Page

LAW = Law(406.4, 410.7, 1.69, 0.34, 0.28)
TARGET = Target(1e10, 1e11, 1e22, 2.5, 2.4, 2.6, 2.45)
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


def test_runs_and_target_stand_at_what_the_law_counts(result: dict[str, Any]) -> None:
    """A table's own C, with attention say, would lay runs beside the line of least loss."""
    other = [point | {"C": 3 * point["C"]} for point in result["points"]]
    assert compute_chart(result | {"points": other}, TARGET) == compute_chart(result, TARGET)
    assert compute_chart(result, replace(TARGET, flops=1e23)) == compute_chart(result, TARGET)
    assert "6·N·D" in compute_chart(result, TARGET)


def test_the_headline_counts_the_runs_of_the_law(result: dict[str, Any]) -> None:
    law = result["recipes"][0]["law"]
    assert (len(result["points"]), law["n"]) == (60, 30)
    html = scaling_page(result, "t")
    assert "30 runs of plain say that" in html and "runs make the law, of 60 up to 1e21 FLOPs" in html
    assert "30 small runs, one law" in scaling_page(result, "t", target=TARGET)
    larger = result["recipes"][1] | {"range": {"C": [1e19, 5e21]}}
    assert "up to 5e21 FLOPs" in scaling_page(result | {"recipes": [result["recipes"][0], larger]}, "t")


def test_tokens_per_parameter_have_their_interval(result: dict[str, Any]) -> None:
    best = next(row for row in result["recipes"][0]["plan"] if row["name"] == "law" and row["reach"] > 1)
    ends = between(*best["tokens_per_parameter_interval"])
    assert ends and scaling_page(result, "t").count(ends) == 2  # tile and table


def test_many_runs_are_drawn_in_part_and_that_is_said(result: dict[str, Any]) -> None:
    assert "picked at random" not in scaling_page(result, "t")
    few = [point for point in result["points"] if point["recipe"] != "plain"]
    many = [point for point in result["points"] if point["recipe"] == "plain"] * 100
    crowd = result | {"points": many + few}
    chart = compute_chart(crowd, None)
    assert chart.count('class="point') == LIMIT and chart.count("<rect") == len(few)
    assert compute_chart(crowd, None) == chart
    assert scaling_page(crowd, "t").count("2\u202f000 of 3\u202f030 runs are drawn, picked at random.") == 2


def minimum(C: float, sizes: int, reason: str = "") -> dict[str, Any]:
    tried = [[1e8 * 2**i, 3 + 0.1 * (i - 2) ** 2] for i in range(sizes)]
    return {
        "C": C,
        "points": sizes,
        "N": 4e8,
        "D": 1e10,
        "loss": 3.0,
        "reason": reason,
        "curvature": None,
        "tried": tried,
    }


def test_budgets_left_out_are_counted(result: dict[str, Any]) -> None:
    minima = [minimum(10.0**i, 5) for i in range(10, 27)] + [minimum(10.0**i, 1, "1 distinct sizes") for i in (28, 29)]
    view = result["recipes"][0]["isoflop"][0] | {"minima": minima}
    first = result["recipes"][0] | {"isoflop": [view, view]}
    html = scaling_page(result | {"recipes": [first, *result["recipes"][1:]]}, "t")
    assert "Drawn: 12 of 19 budgets" in html
    assert "2 of the budgets hold runs of a single size" in html and "1 distinct sizes" not in html
    assert isoflop_chart(view).count('class="note') == 1  # all curves end at one place, where one label has room


def test_charts_stay_readable_on_a_phone(result: dict[str, Any]) -> None:
    html = scaling_page(result, "t")
    css = html.split("max-width: 600px")[1]
    widths = {int(width) for width in re.findall(r'viewBox="0 0 (\d+)', html)}
    sizes = {int(start): int(size) for start, size in re.findall(r'\^="0 0 (\d)"\] text { font-size: (\d+)px', css)}
    for width in widths:
        assert sizes.get(width // 100, 12) * 384 / width > 9, width


def test_one_withheld_run_is_spoken_of_as_one() -> None:
    point = {"low": 2.0, "loss": 2.5, "high": 3.0}
    said = withheld_words({"points": [point], "mean_abs_error": 0.0511, "max_abs_error": 0.0511, "reason": ""})
    assert said == "Fitted without the run of most compute, the law misses it by 5.11 %; it lies inside its interval."


def test_tuning_without_repeats_says_why_and_gives_the_level(result: dict[str, Any]) -> None:
    html = scaling_page(result, "t")
    assert "No runs of equal N and D differ in it." in html and "In brackets: 90 % intervals." in html


def test_an_exponent_of_rounding_is_zero() -> None:
    cell = {"N": 1e8, "D": 1e9, "tried": 3, "value": 0.01, "loss": 3.0, "reason": ""}
    exponents = {"N": [-3.07e-16, -1.69e-15, 1.08e-15], "D": [-0.25, -0.3, -0.2]}
    view = {"recipe": "", "knob": "lr", "cells": [cell], "reason": "", "exponents": exponents}
    assert "N^0  (0 – 0) · D^−0.25  (−0.3 – −0.2)." in knob_view(view)["said"]


@pytest.mark.parametrize(
    ("at", "words"),
    [
        ([3.1e16, 1e3, 2e19], "3.1e16 FLOPs  (1k – 2e19); outside the 1e18 – 1e21 FLOPs that both were run at"),
        ([3e19, 1e3, 2e20], "3e19 FLOPs  (1k – 2e20); the interval reaches beyond the 1e18 – 1e21 FLOPs"),
        ([3e19, 2e19, 2e20], "3e19 FLOPs  (2e19 – 2e20)"),
    ],
)
def test_a_crossover_beyond_the_runs_is_said(at: list[float], words: str) -> None:
    pair = {"multiplier": [[1e21, 0.853, 0.766, 1.13]], "slopes": [[0.1] * 3] * 2, "intercepts": [[8.0] * 3] * 2}
    joint: dict[str, Any] = {
        "exponents_differ": True, "range": [1e18, 1e21], "crossover": at, "separate": pair | {"objective": 1.0},
        "shared": {"objective": 1.0}, "difference": {name: [0.1, 0.0, 0.2] for name in ("alpha", "beta", "gamma")},
    }  # fmt: skip
    view = rival_view({"first": "a", "second": "b", "joint": joint, "cells": None}, 0.9)
    said = dict(view["facts"])["they cross at"]
    assert said.startswith(words) and (len(said) > len(words)) == ("reaches" in said)
    assert "1 lies inside the interval, so which of the two needs less isn't settled" in view["verdict"]
    joint["separate"] = joint["separate"] | {"multiplier": [[1e21, 0.853, 0.766, 0.93]]}
    assert "settled" not in rival_view({"first": "a", "second": "b", "joint": joint, "cells": None}, 0.9)["verdict"]


def test_hostile_names_are_words_and_nothing_is_fetched(result: dict[str, Any]) -> None:
    page = Page(scaling_page(result, HOSTILE))
    assert all(tag != "script" for tag, _ in page.tags) and HOSTILE in page.text
    html = scaling_page(result, HOSTILE)
    assert "<script" not in html and "&lt;script&gt;" in html and "http" not in html.replace("http-equiv", "")


def test_the_planned_run_stands_beside_its_prediction(result: dict[str, Any]) -> None:
    html = scaling_page(result, "t", target=TARGET, plan=[("model", "m")], reasons=["because"])
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
        "alternatives": [{"name": "as planned", "n": 10, "tokens": 100}],
    }  # fmt: skip
    write_json("data/scaling/fit/study.json", result)
    write_json("data/scaling/plan/plan.json", plan)
    write_json("data/pretraining/pretrain/metrics.json", {"validation_loss": 2.7})
    scaling_report.main()
    html = Path("reports/scaling.html").read_text(encoding="utf-8")
    assert "2.700 was reached" in html and "outside its" in html and 'href="index.html"' in html
    assert read_json("data/publishing/scaling_report/record.json")["outputs"]
