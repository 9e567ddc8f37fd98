"""Linked pages are told apart, scores are probabilities, and none is from a model that saw the text."""

import bz2
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml
from sklearn.metrics import roc_auc_score

from stages.base import schemas
from stages.base.errors import ParamError
from stages.base.params import parse
from stages.base.tables import read_table, write_table
from stages.corpus import quality
from stages.corpus.classifiers.examples import Smallest, Wanted, gather, priorities, row_keys
from stages.corpus.classifiers.folds import features, folds_of
from stages.corpus.classifiers.rater import TEXT_KEY, Learned, Rater, fit, reliability
from stages.corpus.links.graph import hash64, url_keys
from stages.corpus.quality import (
    EDGES,
    QualityParams,
    Raters,
    draw,
    learn,
    linked_targets,
    linked_texts,
    rate,
    summarise,
)
from tests.corpus.documents import WORDS, prose, settings, table

SETTINGS = settings(
    r"""
    max_drop: 0.9
    references: references
    sources: {default: {trusted: ['/hub\.html$'], references: [], match: page, min_score: 0.0}}
    negatives_per_positive: 3.0
    max_examples: 4000
    min_examples: 10
    folds: 5
    feature_bits: 12
    characters: 2000
    inverse_penalty: 10.0
    """
)
PARAMS = parse("corpus.quality", SETTINGS, QualityParams)
SOURCE = SETTINGS["sources"]["default"]
NO_REFERENCES = {"default": np.zeros(0, np.uint64)}


@pytest.fixture(autouse=True)
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINYARD_WORKERS", "1")


def params(**changes: object) -> QualityParams:
    return parse("corpus.quality", SETTINGS | changes, QualityParams)


def crawl(linked: int, others: int, share: float) -> list[dict]:
    """Pages linked by a hub draw `share` of their words from half of the vocabulary, all others from all of it."""
    rows = []
    for number in range(linked + others):
        good = number < linked
        words = prose(60, number, WORDS[:50]).split()[: int(60 * share)] if good else []
        rows.append(
            {
                "text": " ".join(words) + " " + prose(60 - len(words), 10_000 + number),
                "url": f"https://a.invalid/{number}",
            }
        )
    links = [f"http://www.a.invalid/{number}?utm_source=hub" for number in range(linked)]
    return [*rows, {"text": "list of pages", "url": "https://a.invalid/hub.html", "links": links}]


def fitted(documents: pa.Table, params: QualityParams = PARAMS, size: int = 64) -> tuple[Raters, dict, dict]:
    batches = [documents.slice(start, size) for start in range(0, documents.num_rows, size)]
    linked = linked_texts(batches, linked_targets(batches, NO_REFERENCES, params), params)
    drawn = draw(batches, linked, params, 0)
    keys = np.unique(np.concatenate([part for examples in drawn.values() for part in examples]))
    return learn(gather(batches, Wanted(keys, TEXT_KEY, params.characters, params.feature_bits)), drawn, params, 0)


def scores_of(documents: pa.Table, raters: Raters) -> np.ndarray:
    return rate(documents, raters).kept["quality"].to_numpy()


def rank_statistic(scores: np.ndarray, labels: np.ndarray) -> float:
    """Share of (positive, negative) pairs in the right order, ties half: what AUC is defined as."""
    pairs = [(good, bad) for good in scores[labels == 1] for bad in scores[labels == 0]]
    return sum((good > bad) + 0.5 * (good == bad) for good, bad in pairs) / len(pairs)


def examples(linked: int, others: int, share: float) -> tuple:
    rows = crawl(linked, others, share)[:-1]
    labels = np.array([1] * linked + [0] * others)
    folds = folds_of(np.arange(len(rows), dtype=np.uint64), PARAMS.folds, 3)
    return features([row["text"] for row in rows], 2000, 12), labels, folds


def test_linked_pages_are_told_apart_and_scores_are_calibrated() -> None:
    documents = table(crawl(300, 600, 0.4))
    raters, metrics, calibration = fitted(documents)
    assert metrics["made_up_auc"] > 0.9
    assert metrics["made_up_calibration_error"] < 0.06
    assert (metrics["made_up_positives"], metrics["made_up_negatives"]) == (300, 601)
    scores = scores_of(documents, raters)
    assert scores.dtype == np.float32
    assert scores.min() >= 0 and scores.max() <= 1
    # The crawl's own texts are scored by the models that didn't learn from them: the metrics are those of these scores.
    assert roc_auc_score([1] * 300 + [0] * 601, scores) == pytest.approx(metrics["made_up_auc"], abs=1e-12)
    assert sum(calibration["made_up"]["count"]) == 901


def test_auc_is_the_rank_statistic() -> None:
    matrix, labels, folds = examples(60, 120, 0.15)
    result = fit(matrix, labels, folds, PARAMS)
    assert 0.55 < result.metrics["auc"] < 0.95
    assert result.metrics["auc"] == pytest.approx(rank_statistic(result.rater.calibrated(matrix, folds), labels))


@pytest.mark.parametrize("seed", range(3))
def test_permuted_labels_score_as_chance(seed: int) -> None:
    """Anything above chance would be a leak of the training labels."""
    matrix, labels, folds = examples(300, 600, 0.4)
    auc = fit(matrix, np.random.default_rng(seed).permutation(labels), folds, PARAMS).metrics["auc"]
    assert abs(auc - 0.5) < 3.5 * np.sqrt(901 / (12 * 300 * 600))  # the rank statistic's standard error


def test_scores_are_the_probabilities_that_made_the_labels() -> None:
    levels = np.array([0.05, 0.25, 0.5, 0.75, 0.95])
    generator = np.random.default_rng(0)
    level = generator.integers(0, 5, 4000)
    labels = (generator.random(4000) < levels[level]).astype(np.int64)
    texts = [prose(12, n, WORDS[20 * one : 20 * one + 20]) for n, one in enumerate(level)]
    folds = folds_of(np.arange(4000, dtype=np.uint64), 5, 0)
    result = fit(features(texts, 2000, 12), labels, folds, PARAMS)
    scores = result.rater.calibrated(features(texts, 2000, 12), folds)
    found = np.array([scores[level == one].mean() for one in range(5)])
    assert np.abs(found - levels).max() < 4 * np.sqrt(0.25 / 800)  # four standard errors of a share of 800
    assert result.metrics["calibration_error"] < 0.03


def test_reliability_counts_every_text_once() -> None:
    result = reliability(np.array([0.0, 0.05, 0.95, 1.0]), np.array([0, 1, 1, 1]))
    assert result["count"] == [2, *[0] * 8, 2]
    assert result["share_positive"] == [0.5, *[None] * 8, 1.0]
    assert result["mean_score"][0] == 0.025


def test_a_rewritten_text_is_not_scored_by_a_model_that_saw_the_original() -> None:
    """Labels that mean nothing and words that no other page has: only a model that saw the page knows its label."""
    rows = [{"text": " ".join(f"word{a}{b}" for a in _letters(n) for b in "abcdefgh")} for n in range(300)]
    rows = [row | {"url": f"https://a.invalid/{n}"} for n, row in enumerate(rows)]
    links = [f"https://a.invalid/{n}" for n in range(0, 300, 2)]
    documents = table([*rows, {"text": "list of pages", "url": "https://a.invalid/hub.html", "links": links}])
    raters, _, _ = fitted(documents, params(negatives_per_positive=1.0))
    rewritten = table([row | {"text": row["text"] + " added"} for row in rows])
    labels = [1 - n % 2 for n in range(300)]
    assert abs(roc_auc_score(labels, scores_of(rewritten, raters)) - 0.5) < 0.12
    forgetful = raters._replace(learned=Learned(np.zeros(0, np.uint64), np.zeros(0, np.int64)))
    assert roc_auc_score(labels, scores_of(rewritten, forgetful)) > 0.8


def _letters(number: int) -> list[str]:
    return ["".join(chr(97 + (number // 26**place + extra) % 26) for place in range(3)) for extra in range(4)]


def test_scores_do_not_depend_on_batches_or_the_order_of_the_crawl() -> None:
    documents = table(crawl(100, 200, 0.5))
    order = np.random.default_rng(1).permutation(documents.num_rows)
    raters, metrics, _ = fitted(documents)
    others, same, _ = fitted(documents.take(pa.array(order)), size=7)
    assert metrics == same
    whole = scores_of(documents, raters)
    for size in (1, 7, 64):
        parts = [scores_of(documents.slice(start, size), others) for start in range(0, documents.num_rows, size)]
        assert np.concatenate(parts).tobytes() == whole.tobytes()


def test_examples_are_bounded_and_a_text_counts_once() -> None:
    rows = crawl(60, 200, 0.5)
    copies = [row | {"url": f"https://mirror.invalid/{n}"} for n, row in enumerate(rows[:60])]
    documents = table([*rows, *copies])
    _, metrics, _ = fitted(documents)
    assert (metrics["made_up_positives"], metrics["made_up_negatives"]) == (60, 180)
    raters, metrics, _ = fitted(documents, params(max_examples=80))
    assert (metrics["made_up_positives"], metrics["made_up_negatives"]) == (20, 60)
    ids = set(raters.learned.ids.tolist())
    same = [hash64(row) in ids for row in documents["id"].to_pylist()]
    assert same[:60] == same[261:]  # a copy of a text that was learned from is scored as one


def test_the_smallest_keys_are_those_of_a_sort() -> None:
    keys = np.random.default_rng(0).integers(0, 400, 3000).astype(np.uint64)
    smallest = Smallest(50, seed=7)
    for start in range(0, 3000, 33):
        smallest.add(keys[start : start + 33])
    order = np.argsort(priorities(np.unique(keys), 7))
    assert smallest.first(50).tolist() == np.unique(keys)[order][:50].tolist()
    assert smallest.first(20).tolist() == smallest.first(50)[:20].tolist()


def test_too_few_examples_give_the_prior() -> None:
    documents = table(crawl(5, 100, 0.5))
    raters, metrics, _ = fitted(documents)
    assert metrics["made_up_auc"] is None
    assert np.unique(scores_of(documents, raters)).tolist() == [pytest.approx(0.25)]


def test_a_source_without_linked_pages_has_no_score() -> None:
    documents = table(crawl(0, 100, 0.5)[:-1])
    raters, metrics, _ = fitted(documents, params(sources={"default": SOURCE | {"min_score": 0.5}}))
    outcome = rate(documents, raters)
    assert np.isnan(outcome.kept["quality"].to_numpy()).all() and outcome.kept.num_rows == 100
    means, histogram = summarise(outcome.facts, raters.params)
    assert (metrics["made_up_positives"], means) == (0, {"made_up_mean_score": None})
    assert histogram["counts"] == histogram["dropped"] == histogram["threshold"] == {}
    json.dumps([means, histogram, outcome.facts], allow_nan=False)


def test_bad_patterns_are_refused_before_any_work() -> None:
    with pytest.raises(ParamError, match=r"trusted.*not a regular expression"):
        params(sources={"default": SOURCE | {"trusted": ["("]}})


def test_references_and_hosts_make_positives_too() -> None:
    documents = table([{"text": f"text {n}", "url": f"https://{n % 3}.invalid/{n}"} for n in range(9)])
    for match, expected in [("page", {4}), ("host", {1, 4, 7})]:
        outside = {"default": url_keys(["http://1.invalid/4?utm_source=wiki"], match)}
        source = SETTINGS["sources"]["default"] | {"match": match}
        given = params(sources={"default": source})
        linked = linked_texts([documents], linked_targets([documents], outside, given), given)
        rows = [row for row, key in enumerate(row_keys(documents, TEXT_KEY)) if key in linked["made_up"]]
        assert set(rows) == expected


def test_what_is_below_the_bound_goes_and_is_in_the_histogram() -> None:
    documents = table([{"text": prose(20, n)} for n in range(8)])
    source = SETTINGS["sources"]["default"] | {"min_score": 0.5}
    given = params(sources={"default": source, "other": source})
    raters = Raters({"made_up": Rater(0.42, [], [])}, Learned(np.zeros(0, np.uint64), np.zeros(0, np.int64)), given, 0)
    outcome = rate(documents, raters)
    assert outcome.kept.num_rows == 0
    assert set(outcome.drops["reason"].to_pylist()) == {"below_min_score"}
    metrics, histogram = summarise(outcome.facts, given)
    assert metrics["made_up_mean_score"] == pytest.approx(0.42)
    assert histogram["edges"] == EDGES and len(EDGES) == 21
    assert histogram["counts"] == {"made_up": [8 if place == 8 else 0 for place in range(20)]}
    assert histogram["dropped"] == histogram["counts"]
    assert histogram["threshold"] == {"made_up": 0.5}


def test_the_stage_learns_from_a_wikipedia_dump(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = crawl(200, 400, 0.5)[:-1]
    documents = table(rows)
    links = "".join(f"* [{row['url']} source]\n" for row in rows[:200])
    text = f"<page><title>A</title><ns>0</ns><revision><text>{links}</text></revision></page>"
    Path("references").mkdir()
    Path("references/wiki.xml.bz2").write_bytes(bz2.compress(f"<mediawiki>{text}</mediawiki>".encode()))
    source = {"trusted": [], "references": ["wiki.xml.bz2"], "match": "page", "min_score": 0.02}
    values = {"corpus": {"seed": 1, "quality": SETTINGS | {"sources": {"default": source}}}}
    Path("params.yaml").write_text(yaml.safe_dump(values))
    write_table(quality.CRAWL, documents, schemas.DOCUMENT)
    write_table(quality.DOCUMENTS, documents.slice(0, 500), schemas.DOCUMENT)
    quality.main()
    folder = Path("data/corpus/quality")
    metrics = json.loads((folder / "metrics.json").read_text())
    assert (metrics["made_up_positives"], metrics["made_up_linked_addresses"]) == (200, 200)
    assert metrics["made_up_auc"] > 0.9
    kept = read_table(folder / "documents.parquet", schemas.DOCUMENT)
    dropped = read_table(folder / "drops.parquet", schemas.DROP)
    figures = json.loads((folder / "histograms.json").read_text())
    assert sum(figures["quality"]["counts"]["made_up"]) == kept.num_rows + dropped.num_rows == 500
    assert sum(figures["quality"]["dropped"]["made_up"]) == dropped.num_rows
    assert kept["quality"].to_numpy().min() >= np.float32(0.02)
    assert "references" in json.loads((folder / "record.json").read_text())["inputs"]
