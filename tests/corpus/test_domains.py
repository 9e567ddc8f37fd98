import pytest

from stages.base.errors import ParamError
from stages.base.params import parse
from stages.corpus.domains import DomainsParams, classify, seed_labels
from tests.corpus.documents import WORDS, prose, settings

PARAMS = parse(
    "corpus.domains",
    settings(
        """
        seeds: {stars: ['/astro/'], herbs: ['^garden ', '/herbs/']}
        min_probability: 0.6
        folds: 4
        feature_bits: 12
        characters: 2000
        inverse_penalty: 10.0
        """
    ),
    DomainsParams,
)


def test_the_first_rule_that_matches_names_the_domain() -> None:
    sources, urls = ["web", "garden", "garden", "web"], ["//a/astro/1", "//b/x", "//b/astro/", "//c/"]
    assert seed_labels(sources, urls, PARAMS.seeds) == ["stars", "herbs", "stars", ""]
    with pytest.raises(ParamError, match="regular expression"):
        seed_labels(sources, urls, {"stars": ["["]})


def test_unlabelled_documents_get_the_domain_of_their_words() -> None:
    stars = [prose(50, n, WORDS[:40]) for n in range(60)]
    herbs = [prose(50, 100 + n, WORDS[40:80]) for n in range(60)]
    mixed = [prose(50, 200 + n, WORDS[80:]) for n in range(20)]
    texts = [*stars, *herbs, *mixed]
    seeded = ["stars"] * 50 + [""] * 10 + ["herbs"] * 50 + [""] * 10 + [""] * 20
    domains, metrics = classify([str(n) for n in range(140)], texts, seeded, PARAMS, seed=0)
    assert domains[:120] == ["stars"] * 60 + ["herbs"] * 60
    assert set(domains[120:]) == {"other"}
    assert metrics["accuracy"] == 1.0
    assert metrics["majority_accuracy"] == 0.5
    assert (metrics["labelled"], metrics["classified"]) == (100, 40)


def test_one_domain_needs_no_classifier() -> None:
    domains, metrics = classify(["1", "2"], ["a", "b"], ["stars", ""], PARAMS, seed=0)
    assert domains == ["stars", "other"]
    assert metrics["accuracy"] is None
