"""The report: it says what the files say, lists what the params list, and trusts nothing from a model."""

import csv
import hashlib
import json
import re
from pathlib import Path

import pytest
import yaml

from stages.base.errors import InputError
from stages.publishing import report
from stages.publishing.index.headline import headline
from stages.publishing.index.leaderboard_files import as_csv, published_rows
from stages.publishing.index.samples import continuations_view
from stages.publishing.scaling.figure import frontier
from stages.scaling.laws.law import Law
from tests.publishing.html_page import Page

PAGE = Path("reports/index.html")


def made() -> Page:
    report.main()
    return Page(PAGE.read_text(encoding="utf-8"))


def test_the_page_is_well_formed_and_loads_nothing(project: Path) -> None:
    page = made()
    assert not page.open  # and no tag closed another: `Page` asserts it
    assert not [tag for tag, _ in page.tags if tag in ("script", "iframe", "object", "embed", "img")]
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "data"):
            target = attributes.get(name)
            assert target is None or target.startswith("#") or target in ("data:,", "corpus.html", "scaling.html"), (
                tag,
                target,
            )
        assert not [name for name in attributes if name.startswith("on")]
    css = PAGE.read_text().split("<style>")[1].split("</style>")[0]
    assert "@import" not in css and "url(" not in css and "http" not in css
    assert "prefers-color-scheme: dark" in css


def test_words_of_models_and_prompts_stay_words(project: Path) -> None:
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["publishing"]["report"]["prompts"] = 8  # all of them, the hostile one too
    Path("params.yaml").write_text(json.dumps(params))
    page = made()
    assert 'dpo says <script>alert("x")</script>' in page.text
    assert "<script" not in PAGE.read_text() and "onerror=alert(1)>" not in PAGE.read_text()


def test_held_out_text_is_continued_beside_the_document(project: Path) -> None:
    page = made()
    assert "docs def load(path): \ufffd</p><script>alert(2)</script> …" in page.text
    assert "the document as it was written pretrain pretrain <b>goes on anneal anneal <b>goes on" in page.text
    rows = json.loads(Path("data/pretraining/anneal/samples.json").read_text())
    with pytest.raises(InputError, match="pretrain and anneal continue other documents"):
        continuations_view({"pretrain": rows[1:], "anneal": rows[:1]})


def test_every_section_and_number_is_there(project: Path) -> None:
    page = made()
    identifiers = {attributes.get("id") for _, attributes in page.tags}
    assert {
        "leaderboard",
        "samples",
        "scaling",
        "training",
        "corpus",
        "evaluation",
        "contamination",
        "cost",
        "reproduce",
    } <= identifiers
    links = {
        attributes["href"][1:]
        for tag, attributes in page.tags
        if tag == "a" and attributes.get("href", "").startswith("#")
    }
    assert links <= identifiers
    for words in (
        "66.4",
        "57.2",
        "2.768",
        "2.741",
        "simulated annotators",
        "1.630 (+0.020)",
        "p = 0.430",
        "gets 66 % of unseen",
    ):
        assert words in page.text, words
    assert page.text.count("control") >= 3
    assert sum(tag == "svg" for tag, _ in page.tags) >= 8


def test_the_chart_draws_what_the_law_counts(project: Path) -> None:
    """Points of the ladder hold attention's FLOPs too, in which the line of least loss isn't drawn."""
    made()
    chart = PAGE.read_text().split('<section id="scaling">')[1].split("</svg>")[0]
    assert "training compute as 6·N·D, FLOPs" in chart
    for path in (Path("data/scaling/fit/fit.json"), Path("data/scaling/plan/plan.json")):
        held = json.loads(path.read_text())
        for row in held.get("points", [held]):
            row["flops" if "flops" in row else "planned_flops"] *= 1.5
        path.write_text(json.dumps(held))
    made()
    assert PAGE.read_text().split('<section id="scaling">')[1].split("</svg>")[0] == chart


def test_cost_shows_training_and_serving_side_by_side(project: Path) -> None:
    page = made()
    assert "equal loss, 1e+09 tokens served, saves 25 % 1.2M 9.1M 1.47 7.58 66T 2.5e15 2.741 2.660 – 2.830" in page.text
    assert "150 tokens per parameter, more passes than allowed 270k" in page.text
    assert "0.98 passes over the packed stream" in page.text


def test_twice_gives_the_same_bytes_and_the_record_says_so(project: Path) -> None:
    def hashes() -> list[str]:
        report.main()
        return [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(Path("reports").iterdir())]

    first = hashes()
    assert hashes() == first
    record = json.loads(Path("data/publishing/report/record.json").read_text())
    assert record["outputs"]["reports/index.html"] == hashlib.sha256(PAGE.read_bytes()).hexdigest()
    assert "data/judging/leaderboard/leaderboard.json" in record["inputs"]


def test_a_removed_item_leaves_no_trace(project: Path) -> None:
    assert "nearest_neighbour" in made().text
    params = yaml.safe_load(Path("params.yaml").read_text())
    del params["judging"]["models"]["nearest_neighbour"]
    del params["scaling"]["points"]["l_200k_20"]
    del params["evaluation"]["checkpoints"]["ppo"]
    Path("params.yaml").write_text(json.dumps(params))
    page = made()
    assert "nearest_neighbour" not in page.text and "nearest neighbour" not in page.text
    assert "l_200k_20" not in PAGE.read_text()
    assert (
        "nearest_neighbour"
        not in Path("reports/leaderboard.csv").read_text() + Path("reports/leaderboard.md").read_text()
    )


def test_csv_and_json_hold_the_leaderboard_under_the_names_of_alpaca_eval(project: Path) -> None:
    report.main()
    with Path("reports/leaderboard.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    published = json.loads(Path("reports/leaderboard.json").read_text())
    source = json.loads(Path("data/judging/leaderboard/leaderboard.json").read_text())["rows"]
    official = (
        "win_rate standard_error n_wins n_wins_base n_draws n_total discrete_win_rate avg_length "
        "length_controlled_winrate lc_standard_error"
    )
    assert set(official.split()) <= set(rows[0])
    assert [row["model"] for row in rows] == [row["model"] for row in source]
    for row, full, truth in zip(rows, published["rows"], source, strict=True):
        assert float(row["length_controlled_winrate"]) == pytest.approx(truth["lc_win_rate"], rel=1e-5)
        assert full["length_controlled_winrate"] == truth["lc_win_rate"] and full["lineage"] == truth["lineage"]
        assert row["control"] == ("yes" if truth["control"] else "no")
        assert row["judge_simulated"] == "yes" and "simulated" in row["judge"], "wherever the number goes"
        assert bool(row["contamination"]) != truth["control"]


def test_a_row_without_numbers_is_shown_as_such() -> None:
    row = {"model": "a", "rank": 1, "kind": "endpoint", "control": False, "win_rate": None}
    board = {"rows": [row], "judge": {"label": "judge", "simulated": False}}
    rows = published_rows(board, {"a": {"source": "prompts/standard.txt"}}, {"word": "clean", "tone": "good"})
    assert as_csv(rows).splitlines()[1].startswith("1,a,endpoint,no,,,,")
    assert rows[0]["contamination"] == "not tested", "nobody has seen what a server's model was trained on"


def test_planted_defects_are_counted_against_truth(project: Path) -> None:
    """By hand: of three spam pages that came in (a fourth never did) one is left, and so is the boilerplate line."""
    page = made()
    assert re.search(r"spam 3 2 66\.7", page.text)
    assert re.search(r"boilerplate 1 0 0\.0", page.text)
    assert re.search(r"edition 1 1 100\.0", page.text)
    assert "71.4 %" in page.text


@pytest.mark.parametrize(("low", "words"), [(10.0, "8\u202f%"), (-1.0, "not clearly fewer")])
def test_the_headline_does_not_flatter(low: float, words: str) -> None:
    rows = [
        {"model": "sft", "control": False, "right": 12.0, "right_low": 8.0},
        {"model": "constant", "control": True, "right": 8.0, "right_high": 11.0},
    ]
    compared = [{"model": "sft", "against": "constant", "metric": "right", "split": "test", "low": low}]
    said = headline(rows, compared, {"parameters": 1e6, "tokens": 1e6, "predicted": 1.0, "reached": 1.0})
    assert words in said["claim"]


def test_the_frontier_is_the_scaling_laws_own() -> None:
    law = Law(A=406.4, B=410.7, E=1.69, alpha=0.34, beta=0.28)
    for compute in (1e15, 1e20, 5.76e23):
        assert frontier(law.as_dict(), compute) == pytest.approx(law.predict(*law.optimum(compute)), rel=1e-12)


def test_a_misspelt_model_is_named(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["publishing"]["report"]["side_by_side"] = ["stf"]
    Path("params.yaml").write_text(json.dumps(params))
    with pytest.raises(SystemExit) as stopped:
        report.main()
    assert stopped.value.code == 2
    assert "no `stf` in judging.models" in capsys.readouterr().err
    assert not PAGE.exists()
