"""The classifier of undesirable content: what it learns from block lists, and that it cheats nowhere."""

import random
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest
from scipy.sparse import csr_matrix

from stages.base.params import parse
from stages.corpus.screening import undesirable
from stages.corpus.screening.address_lists import Blocklist, Hosts
from stages.corpus.screening.content_model import ContentModel, Labeller, UndesirableParams, learn, platt
from stages.corpus.screening.language import LanguageParams
from tests.corpus.documents import prose, settings, table

PARAMS = parse(
    "corpus.screen.undesirable",
    settings(
        """
        max_density: 25.0
        min_terms: 2
        far: 2.0
        max_examples: 300
        negatives_per_positive: 2.0
        max_probability: 0.5
        min_examples: 10
        folds: 3
        feature_bits: 12
        characters: 2000
        inverse_penalty: 1.0
        """
    ),
    UndesirableParams,
)
ADVERT = ["reward", "prize", "coins", "claim", "tonight", "payout", "lucky", "instant", "sofa", "midnight", "spin"]
KEYWORDS = "casino jackpot roulette blackjack bet now free spins"
LANGUAGES = LanguageParams(
    keep={"default": []}, sample_characters=200, min_characters=100, min_confidence=0.5, max_drop=0.5
)
LABELLER = Labeller(Blocklist(Hosts(["ads.invalid"]), frozenset({"bonus"})), LANGUAGES, PARAMS)


def advert(number: int) -> str:
    generator = random.Random(number)
    return f"{prose(30, number)} {' '.join(generator.choice(ADVERT) for _ in range(30))}."


def crawl(blocked: int = 30, keywords: int = 30, innocent: int = 10, good: int = 300) -> pa.Table:
    rows = [{"text": advert(n), "url": f"https://a{n}.ads.invalid/"} for n in range(blocked)]
    rows += [{"text": f"{prose(40, 1000 + n)} {KEYWORDS} {KEYWORDS}"} for n in range(keywords)]
    rows += [{"text": advert(5000 + n), "url": f"https://innocent.invalid/{n}"} for n in range(innocent)]
    rows += [{"text": prose(60, 9000 + n), "url": f"https://good.invalid/{n}"} for n in range(good)]
    return table(rows)


def taught(documents: pa.Table, labeller: Labeller = LABELLER, rows: int = 50) -> tuple[ContentModel, dict]:
    def read(columns: list[str]) -> Iterator[pa.Table]:
        for start in range(0, documents.num_rows, rows):
            yield documents.slice(start, rows).select(columns)

    return learn(read, labeller, seed=7)


@pytest.fixture(autouse=True)
def one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINYARD_WORKERS", "1")


def test_it_finds_what_neither_address_nor_keyword_gives_away() -> None:
    documents = crawl()
    model, metrics = taught(documents)
    scores = model.scores(documents)
    urls = documents["url"].to_pylist()
    innocent = [score for score, url in zip(scores, urls, strict=True) if "innocent" in url]
    good = [score for score, url in zip(scores, urls, strict=True) if "good.invalid" in url]
    assert all(undesirable.judge(text).terms == 0 for text in map(advert, range(5000, 5010)))
    assert min(innocent) > PARAMS.max_probability > max(good)
    assert metrics["undesirable_positives_url"] == 30 and metrics["undesirable_positives"] == 60
    assert metrics["undesirable_auc"] > 0.95 and metrics["undesirable_auc_url"] > 0.95
    assert metrics["undesirable_calibration_error"] < 0.1


def test_labels_that_mean_nothing_are_seen_to_be_worth_nothing() -> None:
    """Addresses are blocked at random: held-out scores know nothing of them, though the model could learn them."""
    rows = [
        {"text": prose(60, n), "url": f"https://a{n}.{'ads' if n % 3 == 0 else 'good'}.invalid/"} for n in range(400)
    ]
    metrics = taught(table(rows))[1]
    assert abs(metrics["undesirable_auc"] - 0.5) < 0.12
    assert metrics["undesirable_auc_url"] == metrics["undesirable_auc"]


def test_the_claim_for_addresses_falls_when_only_keywords_were_learned() -> None:
    """Blocked pages that read like any other: `auc_url` says so, while the keyword positives hold `auc` up."""
    rows = [{"text": prose(60, n), "url": f"https://a{n}.ads.invalid/"} for n in range(60)]
    rows += [{"text": f"{prose(40, 1000 + n)} {KEYWORDS} {KEYWORDS}"} for n in range(60)]
    rows += [{"text": prose(60, 5000 + n)} for n in range(400)]
    metrics = taught(table(rows))[1]
    assert metrics["undesirable_auc_url"] < 0.65 < metrics["undesirable_auc"]


def test_no_document_is_scored_by_a_model_that_saw_it() -> None:
    """A word that stands in one blocked page only can't raise that page's score."""
    documents = crawl(blocked=30, keywords=0, innocent=0)
    marked = documents.set_column(
        documents.schema.get_field_index("text"),
        "text",
        pa.array([f"{prose(60, 77)} {'zyxwv ' * 40}", *documents["text"].to_pylist()[1:]]),
    )
    model, _ = taught(marked)
    assert model.scores(marked)[0] < 0.3


def test_the_order_and_size_of_batches_and_the_number_of_workers_change_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    documents = crawl()
    reversed_ = documents.take(pa.array(range(documents.num_rows - 1, -1, -1)))
    (one, metrics), (other, same) = taught(documents), taught(reversed_, rows=17)
    assert same == metrics
    assert np.array_equal(one.scores(documents), other.scores(reversed_)[::-1])
    part = documents.slice(20, 5)
    assert np.array_equal(one.scores(part), one.scores(documents)[20:25])


def test_the_sample_is_bounded_and_keywords_are_at_most_half_of_it() -> None:
    metrics = taught(crawl(blocked=200, keywords=200, good=900))[1]
    assert metrics["undesirable_positives"] == 100 and metrics["undesirable_negatives"] == 200
    assert metrics["undesirable_positives_url"] == 50


def test_too_few_examples_no_classifier() -> None:
    model, metrics = taught(crawl(blocked=5, keywords=4))
    assert model.scores(crawl()) is None
    assert metrics["undesirable_auc"] is None and metrics["undesirable_positives"] == 9


def test_blocked_pages_in_other_languages_teach_nothing() -> None:
    german = "Der Fluss fließt an der alten Mühle vorbei, wo die Kinder des Dorfes fischen, und niemand weiß warum. "
    rows = [{"text": f"{german * 2} Seite {n}.", "url": f"https://a{n}.ads.invalid/"} for n in range(30)]
    english = LANGUAGES.model_copy(update={"keep": {"default": ["en"]}})
    assert taught(table(rows), LABELLER._replace(languages=english))[1]["undesirable_positives"] == 0
    assert taught(table(rows))[1]["undesirable_positives"] == 30


def test_platts_targets_keep_a_page_between_two_clear_classes_between_them() -> None:
    logits = csr_matrix(np.array([*[5.0] * 50, *[-5.0] * 150])[:, None])
    fitted = platt(logits, np.array([1] * 50 + [0] * 150))
    low, middle, high = fitted.probabilities(csr_matrix(np.array([[-5.0], [0.0], [5.0]])))[:, 1]
    assert high == pytest.approx(51 / 52, abs=1e-3) and low == pytest.approx(1 / 152, abs=1e-3)
    assert 0.2 < middle < 0.8
