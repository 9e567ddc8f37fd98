import numpy as np
import pytest

from stages.base.errors import ParamError
from stages.base.params import parse
from stages.corpus.folds import calibration_error, fold_of
from stages.corpus.quality import Pages, QualityParams, label, rate, trusted_targets
from tests.corpus.documents import WORDS, prose, settings, table

PARAMS = parse(
    "corpus.quality",
    settings(
        r"""
        max_drop: 0.9
        sources: {default: {trusted: ['/hub\.html$'], min_score: 0.0}}
        negatives_per_positive: 3.0
        min_examples: 10
        folds: 5
        feature_bits: 12
        characters: 2000
        inverse_penalty: 10.0
        """
    ),
    QualityParams,
)


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


def test_only_hubs_make_positives() -> None:
    urls = ["https://a.invalid/hub.html", "https://a.invalid/other.html"]
    links = [["https://a.invalid/1#part", "https://a.invalid/hub.html"], ["https://a.invalid/2"]]
    assert trusted_targets(urls, links, [r"/hub\.html$"]) == {"a.invalid/1"}
    assert trusted_targets(urls, links, []) == set()
    with pytest.raises(ParamError, match="regular expression"):
        trusted_targets(urls, links, ["("])


def test_copies_of_a_linked_text_are_positive_and_negatives_are_bounded() -> None:
    pages = Pages([f"{n}" for n in range(10)], [f"u{n}" for n in range(10)], ["t"] * 10, ["same", "same", *"abcdefgh"])
    labels = label(pages, {"/u0"} | {"u0"}, 2.0, seed=0)
    assert labels[:2].tolist() == [1, 1]
    assert (labels == 0).sum() == 4
    assert (labels == -1).sum() == 4


def test_linked_pages_are_told_apart_and_scores_are_calibrated() -> None:
    documents = table(crawl(300, 600, 0.4))
    scores, metrics = rate(documents, documents, PARAMS, seed=0)
    assert metrics["made_up_auc"] > 0.9
    assert metrics["made_up_calibration_error"] < 0.06
    assert scores.dtype == np.float32
    assert scores.min() >= 0 and scores.max() <= 1


def test_no_signal_scores_as_chance() -> None:
    """Held-out scores of labels that mean nothing: anything above chance would be a leak of the training labels."""
    documents = table(crawl(300, 600, 0.0))
    _, metrics = rate(documents, documents, PARAMS, seed=0)
    assert abs(metrics["made_up_auc"] - 0.5) < 0.07


def test_too_few_examples_give_the_prior() -> None:
    documents = table(crawl(5, 100, 0.5))
    scores, metrics = rate(documents, documents, PARAMS, seed=0)
    assert metrics["made_up_auc"] is None
    assert np.unique(scores).tolist() == [pytest.approx(0.25)]


def test_a_document_s_score_needs_no_other_filter() -> None:
    everything = table(crawl(100, 200, 0.5))
    some = everything.take(list(range(0, 300, 7)))
    whole, _ = rate(everything, everything, PARAMS, seed=0)
    part, _ = rate(some, everything, PARAMS, seed=0)
    assert part.tolist() == whole[::7][: len(part)].tolist()


def test_folds_and_calibration_error() -> None:
    counts = np.bincount([fold_of(str(n), 5, 1) for n in range(5000)])
    assert abs(counts - 1000).max() < 120
    scores = np.linspace(0, 1, 1000)
    labels = (np.random.default_rng(0).random(1000) < scores).astype(int)
    assert calibration_error(scores, labels, 10) < 0.05
    assert calibration_error(1 - scores, labels, 10) > 0.3
