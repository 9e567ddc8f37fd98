"""The evaluation page: every section of a full run, none of those that a run lacks, and hostile words kept words."""

import json
import re
from collections.abc import Callable
from html import unescape
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from stages.base.contracts.evaluation import Evaluation, Sample, Samples
from stages.base.files import read_json, write_json
from stages.base.paired import win_rates
from stages.publishing import evaluation_report
from stages.publishing.evaluation.comparisons import Answers, Asked, compare
from stages.publishing.html.quoted import verbatim
from tests.contracts import evaluation
from tests.publishing.conftest import EVALUATED, HOSTILE
from tests.publishing.html_page import Page

FOLDER = Path("data/evaluation/evaluate")


def write_full(hostile: str = "", spread: float = 0.03) -> None:
    """A run with every section: models that differ by `spread`, protocols that order them differently."""
    write_json("data/evaluation/controls/items.json", ["held_out"])
    write_json("data/evaluation/controls/held_out/controls.json", evaluation.controls().model_dump(mode="json"))
    write_json(FOLDER / "items.json", list(EVALUATED))
    for index, model in enumerate(EVALUATED):
        worse = spread * index
        write_json(FOLDER / model / "evaluation.json", evaluation.full_evaluation(worse).model_dump(mode="json"))
        samples = evaluation.samples(model, hostile, right=index % 2 == 0)
        write_json(FOLDER / model / "samples.json", samples.model_dump(mode="json"))
        pq.write_table(evaluation.items(worse), FOLDER / model / "items.parquet")
    found = evaluation.full_contamination(hostile)
    write_json("data/evaluation/contamination/contamination.json", found.model_dump(mode="json"))


def made() -> Page:
    evaluation_report.main()
    return Page(Path("reports/evaluation.html").read_text(encoding="utf-8"))


def sections(page: Page) -> list[str | None]:
    return [attributes.get("id") for tag, attributes in page.tags if tag == "section"]


def test_a_full_run_has_every_section(workspace: Path) -> None:
    write_full()
    page = made()
    assert sections(page) == list(evaluation_report.SECTIONS)
    for words in (
        "v1, % right, 2 examples", "controls, %: chance 25.0, the same choice always 28.0",
        "base is ahead of sft, dpo, ppo by “cloze” and behind by “chat”.",
        "3 of 300 questions stand in the training text", "8.0 between its best and its worst prompt",
        "mean win rate (HELM)", "1.310 (1.250 – 1.370)", "runs of 5 bytes (control) 2.310", "64 – 127",
        "Furthest from its word is ppo on atlas facts, letters: it gives 72 % on average",
        "This is the power of a probe of 893 000 parameters that read 905 000 tokens (2 layers of width 128, the run's "
        "own recipe), not that of base", "16, shuffled 0.400", "1 of 1 024 10.0 of 10.0", "token spans",
        "+2.0 (+0.5 to +3.5)", "Min-K%++", "Unknown: ppo", "12 of 12 that were kept",
    ):  # fmt: skip
        assert " ".join(words.split()) in page.text.replace("\u202f", " "), words
    assert len(Path("reports/evaluation.html").read_bytes()) < 200_000


def test_changes_of_a_text_are_paired_over_its_documents(workspace: Path) -> None:
    """Documents differ by .2 bits, models by .03 on each: the interval is that of the differences."""
    write_full()
    page = made()
    base, other = (pq.read_table(FOLDER / model / "items.parquet").to_pandas() for model in EVALUATED[:2])
    base, other = (table[table["set"] == "held_out"] for table in (base, other))
    size = base["bytes"].to_numpy()
    gap = (other["nats"].to_numpy() - base["nats"].to_numpy()) / np.log(2)
    ratio = gap.sum() / size.sum()
    half = scipy_stats.t.ppf(0.975, 11) * np.std(gap - ratio * size, ddof=1) * np.sqrt(12) / size.sum()
    (pair,) = (
        one
        for one in read_json("data/publishing/evaluation_report/comparisons.json")["pairs"]
        if one["task"] == "held_out" and {one["a"], one["b"]} == set(EVALUATED[:2])
    )
    sign = 1 if pair["a"] == EVALUATED[1] else -1
    assert sign * pair["difference"] == pytest.approx(ratio)
    assert (pair["high"] - pair["low"]) / 2 == pytest.approx(half)
    assert f"({ratio - half:+.3f} – {ratio + half:+.3f})".replace("-", "−") in page.text.replace("\u202f", " ")


def test_numbers_a_token_of_another_tokenizer_are_not_beside_these(workspace: Path) -> None:
    write_full()
    other = EVALUATED[1]
    path = FOLDER / other / "evaluation.json"
    write_json(path, read_json(path) | {"tokenizer": "fedcba9876543210"})
    page = made()
    assert f"Other tokens than {EVALUATED[0]}'s: {other}." in page.text
    lines = Path("reports/evaluation.html").read_text().split('<section id="texts">')[1].split("</section>")[0]
    (row,) = re.findall(rf'<tr><th scope="row">{other}</th>(.*?)</tr>', lines)
    cells = re.findall("<td[^>]*>(.*?)</td>", row)
    assert cells[0].startswith("1.3") and cells[-2:] == ["–", "–"]  # bits per byte; perplexity and entropy a token
    behind = lines.split("Tokens of context")[1]
    assert EVALUATED[0] in behind and f"<th>{other}</th>" not in behind


def test_headings_skip_no_level_and_no_header_is_empty(workspace: Path) -> None:
    write_full()
    page = made()
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and all(after <= before + 1 for before, after in pairwise(levels))
    text = Path("reports/evaluation.html").read_text()
    assert not re.search(r"<th[^>]*>\s*</th>", text)
    assert all(attributes.get("aria-label") for tag, attributes in page.tags if attributes.get("role") == "img")
    scrolled = [attributes for _, attributes in page.tags if attributes.get("class") == "scroll"]
    assert scrolled and all(one.get("tabindex") == "0" and one.get("aria-label") for one in scrolled)


def test_charts_have_a_legend_and_their_numbers_in_a_table(workspace: Path) -> None:
    write_full()
    made()
    text = Path("reports/evaluation.html").read_text()
    for name in ("texts", "calibration", "contamination"):
        section = text.split(f'<section id="{name}">')[1].split("</section>")[0]
        assert section.index("<svg ") < section.index('class="key"'), name
        assert section.index("<svg ") < section.index("behind", section.index("<svg ")), name


@pytest.mark.parametrize(
    ("lacking", "gone"),
    [
        ({"tasks": {}, "groups": []}, {"tasks", "prompts", "groups"}),
        ({"texts": {}}, {"texts"}),
        ({"texts": {}, "tasks": {}, "groups": []}, {"tasks", "prompts", "groups", "texts", "calibration"}),
    ],
)
def test_what_a_run_lacks_has_no_section(workspace: Path, lacking: dict, gone: set[str]) -> None:
    write_full()
    for model in EVALUATED:
        left = evaluation.full_evaluation(**lacking)
        write_json(FOLDER / model / "evaluation.json", left.model_dump(mode="json"))
    page = made()
    assert sections(page) == [name for name in evaluation_report.SECTIONS if name not in gone]
    bar = {attributes["href"] for tag, attributes in page.tags if tag == "a" and (attributes["href"] or "")[0] == "#"}
    assert bar == {"#top"} | {f"#{name}" for name in sections(page)}


def test_without_contamination_and_samples_the_rest_is_there(workspace: Path) -> None:
    write_full()
    Path("data/evaluation/contamination/contamination.json").unlink()
    for model in EVALUATED:
        (FOLDER / model / "samples.json").unlink()
    page = made()
    assert {"contamination", "items"}.isdisjoint(sections(page)) and "tasks" in sections(page)
    assert "seen in training?" not in page.text
    assert "tests in the training data" not in read_json("data/publishing/evaluation_report/summary.json")["line"]


def test_a_model_alone_and_one_without_any_score(workspace: Path) -> None:
    write_full()
    write_json(FOLDER / "items.json", ["base"])
    empty = evaluation.accuracy(0.5, scores={}, answered=0, left_out={"too_long": 200}, shots=None)
    task = evaluation.task(protocols={"cloze": empty})
    write_json(FOLDER / "base" / "evaluation.json", Evaluation(texts={}, tasks={"own": task}).model_dump(mode="json"))
    page = made()
    assert "200 left out: too long" in page.text and "changes the order" not in page.text
    assert read_json("data/publishing/evaluation_report/comparisons.json") == {"flips": [], "pairs": [], "tiers": {}}


def test_hostile_words_stay_words(workspace: Path) -> None:
    write_full(HOSTILE + "\u202e\x07</style></pre>")
    page = made()
    assert not page.open and "\u202e" not in page.text
    assert [tag for tag, _ in page.tags].count("script") == 1, "the one that sorts tables"
    assert not [kind for _, attributes in page.tags for kind in attributes if kind.startswith("on")]
    text = Path("reports/evaluation.html").read_text()
    assert "<script>alert" not in text and page.text.count('<script>alert("x")</script>') > 20
    styles = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    assert len(styles) == 2 and not re.search(r"[<>]script|alert|\\", styles[1])


def test_prompts_are_shown_as_they_were_sent(workspace: Path) -> None:
    write_full()
    made()
    shown = re.findall(r'<pre class="prompt"[^>]*>(.*?)</pre>', Path("reports/evaluation.html").read_text(), re.DOTALL)
    sent = {one.prompt for model in EVALUATED for one in evaluation.samples(model).samples}
    assert {unescape(one) for one in shown} == sent and any("  " in one and "\n" in one for one in sent)


def test_filters_name_what_is_there(workspace: Path) -> None:
    """Each radio has a rule that hides the items of the others, and each item the classes that the rules go by."""
    write_full()
    made()
    text = Path("reports/evaluation.html").read_text()
    radios = set(re.findall(r'<input type="radio" name="\w+" id="(\w+)"', text))
    assert radios == {
        "itall", "it0", "it1", "ipall", "ip0", "ip1", "ip2", "imall", "im0", "im1", "im2", "im3", "io0", "io1", "io2",
        "io3",
    }  # fmt: skip
    ruled = set(re.findall(r":has\(#(\w+):checked\)", text))
    assert ruled == {name for name in radios if name not in ("itall", "ipall", "imall", "io0")}
    items = re.findall(r'<article class="item ([^"]*)"', text)
    assert len(items) == 12 and all(
        {"some-right", "some-wrong", "differ", "m0r", "m1w"} <= set(one.split()) for one in items
    )


def test_the_page_is_bounded(workspace: Path) -> None:
    """However many items of whatever length a run keeps."""
    write_full()
    long = [
        Sample(
            task=f"task{i % 7}", protocol="cloze", id=f"{i}", subject="", question="q" * 3000, prompt="x y" * 9000,
            choices=["a" * 4000] * 4, answer=0, target="a" * 4000, choice=0, logprobs=[-1.0] * 4, right=True,
        )
        for i in range(300)
    ]  # fmt: skip
    for model in EVALUATED:
        write_json(FOLDER / model / "samples.json", Samples(samples=long).model_dump(mode="json"))
    page = made()
    assert len(Path("reports/evaluation.html").read_bytes()) < 400_000
    assert "items" in sections(page) and "characters …]" in page.text


@given(st.text(max_size=60), st.integers(4, 30))
def test_verbatim_keeps_what_fits(text: str, limit: int) -> None:
    shown = verbatim(text, limit)
    if len(text) <= limit:
        assert len(shown) == len(text)
        assert all(a == b or b == "\ufffd" for a, b in zip(text, shown, strict=True))
    else:
        assert "characters …]" in shown and len(shown) <= limit + 40


def test_twice_gives_the_same_bytes(workspace: Path) -> None:
    write_full()
    made()
    first = {
        path: path.read_bytes() for path in (Path("reports/evaluation.html"), *Path("data/publishing").rglob("*.json"))
    }
    made()
    assert first == {path: path.read_bytes() for path in first}


def test_differences_are_student_t_of_the_pairs() -> None:
    rng = np.random.default_rng(3)
    x, y = (rng.random(150) < share for share in (0.5, 0.6))
    answers = {name: Answers({str(i): float(v) for i, v in enumerate(own)}, {}) for name, own in (("a", x), ("b", y))}
    found = compare({Asked("t", "cloze"): answers}, {Asked("t", "cloze"): "acc"})
    (pair,) = found.pairs
    expected = scipy_stats.ttest_rel(x.astype(float), y.astype(float))
    a_first = 1 if pair.a == "a" else -1
    low, high = expected.confidence_interval()
    assert (pair.difference, pair.p) == pytest.approx((a_first * (x.mean() - y.mean()), expected.pvalue))
    assert (pair.low, pair.high) == pytest.approx((low, high) if a_first == 1 else (-high, -low))
    turned = found.between(Asked("t", "cloze"), pair.b, pair.a)
    assert turned and (turned.difference, turned.low, turned.high) == (-pair.difference, -pair.high, -pair.low)


def test_of_perplexities_the_lower_one_is_ahead() -> None:
    values = {"good": 1.0, "bad": 3.0}
    answers = {
        name: Answers({str(i): mean + 0.1 * (i % 3) * (name == "bad") for i in range(30)}, {})
        for name, mean in values.items()
    }
    asked = Asked("t", "rolling")
    found = compare({asked: answers}, {asked: "bits_per_byte"})
    assert (found.tier(asked, "good"), found.tier(asked, "bad")) == (1, 2)
    pair = found.between(asked, "good", "bad")
    assert pair and pair.low <= pair.difference <= pair.high < 0


def test_orders_that_turn_are_certain_where_both_differences_are() -> None:
    """Llama is ahead of Falcon by HELM and behind by the Harness, as on the Open LLM Leaderboard of 2023."""

    def model(share: float, noise: int) -> Answers:
        rng = np.random.default_rng(noise)
        return Answers({str(i): float(v) for i, v in enumerate(rng.random(400) < share)}, {})

    asked = {name: Asked("mmlu", name) for name in ("helm", "harness", "original")}
    answers = {
        asked["helm"]: {"llama": model(0.7, 1), "falcon": model(0.5, 2)},
        asked["harness"]: {"llama": model(0.5, 3), "falcon": model(0.7, 4)},
        asked["original"]: {"llama": model(0.60, 5), "falcon": model(0.60, 6)},
    }
    found = compare(answers, dict.fromkeys(asked.values(), "acc"))
    certain = [(flip.ahead, flip.behind, flip.a, flip.b) for flip in found.flips if flip.certain]
    assert certain == [("helm", "harness", "llama", "falcon")]
    assert [flip.certain for flip in found.flips].count(False) == 1, (
        "the third protocol agrees with one of them, in noise"
    )


@given(st.lists(st.lists(st.integers(0, 3), min_size=3, max_size=3), min_size=1, max_size=5))
def test_win_rates_are_shares_of_wins(table: list[list[int]]) -> None:
    means = {f"task{i}": dict(zip("abc", map(float, row), strict=True)) for i, row in enumerate(table)}
    found = win_rates(means)
    for index, name in enumerate("abc"):
        wins = [
            1.0 if row[index] > row[other] else 0.5 if row[index] == row[other] else 0.0
            for row in table
            for other in range(3)
            if other != index
        ]
        assert found[name] == pytest.approx(sum(wins) / len(wins))
    assert sum(found.values()) == pytest.approx(1.5)


def test_a_misspelt_base_is_named(
    workspace: Path, set_param: Callable[[str, object], None], capsys: pytest.CaptureFixture[str]
) -> None:
    write_full()
    set_param("alignment.base", "bse")
    with pytest.raises(SystemExit):
        evaluation_report.main()
    assert "`bse` isn't evaluated; did you mean `base`?" in capsys.readouterr().err
    assert not Path("reports/evaluation.html").exists()


def test_numbers_of_metrics_json_are_flat() -> None:
    flat = evaluation.full_evaluation(0.03).flat()
    assert all(value is None or isinstance(value, int | float) for value in flat.values())
    assert flat["atlas_facts_cloze_acc"] == pytest.approx(0.55) and flat["held_out_next_token_ece"] == 0.03
    assert flat["group_all_cloze_centred"] == 0.38 and json.dumps(flat)
