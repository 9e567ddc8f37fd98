import numpy as np
import pyarrow as pa
import pytest

from stages.base.errors import ParamError
from stages.base.params import parse
from stages.corpus.classifiers.examples import Wanted, gather
from stages.corpus.classifiers.likeness import Likeness
from stages.corpus.domains import (
    DomainsParams,
    Namer,
    draw,
    learn,
    name_documents,
    seed_labels,
    summarise,
)
from tests.corpus.documents import WORDS, prose, settings, table

SETTINGS = settings(
    """
    seeds: {stars: ['/astro/'], herbs: ['^garden ', '/herbs/']}
    min_probability: 0.6
    max_examples: 1000
    folds: 4
    feature_bits: 12
    characters: 2000
    inverse_penalty: 10.0
    """
)
PARAMS = parse("corpus.domains", SETTINGS, DomainsParams)


@pytest.fixture(autouse=True)
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINYARD_WORKERS", "1")


def fitted(documents: pa.Table, params: DomainsParams = PARAMS, size: int = 16) -> Namer:
    batches = [documents.slice(start, size) for start in range(0, documents.num_rows, size)]
    drawn = draw(batches, params, 0)
    keys = np.unique(np.concatenate([np.zeros(0, np.uint64), *drawn.values()]))
    found = gather(batches, Wanted(keys, ("id",), params.characters, params.feature_bits))
    return learn(found, drawn, params, 0)


def named(documents: pa.Table, namer: Namer) -> tuple[list[str], dict, dict]:
    outcome = name_documents(documents, namer)
    facts = outcome.facts | {"documents_out": outcome.kept.num_rows}
    return outcome.kept["domain"].to_pylist(), *summarise(facts, namer.names)


def documents() -> pa.Table:
    """60 pages about stars and 60 about herbs, 10 of each with no label, and 20 about neither."""
    parts = [
        ("stars", WORDS[:40], 60, "https://a.invalid/astro/"),
        ("herbs", WORDS[40:80], 60, "https://b.invalid/herbs/"),
    ]
    rows = [
        {"text": prose(50, 100 * place + n, words), "url": f"{url if n < 50 else 'https://c.invalid/'}{place}/{n}"}
        for place, (_, words, count, url) in enumerate(parts)
        for n in range(count)
    ]
    return table([*rows, *({"text": prose(50, 300 + n, WORDS[80:]), "url": f"//d/{n}"} for n in range(20))])


def test_the_first_rule_that_matches_names_the_domain() -> None:
    sources, urls = ["web", "garden", "garden", "web"], ["//a/astro/1", "//b/x", "//b/astro/", "//c/"]
    assert seed_labels(sources, urls, PARAMS.seeds) == ["stars", "herbs", "stars", ""]
    with pytest.raises(ParamError, match="regular expression"):
        seed_labels(sources, urls, {"stars": ["["]})


def test_a_domain_that_would_be_taken_for_the_total_is_refused() -> None:
    with pytest.raises(ParamError, match=r"`corpus\.domains\.seeds`.*can't be named `out`"):
        parse("corpus.domains", SETTINGS | {"seeds": {"out": ["/out/"]}}, DomainsParams)


def test_unlabelled_documents_get_the_domain_of_their_words() -> None:
    domains, metrics, sizes = named(documents(), fitted(documents()))
    assert domains == ["stars"] * 60 + ["herbs"] * 60 + ["other"] * 20
    assert metrics["accuracy"] == 1.0
    assert metrics["majority_accuracy"] == 0.5
    assert (metrics["labelled"], metrics["classified"]) == (100, 40)
    texts = documents()["text"].to_pylist()
    assert sizes["other"] == {"documents": 20, "bytes": sum(len(text.encode()) for text in texts[120:])}
    assert metrics["documents_stars"] == 60


def test_accuracy_of_labels_that_mean_nothing_is_chance() -> None:
    """The words are the same in both domains: a model that saw a document would know its label."""
    urls = ["https://a.invalid/astro/", "https://b.invalid/herbs/"]
    rows = [{"text": prose(40, n), "url": f"{urls[n % 2]}{n}"} for n in range(400)]
    _, metrics, _ = named(table(rows), fitted(table(rows)))
    assert abs(metrics["accuracy"] - 0.5) < 3.5 * 0.5 / np.sqrt(400)


def test_batches_and_their_order_change_nothing() -> None:
    every = documents()
    backwards = every.take(pa.array(range(every.num_rows - 1, -1, -1)))
    whole, _, _ = named(every, fitted(every))
    namer = fitted(backwards, size=5)
    parts = [name_documents(every.slice(start, 7), namer).kept for start in range(0, every.num_rows, 7)]
    assert pa.concat_tables(parts)["domain"].to_pylist() == whole


def test_examples_are_bounded_by_domain() -> None:
    params = parse("corpus.domains", SETTINGS | {"max_examples": 30}, DomainsParams)
    assert [len(keys) for keys in draw([documents()], params, 0).values()] == [30, 30]
    domains, metrics, _ = named(documents(), fitted(documents(), params))
    assert domains[:120] == ["stars"] * 60 + ["herbs"] * 60
    assert metrics["labelled"] == 100  # all labelled documents are judged, learned from or not


def test_documents_unlike_every_domain_are_other() -> None:
    """The classifier is sure of the domain, as it knows no other: of words that only one domain has a few of."""
    strange = [
        {"text": prose(45, 900 + n, WORDS[80:]) + " " + prose(5, n, WORDS[:40]), "url": "//d/"} for n in range(30)
    ]
    every = table([*documents().to_pylist(), *strange])
    namer = fitted(every)
    assert named(every, namer)[0][-30:] == ["other"] * 30
    closed = namer._replace(likeness=Likeness(namer.likeness.words, np.full(2, -np.inf)))
    assert named(every, closed)[0][-30:].count("stars") > 20


def test_a_domain_of_a_few_documents_is_no_one_else_s() -> None:
    rows = [{"text": prose(50, 700 + n, WORDS[80:]), "url": f"//garden/{n}", "source": "rare"} for n in range(5)]
    params = parse("corpus.domains", SETTINGS | {"seeds": SETTINGS["seeds"] | {"rare": ["^rare "]}}, DomainsParams)
    every = table([*documents().to_pylist(), *rows])
    domains, metrics, _ = named(every, fitted(every, params))
    assert domains == ["stars"] * 60 + ["herbs"] * 60 + ["other"] * 20 + ["rare"] * 5
    assert (metrics["labelled"], metrics["classified"], metrics["accuracy"]) == (105, 40, 1.0)


def test_seeds_that_are_no_regular_expressions_are_refused_before_any_work() -> None:
    for bad in ("[", "(?i)x|(?i)y", "*x"):
        with pytest.raises(ParamError, match=r"`corpus\.domains\.seeds\.stars.*not a regular expression"):
            parse("corpus.domains", SETTINGS | {"seeds": {"stars": [bad]}}, DomainsParams)


def test_one_domain_needs_no_classifier() -> None:
    every = table([{"text": "a", "url": "//a/astro/"}, {"text": "b", "url": "//b/"}])
    domains, metrics, _ = named(every, fitted(every))
    assert domains == ["stars", "other"]
    assert metrics["accuracy"] is None
