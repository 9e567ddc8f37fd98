"""The scaling page: the study's numbers stand on it, hostile names are words, and nothing is loaded or run."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stages.base.contracts.study import (
    Cell,
    Hypothesis,
    Joint,
    Knob,
    Measured,
    Minimum,
    Rival,
    Study,
    Withheld,
    WithheldRun,
)
from stages.base.files import read_json, write_json
from stages.publishing import scaling_report
from stages.publishing.scaling.charts import LIMIT, between, compute_chart, isoflop_chart
from stages.publishing.scaling.page import scaling_page, scaling_view, withheld_words
from stages.publishing.scaling.plan import Target
from stages.publishing.scaling.recipes import knob_view, rival_view
from stages.scaling.fit import analyse
from stages.scaling.laws.law import Law
from stages.scaling.laws.parametric import Options
from stages.scaling.study.study import fit_recipes, study
from stages.scaling.tables.table import RunTable, read_table
from tests.contracts import scaling
from tests.contracts.plan import plan
from tests.publishing.html_page import Page

LAW = Law(406.4, 410.7, 1.69, 0.34, 0.28)
TARGET = Target(1e10, 1e11, 1e22, 2.5, 2.4, 2.6, 2.45)
HOSTILE = "<script>alert(1)</script>"


def studied(table: RunTable) -> Study:
    options = Options(draws=60)
    return study(table, fit_recipes(table, options), options)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Two recipes, one with a hostile name, at five budgets."""
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
    return studied(read_table(folder / "runs.csv"))


def test_the_page_says_what_the_study_says(result: Study) -> None:
    html = scaling_page(result, "mine")
    first = result.recipes[0]
    assert first.law and first.withheld and first.withheld.mean_abs_error
    assert f"{first.law.a:.3f}" in html and f"{100 * first.withheld.mean_abs_error:.2f} %" in html
    for section in ("compute", "isoflop", "residuals", "withheld", "sensitivity", "rivals", "knobs", "budgets", "runs"):
        assert f'<section id="{section}">' in html and f'href="#{section}"' in html
    assert html.count("<title>best size at ") == sum(minimum.accepted for minimum in first.isoflop[0].minima) > 2
    assert "index.html" not in html  # anyone's page links to no leaderboard


def test_runs_and_target_stand_at_what_the_law_counts(result: Study) -> None:
    """A table's own C, with attention say, would lay runs beside the line of least loss."""
    other = [run.model_copy(update={"C": 3 * run.C}) for run in result.runs]
    assert compute_chart(result.model_copy(update={"runs": other}), TARGET) == compute_chart(result, TARGET)
    assert compute_chart(result, replace(TARGET, flops=1e23)) == compute_chart(result, TARGET)
    assert "6·N·D" in compute_chart(result, TARGET)["svg"]


def test_the_headline_counts_the_runs_of_the_law(result: Study) -> None:
    first, second = result.recipes
    assert first.law and (len(result.runs), first.law.n) == (60, 30)
    html = scaling_page(result, "t")
    assert "30 runs of plain say that" in html and "runs make the law, of 60 up to 1e21 FLOPs" in html
    assert "30 small runs, one law" in scaling_view(result, plan(), 2.7)[0]["headline"]["lead"]
    larger = second.model_copy(update={"largest": 5e21})
    assert "up to 5e21 FLOPs" in scaling_page(result.model_copy(update={"recipes": [first, larger]}), "t")


def test_tokens_per_parameter_have_their_interval(result: Study) -> None:
    best = next(row for row in result.recipes[0].plan if row.name == "law" and row.reach > 1)
    ends = between(best.tokens_per_parameter_interval)
    assert ends and scaling_page(result, "t").count(ends) == 2  # tile and table


def test_many_runs_are_drawn_in_part_and_that_is_said(result: Study) -> None:
    assert "picked at random" not in scaling_page(result, "t")
    few = [run for run in result.runs if run.recipe != "plain"]
    many = [run for run in result.runs if run.recipe == "plain"] * 100
    crowd = result.model_copy(update={"runs": many + few})
    chart = compute_chart(crowd, None)["svg"]
    assert chart.count('class="point') == LIMIT and chart.count("<rect") == len(few)
    assert compute_chart(crowd, None)["svg"] == chart
    assert scaling_page(crowd, "t").count("2\u202f000 of 3\u202f030 runs are drawn, picked at random.") == 2


def minimum(C: float, sizes: int, reason: str = "") -> Minimum:
    tried = [(1e8 * 2**i, 3 + 0.1 * (i - 2) ** 2) for i in range(sizes)]
    best = (None, None, None) if reason else (4e8, 1e10, 3.0)
    return Minimum(C=C, N=best[0], D=best[1], loss=best[2], curvature=None, reason=reason, tried=tried)


def test_budgets_left_out_are_counted(result: Study) -> None:
    minima = [minimum(10.0**i, 5) for i in range(10, 27)] + [minimum(10.0**i, 1, "1 distinct sizes") for i in (28, 29)]
    view = result.recipes[0].isoflop[0].model_copy(update={"minima": minima})
    first = result.recipes[0].model_copy(update={"isoflop": [view, view]})
    html = scaling_page(result.model_copy(update={"recipes": [first, *result.recipes[1:]]}), "t")
    assert "Drawn: 12 of 19 budgets" in html
    assert "2 of the budgets hold runs of a single size" in html and "1 distinct sizes" not in html
    assert isoflop_chart(view).count('class="note') == 1  # all curves end at one place, where one label has room


def test_charts_stay_readable_on_a_phone(result: Study) -> None:
    html = scaling_page(result, "t")
    css = html.split("max-width: 600px")[1]
    widths = {int(width) for width in re.findall(r'viewBox="0 0 (\d+)', html)}
    sizes = {int(start): int(size) for start, size in re.findall(r'\^="0 0 (\d)"\] text { font-size: (\d+)px', css)}
    for width in widths:
        assert sizes.get(width // 100, 12) * 384 / width > 9, width


def test_one_withheld_run_is_spoken_of_as_one() -> None:
    run = WithheldRun(run="a", N=1e8, D=1e9, C=6e17, loss=2.5, predicted=Measured(2.6, 2.0, 3.0), error=0.0511)
    said = withheld_words(Withheld(runs=[run], reason=""))
    assert said == "Fitted without the run of most compute, the law misses it by 5.11 %; it lies inside its interval."


def test_tuning_without_repeats_says_why_and_gives_the_level(result: Study) -> None:
    html = scaling_page(result, "t")
    assert "No runs of equal N and D differ in it." in html and "In brackets: 90 % intervals." in html


def test_an_exponent_of_rounding_is_zero() -> None:
    cell = Cell(N=1e8, D=1e9, tried=3, value=0.01, reason="")
    view = Knob(
        recipe="", knob="lr", cells=[cell], reason="", n_exponent=Measured(-3.07e-16, -1.69e-15, 1.08e-15),
        d_exponent=Measured(-0.25, -0.3, -0.2),
    )  # fmt: skip
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
    flat, gap = Measured(0.1, 0.1, 0.1), Measured(0.1, 0.0, 0.2)

    def view(high: float) -> dict:
        pair = Hypothesis(
            objective=1.0, multiplier=[(1e21, Measured(0.853, 0.766, high))], slopes=(flat, flat),
            intercepts=(Measured(8.0, 8.0, 8.0),) * 2,
        )  # fmt: skip
        joint = Joint(
            exponents_differ=True, low=1e18, high=1e21, crossover=Measured(*at), separate=pair, shared=pair,
            difference={"alpha": gap, "beta": gap, "gamma": gap},
        )  # fmt: skip
        return rival_view(Rival(first="a", second="b", n=9, cells=None, joint=joint), 0.9)

    said = dict(view(1.13)["facts"])["they cross at"]
    assert said.startswith(words) and (len(said) > len(words)) == ("reaches" in said)
    assert "the interval holds 1, so it isn't settled which of the two needs less" in view(1.13)["verdict"]
    assert "settled" not in view(0.93)["verdict"]


def test_hostile_names_are_words_and_nothing_is_fetched(result: Study) -> None:
    page = Page(scaling_page(result, HOSTILE))
    assert len(page.scripts) == 1 and HOSTILE in page.text
    html = scaling_page(result, HOSTILE)
    assert html.count("<script") == 1 and "&lt;script&gt;" in html and "http" not in html.replace("http-equiv", "")


def test_no_law_is_said_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text("N,D,loss\n1e8,2e9,3\n2e8,2e9,2.9\n4e8,2e9,2.8\n")
    html = scaling_page(studied(read_table(tmp_path / "runs.csv")), "t")
    assert "no law in parameters and tokens" in html and "3 runs, a law needs 4" in html


def test_what_isnt_there_is_left_out() -> None:
    """A ladder without LSTMs, no plan, and a plan whose run hasn't been made."""
    transformers = [point for point in scaling.points() if point.arch == "transformer"]
    _, alone = analyse(transformers, scaling.fit_params(), seed=1)
    html = scaling_page(alone, "t")
    assert "lstm" not in html.lower() and "reached" not in html.split('<section id="withheld">')[0]
    for section in ("rivals", "knobs", "plan"):
        assert f'id="{section}"' not in html and f'href="#{section}"' not in html
    planned, sections = scaling_view(alone, plan())
    assert planned["plan"]["facts"] and ("plan", "Plan") in sections
    assert "predicted" not in planned["headline"]["claim"]


@pytest.mark.parametrize(("reached", "where"), [(2.741, "inside its"), (2.9, "outside its")])
def test_the_stage_shows_the_planned_run_beside_its_prediction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reached: float, where: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["scaling_report"])
    Path("params.yaml").write_text("publishing:\n  site: {title: Trainyard, pages: [leaderboard, scaling]}\n")
    write_json("data/scaling/fit/study.json", scaling.study().model_dump(mode="json"))
    write_json("data/scaling/plan/plan.json", plan().model_dump(mode="json"))
    write_json("data/pretraining/pretrain/metrics.json", {"validation_loss": reached})
    scaling_report.main()
    html = Path("reports/scaling.html").read_text(encoding="utf-8")
    assert f"2.741 was predicted, {reached:.3f} was reached." in html and where in html
    assert plan().reasons[0] in html and 'href="leaderboard.html"' in html
    assert read_json("data/publishing/scaling_report/record.json")["outputs"]


@pytest.mark.parametrize("planned", [True, False])
def test_a_pipeline_that_trains_nothing_by_its_ladder_has_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, planned: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["scaling_report"])
    Path("params.yaml").write_text("publishing:\n  site: {title: Trainyard, pages: [scaling]}\n")
    write_json("data/scaling/fit/study.json", scaling.study().model_dump(mode="json"))
    if planned:
        write_json("data/scaling/plan/plan.json", plan().model_dump(mode="json"))
    scaling_report.main()
    html = Path("reports/scaling.html").read_text(encoding="utf-8")
    assert "was reached" not in html and ('id="plan"' in html) == planned
