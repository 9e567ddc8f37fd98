"""The corpus page: it says what the steps' files say, refuses files that disagree, and quotes a crawl as words."""

import hashlib
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from stages.base import schemas
from stages.base.files import read_json, write_json
from stages.base.tables import write_table
from stages.publishing import corpus_report
from stages.publishing.corpus.steps import STEPS, tokens
from tests.publishing.crawl import CORPUS, DROPS, PAGES, drop_rows, histogram
from tests.publishing.html_page import Page

PAGE = Path("reports/corpus.html")
TOLD: dict[str, Any] = {"stage": "corpus.any", "outputs": {}}  # what any record says
SITE_PAGES = ("index", "leaderboard", "alignment", "training", "evaluation", "scaling", "corpus", "tokenizer")
SITE = {f"{name}.html" for name in SITE_PAGES}


def note(step: str, **notes: Any) -> None:
    path = CORPUS / step / "record.json"
    write_json(path, read_json(path) | {"notes": notes})


def made() -> Page:
    corpus_report.main()
    return Page(PAGE.read_text(encoding="utf-8"))


def refused(capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stopped:
        corpus_report.main()
    assert stopped.value.code == 2
    assert not PAGE.exists()
    return capsys.readouterr().err


def unpacked(**metrics: Any) -> None:
    """A pipeline that stops at the tokenizer."""
    Path("data/tokens/pack/pack.json").unlink()
    write_json("data/tokens/tokenizer/metrics.json", metrics)


def test_before_anything_is_packed_tokens_are_an_estimate(crawl: Path) -> None:
    unpacked(bytes_per_token=4)
    page = made()
    assert "≈ 615 000 tokens." in page.text and "4.000 bytes per token that the tokenizer was measured at" in page.text
    assert "Tokens in the anneal" not in page.text


@pytest.mark.parametrize("step", STEPS[2:-1])
def test_a_pipeline_without_a_step_has_a_page_without_its_section(crawl: Path, step: str) -> None:
    """The steps around it chain as they do in a pipeline that never had it."""
    before = json.loads((CORPUS / STEPS[STEPS.index(step) - 1] / "record.json").read_text())["rows"]["out"]
    if step == "decontaminate":  # the fixture has the texts of this step alone
        shutil.copy(CORPUS / step / "documents.parquet", CORPUS / "domains")
    shutil.rmtree(CORPUS / step)
    rows = {"in": before, "out": before, "dropped": {}}
    for following in STEPS[STEPS.index(step) + 1 :]:
        found = json.loads((CORPUS / following / "record.json").read_text())
        write_json(CORPUS / following / "record.json", found | {"rows": rows})
        write_table(CORPUS / following / "drops.parquet", pa.Table.from_pylist([], schema=schemas.DROP), schemas.DROP)
    page = made()
    identifiers = {attributes.get("id") for _, attributes in page.tags}
    assert identifiers.isdisjoint({"screen": {"legality", "personal"}}.get(step, set()))
    assert ("By domain" in page.text) == (step != "domains")


def test_the_page_is_well_formed_and_loads_nothing(crawl: Path) -> None:
    page = made()
    assert not page.open
    assert (
        not [tag for tag, _ in page.tags if tag in ("iframe", "object", "embed", "img", "form")]
        and len(page.scripts) == 1
    )
    identifiers = {attributes.get("id") for _, attributes in page.tags}
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "data", "action"):
            target = attributes.get(name) or ""
            assert target in ("", "data:,", *SITE) or target[1:] in identifiers, (tag, target)
        assert not [name for name in attributes if name.startswith("on")]
    css = PAGE.read_text().split("<style>")[1].split("</style>")[0]
    assert "@import" not in css and "url(" not in css and "http" not in css


def test_words_of_the_crawl_stay_words(crawl: Path) -> None:
    page, text = made(), PAGE.read_text(encoding="utf-8")
    assert 'alert("x")</script>' in page.text  # quoted in an address, a text, a licence and a place
    assert text.count("<script") == 1 and "onerror=alert(1)>" not in text
    assert not set(text) & set("\u202e\x07")
    addresses = [word for word in page.words if word.startswith("javascript:")]
    assert addresses and max(map(len, addresses)) < 200
    assert max(len(word) for word in page.words) < 600


def test_every_count_is_that_of_the_files(crawl: Path) -> None:
    page = made()
    lost = {step: sum(row[3] for row in rows) for step, rows in DROPS.items()}
    kept = PAGES
    bars = [attributes.get("aria-label") or "" for tag, attributes in page.tags if attributes.get("class") == "bar"]
    for place, step in enumerate(STEPS):
        kept -= lost[step]
        assert bars[place] == f"{spaced(kept)} kept, {spaced(lost[step])} dropped"
    stacks = [attributes["aria-label"] for _, attributes in page.tags if attributes.get("class") == "stack"]
    assert "atlas 7, web 1\u202f500" in stacks and len(stacks) == sum(
        len({row[:2] for row in rows}) for rows in DROPS.values()
    )
    for words in (
        f"Of {spaced(PAGES)} pages, {spaced(kept)} are left",
        "bytes of text, 2\u202f925\u202f000 tokens.",  # as packed: both sources once, and the validation rows
        "divided by the 3.000 bytes per token of the packed text",
        "97.5\u202f% lowest recall of one step alone: pii email, screen",
        "email 63 97.5\u202f% 75.0\u202f%",
        "screen spam recall – 50.0\u202f%",
        "kept, as it should be",
        "95.2\u202f%",
        "0.871",
        "75.0\u202f% 25.0\u202f% × 0.33",  # maths: three quarters of the crawl, a quarter of what is read
        "25.0\u202f% 75.0\u202f% × 3.00",
        "news 5 1 000 25.0\u202f% 6 000 75.0\u202f% 70.0\u202f%",
        "is right in 90.0\u202f%",
        "proprietary 17 17",
        "truncated ingest, web; 60 Where crawl-",
        "@9 and 58 more",
        "stopped by the clock extract; 1 Where https://slow.invalid/",
    ):
        assert " ".join(words.split()) in page.text, words


def spaced(number: int) -> str:
    return f"{number:,}".replace(",", "\u202f")


def test_samples_are_those_of_smallest_hash_with_their_twins(crawl: Path) -> None:
    corpus_report.main()
    text = PAGE.read_text(encoding="utf-8")
    for step, reasons in DROPS.items():
        for reason in {row[1] for row in reasons}:
            rows = [row for row in drop_rows(step) if row["reason"] == reason]
            rows.sort(key=lambda row: hashlib.sha256(row["id"].encode()).hexdigest())
            group = (
                text.split(f"<h3>{reason.replace('_', ' ')} ")[1]
                .split('<div class="dropped"')[0]
                .split("</section>")[0]
            )
            assert group.count("<details>") == min(2, len(rows))
            for row in rows[:2]:
                if row["url"].startswith("https"):
                    assert f"{row['url']}</bdi>" in group
                if row["duplicate_of"]:
                    assert f"https://kept.invalid/{row['duplicate_of'][4:]}</bdi>" in group
            for row in rows[2:]:
                assert f"{row['url']}</bdi>" not in group


def test_the_sample_depends_on_the_drops_and_not_on_their_order(crawl: Path) -> None:
    corpus_report.main()
    first = PAGE.read_bytes()
    for step in STEPS:
        rows = drop_rows(step)[::-1]
        write_table(CORPUS / step / "drops.parquet", pa.Table.from_pylist(rows, schema=schemas.DROP), schemas.DROP)
    corpus_report.main()
    assert PAGE.read_bytes() == first


def test_every_chart_has_its_numbers_as_a_table(crawl: Path) -> None:
    page = made()
    charts = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert len(charts) == 4  # three histograms and the calibration
    assert all(attributes.get("aria-label") for attributes in charts)
    assert page.text.count("As numbers") == 5 and "Both as numbers" in page.text  # and the domains; both waterfalls
    assert "0.25 – 0.5 1 20 2" in page.text  # from – to, atlas, web, of these dropped


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda: (CORPUS / "screen/legality.json").unlink(), "legality.json: not found"),
        (lambda: (CORPUS / "quality/histograms.json").unlink(), "histograms.json: not found"),
        (lambda: write_json(CORPUS / "screen/histograms.json", {"x": {"edges": [1, 1]}}), "`x` needs `edges`"),
        (
            lambda: write_json(CORPUS / "screen/histograms.json", {"x": histogram(edges=[0, 1, 1, 2])}),
            "edges must rise",
        ),
        (
            lambda: write_json(CORPUS / "heuristics/histograms.json", {"x": histogram(edges=[0, 1])}),
            "one entry less",
        ),
        (
            lambda: write_json(CORPUS / "screen/legality.json", {"licences": {}, "signals": [], "robots": {}}),
            "`signals`",
        ),
        (lambda: write_json(CORPUS / "mix/histograms.json", {"domains": {}}), "mix/histograms.json: no domain"),
        (lambda: write_json(CORPUS / "dedup/metrics.json", {}), "dedup/metrics.json: no `bytes_out`"),
        (lambda: note("ingest", problems=[1]), "`problems` must map sources"),
        (lambda: note("extract"), "no `wall_clock_drops`"),
        (
            lambda: write_json(CORPUS / "domains/histograms.json", {"domains": {"arts": {"bytes": 1}}}),
            "must map names to `documents`, `bytes`",
        ),
        (lambda: unpacked(bytes_per_token=0), "no positive number"),
        (
            lambda: write_json(CORPUS / "quality/record.json", TOLD | {"rows": {"in": 2474, "out": 2474}, "notes": {}}),
            "drops.parquet holds 6 rows",
        ),
        (
            lambda: write_json(CORPUS / "mix/record.json", TOLD | {"rows": {"in": 5, "out": 5}, "notes": {}}),
            "not rerun to the end",
        ),
    ],
)
def test_files_that_lack_something_or_disagree_are_refused(
    crawl: Path, capsys: pytest.CaptureFixture[str], break_it: Any, message: str
) -> None:
    break_it()
    assert message in refused(capsys)


def test_a_crawl_without_drops_or_classifier_has_a_page(crawl: Path) -> None:
    for step in STEPS:
        write_table(CORPUS / step / "drops.parquet", pa.Table.from_pylist([], schema=schemas.DROP), schemas.DROP)
        notes = {"problems": {}, "wall_clock_drops": []}
        write_json(CORPUS / step / "record.json", TOLD | {"rows": {"in": 9, "out": 9, "dropped": {}}, "notes": notes})
    for step in ("screen", "heuristics", "quality"):
        write_json(CORPUS / step / "histograms.json", {})
    page = made()
    for words in (
        "Of 9 pages, 9 are left",
        "No step dropped anything.",
        "stopped by the clock extract; 0",
        "enough linked pages",
    ):
        assert words in page.text


def test_planted_defects_are_followed_to_the_end(crawl: Path) -> None:
    """By hand: of three spam pages that came in one is left, and so is the boilerplate line. Page 8 of the
    atlas has no part in any defect, and is gone.
    """
    page = made()
    for words in ("spam 3 2 66.7", "exact duplicate 1 1 100.0", "pii 1 1", "boilerplate 1 0 0.0", "edition 1 1 100.0"):
        assert words in page.text, words
    assert "Of the 1 pages of atlas without a planted defect the filters dropped 1" in page.text
    told = read_json("data/publishing/corpus_report/summary.json")
    assert "71.4" in told["line"]


def test_where_nothing_is_planted_that_is_said(crawl: Path) -> None:
    write_table(CORPUS / "ingest/planted.parquet", schemas.PLANTED.empty_table(), schemas.PLANTED)
    for step in STEPS:
        metrics = read_json(CORPUS / step / "metrics.json")
        kept = {k: v for k, v in metrics.items() if not k.endswith(("_planted", "_recall", "_precision", "_kept"))}
        write_json(CORPUS / step / "metrics.json", kept)
    page = made()
    assert "No source has planted cases" in page.text and "nothing was planted" in page.text
    assert "email 63 unknown unknown" in page.text


def test_tokens_are_an_estimate_to_three_digits() -> None:
    for size in (1, 37, 999, 1000, 123_456, 10**12 + 1):
        shown = tokens(size, 3.2)
        assert shown.startswith("≈")
        value = int(shown[1:].replace("\u202f", "").strip())
        assert math.isclose(value, size / 3.2, rel_tol=0.006, abs_tol=0.5)
