"""The pages: they say what the files say, list what the files list, and trust nothing from a model."""

import base64
import csv
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from stages.base.errors import InputError
from stages.base.files import read_json, write_json
from stages.publishing import (
    alignment_report,
    board,
    corpus_report,
    evaluation_report,
    report,
    scaling_report,
    training_report,
)
from stages.publishing.index.plan import scaling_summary
from stages.publishing.leaderboard.files import as_csv, published_rows
from stages.publishing.leaderboard.headline import headline
from stages.publishing.training.continuations import continuations_view
from tests.contracts import evaluation, judging, plan, scaling
from tests.publishing.html_page import Page

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("index", "leaderboard", "answers", "alignment", "training", "evaluation", "scaling", "corpus", "tokenizer")
SITE = {f"{name}.html" for name in PAGES} | {f"leaderboard.{kind}" for kind in ("csv", "json", "md")}
TABLES = ROOT / "stages/publishing/html/templates/tables.js"
SetParam = Callable[[str, Any], None]


def made(page: str) -> Page:
    return Page(Path(f"reports/{page}.html").read_text(encoding="utf-8"))


def make_all() -> None:
    for page in (board, alignment_report, training_report, evaluation_report, corpus_report, report):
        page.main()


@pytest.mark.parametrize("name", ["leaderboard", "alignment", "training", "evaluation", "index"])
def test_a_page_is_well_formed_and_loads_nothing(project: Path, name: str) -> None:
    make_all()
    page, text = made(name), Path(f"reports/{name}.html").read_text()
    assert not page.open  # and no tag closed another: `Page` asserts it
    assert not [tag for tag, _ in page.tags if tag in ("iframe", "object", "embed", "img")]
    (policy,) = [found["content"] for tag, found in page.tags if found.get("http-equiv") == "Content-Security-Policy"]
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in page.scripts]
    assert policy and policy.startswith(
        "default-src 'none'; script-src" + "".join(f" 'sha256-{one}'" for one in digests)
    )
    assert "'unsafe-inline'" not in policy.split("style-src")[0] and page.scripts == [TABLES.read_text()]
    identifiers = {attributes.get("id") for _, attributes in page.tags}
    for tag, attributes in page.tags:
        for kind in ("src", "href", "srcset", "data"):
            target = attributes.get(kind) or ""
            file, _, section = target.partition("#")
            assert file in ("", "data:,", *SITE) and (file or not section or section in identifiers), (tag, target)
        assert not [kind for kind in attributes if kind.startswith("on")]
    css = text.split("<style>")[1].split("</style>")[0]
    assert "@import" not in css and "url(" not in css and "http" not in css
    assert "prefers-color-scheme: dark" in css


def test_links_between_pages_lead_to_sections_that_are_there(project: Path) -> None:
    make_all()
    for _, attributes in made("index").tags:
        file, _, section = (attributes.get("href") or "").partition("#")
        if section and file and file != "scaling.html":
            assert f'id="{section}"' in Path(f"reports/{file}").read_text(), attributes["href"]


def test_words_of_models_and_prompts_stay_words(judged: Path, set_param: SetParam) -> None:
    set_param("publishing.board.prompts", 8)  # all of them, the hostile one too
    board.main()
    assert 'dpo says <script>alert("x")</script>' in made("leaderboard").text
    text = Path("reports/leaderboard.html").read_text()
    assert text.count("<script") == 1 and "onerror=alert(1)>" not in text, "one script, ours"
    assert text.count("A correct answer:") == 7, "none is shown where none is known"


def test_the_board_needs_judging_and_questions_only(judged: Path) -> None:
    board.main()
    inputs = read_json("data/publishing/board/record.json")["inputs"]
    assert {path.split("/")[1] for path in inputs} == {"judging", "alignment"}
    for words in ("66.4", "57.2", "simulated annotators", "gets 66\u202f% of unseen"):
        assert " ".join(words.split()) in made("leaderboard").text, words


def test_without_truth_the_board_goes_by_win_rates(judged: Path) -> None:
    rows = [judging.row(name, right=None, right_low=None, right_high=None) for name in judging.MODELS]
    found = judging.leaderboard(rows=rows, comparisons=[])
    write_json("data/judging/leaderboard/leaderboard.json", found.model_dump(mode="json"))
    board.main()
    page = made("leaderboard")
    assert "DPO wins 56\u202f% of comparisons with sft" in Path("reports/leaderboard.html").read_text()
    assert "Exactly right" not in page.text, "neither the column nor how to read it"
    lines = Path("reports/leaderboard.md").read_text().splitlines()
    assert "Exactly right" not in " ".join(lines) and {line.count("|") for line in lines if "|" in line} == {9}
    assert not [name for name in read_json("data/publishing/board/summary.json")["metrics"] if "right" in name]


def test_a_misspelt_model_is_named(judged: Path, set_param: SetParam, capsys: pytest.CaptureFixture[str]) -> None:
    set_param("publishing.board.side_by_side", ["stf"])
    with pytest.raises(SystemExit) as stopped:
        board.main()
    assert stopped.value.code == 2
    assert "no `stf` on the leaderboard; did you mean `sft`?" in capsys.readouterr().err
    assert not Path("reports/leaderboard.html").exists()


def test_csv_and_json_hold_the_leaderboard_under_the_names_of_alpaca_eval(judged: Path) -> None:
    board.main()
    with Path("reports/leaderboard.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    published = read_json("reports/leaderboard.json")
    official = (
        "win_rate standard_error n_wins n_wins_base n_draws n_total discrete_win_rate avg_length "
        "length_controlled_winrate lc_standard_error"
    )
    assert set(official.split()) <= set(rows[0])
    assert [row["model"] for row in rows] == list(judging.MODELS)
    for row, full, truth in zip(rows, published["rows"], judging.leaderboard().rows, strict=True):
        assert float(row["length_controlled_winrate"]) == pytest.approx(truth.lc_win_rate, rel=1e-5)
        assert full["length_controlled_winrate"] == truth.lc_win_rate and full["lineage"] == truth.lineage
        assert row["control"] == ("yes" if truth.control else "no")
        assert row["judge_simulated"] == "yes" and "simulated" in row["judge"], "wherever the number goes"


def test_a_row_without_numbers_is_shown_as_such() -> None:
    row = judging.row("a", kind="endpoint", win_rate=None, source="prompts/standard.txt")
    assert (
        as_csv(published_rows(judging.leaderboard(rows=[row]))).splitlines()[1].startswith("1,,a,endpoint,no,no,no,,")
    )


@pytest.mark.parametrize(("low", "words"), [(10.0, "8\u202f%"), (-1.0, "no clear difference")])
def test_the_headline_does_not_flatter(low: float, words: str) -> None:
    rows = [
        judging.row("sft", right=12.0, right_low=8.0),
        judging.row("constant", right=8.0, right_high=11.0),
    ]
    compared = judging.leaderboard().comparisons[0].model_copy(update={"model": "sft", "low": low})
    assert words in headline(judging.leaderboard(rows=rows, comparisons=[compared]))


def test_held_out_text_is_continued_beside_the_document(project: Path) -> None:
    training_report.main()
    page = made("training")
    assert "docs def load(path): \ufffd</p><script>alert(2)</script> …" in page.text
    assert "the document as it was written pretrain pretrain <b>goes on anneal anneal <b>goes on" in page.text
    rows = read_json("data/pretraining/anneal/samples.json")
    with pytest.raises(InputError, match="pretrain and anneal continue other documents"):
        continuations_view({"pretrain": rows[1:], "anneal": rows[:1]})


def test_curves_are_drawn_and_left_for_dvc(project: Path, set_param: SetParam) -> None:
    write_json("data/pretraining/branch/all_best/metrics.json", {"validation_loss": 2.5})
    set_param("pretraining.branches", {"all_best": {"share": 1.0}})
    training_report.main()
    page = made("training")
    curves = {path.stem: path.read_text().split()[1:] for path in Path("data/publishing").rglob("curves/*.csv")}
    assert sum(tag == "svg" for tag, _ in page.tags) == 11
    assert "all best 2.5000" in page.text and "On 75 held-out pairs: 55.0% as annotated" in page.text
    assert curves["anneal_loss"][0].startswith("600,"), "the anneal starts at the end of the trunk"
    assert 120 < len(curves["pretraining_loss"]) <= 240


def test_alignment_shows_methods_over_their_distance_and_controls_below(project: Path) -> None:
    alignment_report.main()
    text = made("alignment").text
    for words in (
        "dpo preferences 66.4 (63.4 – 69.4) ", "97 1.25 0.10 (0.00 – 0.20) 25 of 8",
        "best_of_n nothing: the reward model picks 68.1", "≤ 0.19", "sft instructions",
        "Length against sft: dpo +8%, ppo +3%, best_of_n +10%.",
        "From one answer to the best of 2, the reward rises by 0.50 and the exact score gains 0.25.",
        "ppo step 59 0.07 0.900 1.100", "ppo sft 0.00 0.100 1.000", "ppo reward d (α − β log d)",
        "Of 75 held-out pairs on 30 prompts it ranks 55.0 % (45.0 % to 65.0 %) as annotated",
        "no better than the control that always prefers the longer answer, 60.0 %",
        "the shorter answer was chosen 25 25.0 −0.30", "error of σ(margin): 0.120",
        "gives these controls more than sft (−0.20): constant +0.50.", "rft right ones, each once 425",
    ):  # fmt: skip
        assert words in text, words
    assert text.index("nearest_neighbour") > text.index("base the corpus"), "controls stand below"
    assert (
        "Best_of_n answers 68.1 % exactly right" in read_json("data/publishing/alignment_report/summary.json")["line"]
    )


def test_the_reliability_chart_has_its_numbers_as_a_table(project: Path) -> None:
    alignment_report.main()
    text = " ".join(made("alignment").text.split())
    for row in ("0.550 0.500 0.300 to 0.600 40", "0.800 0.600 0.400 to 0.800 35"):
        assert row in text


def test_alignment_without_truth_or_probabilities(project: Path) -> None:
    board = judging.leaderboard(rows=[judging.row("sft", right=None, right_low=None, right_high=None)], comparisons=[])
    write_json("data/judging/leaderboard/leaderboard.json", board.model_dump(mode="json"))
    write_json("data/alignment/best_of_n/over_optimisation.json", [])
    write_json("data/evaluation/evaluate/items.json", [])
    alignment_report.main()
    text = made("alignment").text
    assert (
        "sft instructions " in text
        and "Exactly right" not in text
        and "Reward and truth" in text
        and "From one answer" not in text
    )


def test_evaluation_shows_changes_protocols_and_controls(project: Path) -> None:
    evaluation_report.main()
    text = made("evaluation").text
    for words in (
        "ppo 1.370 +0.060", "0.720 (+0.300)", "chance 25.0, the same choice always 28.0", "55.0 49.0 – 61.0",
        "p = 0.430", "would have shown 4 or more copies", "tuning cost ppo most: +0.060 bits per byte",
    ):  # fmt: skip
        assert words in text, words


def test_what_is_unknown_of_contamination_is_said(project: Path) -> None:
    found = evaluation.contamination(
        ordering=[{"task": "own", "examples": 3, "p_value": None, "t": None, "differences": [], "verdict": "unknown",
                   "reason": "3 questions are too few"}],
        power={"planted": [], "detects_from_copies": None, "reason": "nothing to plant"}, overlap=[], accuracy=[],
    )  # fmt: skip
    write_json("data/evaluation/contamination/contamination.json", found.model_dump(mode="json"))
    evaluation_report.main()
    page = made("evaluation")
    assert "unknown: 3 questions are too few" in page.text and "isn't known: nothing to plant" in page.text
    assert read_json("data/publishing/evaluation_report/summary.json")["tiles"][-1]["value"] == "unknown"


def test_the_front_page_is_made_of_what_the_pages_say(project: Path) -> None:
    make_all()
    page = made("index")
    for words in (
        "66.4", "2.768", "2.741", "10 small models", "2 461 documents kept", "8 contestants", "inside the interval",
        "another seed", "CS229", "trainyard trace best_of_n",
    ):  # fmt: skip
        assert words in page.text, words
    for name in ("board", "corpus_report", "evaluation_report"):
        assert " ".join(read_json(f"data/publishing/{name}/summary.json")["line"].split()) in page.text


def test_metrics_are_few_flat_and_of_stable_names(project: Path) -> None:
    make_all()
    metrics = read_json("reports/metrics.json")
    assert len(metrics) <= 15 and all(isinstance(value, int | float) for value in metrics.values())
    assert set(metrics) == {
        "pretrain/loss", "pretrain/bpb", "base/bpb", "base/atlas_facts", "sft/right",
        *(f"{model}/{name}" for model in ("dpo", "ppo") for name in ("right", "win_rate", "lc", "lc_low", "lc_high")),
    }  # fmt: skip


def test_pages_that_params_leave_out_are_nowhere(project: Path, set_param: SetParam) -> None:
    make_all()
    set_param("publishing.site.pages", ["leaderboard", "scaling"])
    for page in (board, report):
        page.main()
    for name in ("leaderboard", "index"):
        links = {attributes.get("href") or "" for _, attributes in made(name).tags}
        assert not [link for link in links if link.startswith(("corpus", "training", "evaluation"))]
    set_param("publishing.site.pages", ["leaderboard"])
    board.main()
    links = {attributes.get("href") or "" for _, attributes in made("leaderboard").tags}
    assert not [
        link for link in links if link.endswith(".html") and link not in ("leaderboard.html", "answers.html")
    ], "no front page"


def test_twice_gives_the_same_bytes_and_the_record_says_so(project: Path) -> None:
    def hashes() -> list[str]:
        make_all()
        return [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(Path("reports").iterdir())]

    first = hashes()
    assert hashes() == first
    record = read_json("data/publishing/report/record.json")
    page = Path("reports/index.html")
    assert record["outputs"]["reports/index.html"] == hashlib.sha256(page.read_bytes()).hexdigest()
    assert "data/judging/leaderboard/leaderboard.json" in record["inputs"]


def test_plots_of_dvc_yaml_are_columns_that_the_pages_write(project: Path) -> None:
    """And of its templates: an interval needs its two ends."""
    write_json("data/scaling/fit/study.json", scaling.study().model_dump(mode="json"))
    make_all()
    scaling_report.main()
    plots = yaml.safe_load((ROOT / "dvc.yaml").read_text())["plots"]
    for plot in (next(iter(one.values())) for one in plots):
        for path, column in plot["y"].items():
            columns = Path(path).read_text().splitlines()[0].split(",")
            ends = [f"{plot['x']}_{end}" for end in ("low", "high")] if plot["template"] == "intervals" else []
            assert {plot["x"], column, *ends} <= set(columns), path


@pytest.mark.parametrize(
    "gone",
    ["pretraining/pretrain", "pretraining/anneal", "pretraining/context", "scaling/plan", "scaling/ladder"]
    + [f"alignment/{name}" for name in ("sft", "reward", "rft", "dpo", "ppo", "grpo", "best_of_n", "proxy_rewards")]
    + ["evaluation/contamination", "alignment/annotate", "publishing/corpus_report"],
)
def test_a_pipeline_that_lacks_a_phase_has_pages_without_its_section(project: Path, gone: str) -> None:
    shutil.rmtree(f"data/{gone}", ignore_errors=True)
    for page in (board, alignment_report, training_report, evaluation_report, report):
        page.main()
    words = {
        "pretraining/context": ("training", "A longer context"),
        "alignment/reward": ("alignment", "Whether the reward model can be believed"),
        "alignment/grpo": ("training", "GRPO: reward"),
        "evaluation/contamination": ("evaluation", "Were the tests in the training data?"),
        "scaling/plan": ("index", "What it costs"),
    }
    if gone in words:
        page_name, heading = words[gone]
        assert heading not in made(page_name).text
    assert all(not made(name).open for name in ("training", "alignment", "index"))


def test_a_run_outside_the_interval_is_told_so() -> None:
    told = scaling_summary(plan.plan(), 2.9, 1.5, 10)
    assert "2.900, outside the interval" in told.line
    assert json.loads(told.model_dump_json())["metrics"] == {"pretrain/loss": 2.9, "pretrain/bpb": 1.5}


def test_tiers_and_trainings_stand_in_page_markdown_csv_and_json(judged: Path) -> None:
    board.main()
    page = made("leaderboard").text
    assert "Tier" in page and "can't be told apart from its first by exactly right answers" in page
    assert "3 trainings: exactly right answers 65.1 % (60.2 – 70.0) over seeds and questions" in page
    assert page.count("one trained model: this interval does not cover a rerun") == 3  # ppo, sft, base
    lines = Path("reports/leaderboard.md").read_text().splitlines()
    assert next(line for line in lines if "| # |" in line).split("|")[2].strip() == "Tier"
    assert next(line for line in lines if "**dpo**" in line).split("|")[2].strip() == "1"
    rows = {row["model"]: row for row in read_json("reports/leaderboard.json")["rows"]}
    assert (rows["dpo"]["tier"], rows["dpo"]["seeds"], rows["dpo"]["seeds_low"]) == (1, 3, 60.2)
    assert (rows["base"]["tier"], rows["base"]["seeds"], rows["constant"]["tier"]) == (3, 1, None)
    # A board without tiers, as made of annotation files, has no column of them.
    plain = judging.leaderboard(tier_metric=None)
    write_json("data/judging/leaderboard/leaderboard.json", plain.model_dump(mode="json"))
    board.main()
    assert "Tier" not in made("leaderboard").text and "Tier" not in Path("reports/leaderboard.md").read_text()
