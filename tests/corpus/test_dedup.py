import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.base.params import parse
from stages.corpus import minhash, paragraphs
from stages.corpus.dedup import DedupParams, deduplicate, near_duplicates, planted_metrics
from tests.corpus.documents import planted, prose, table
from tests.corpus.documents import settings as read

PARAMS = parse(
    "corpus.dedup",
    read(
        """
        max_drop: 0.9
        ngram: 5
        bands: 14
        rows: 8
        jaccard: 0.7
        min_words: 5
        paragraphs: {default: {max_documents: 4, min_characters: 30}}
        min_characters: 10
        """
    ),
    DedupParams,
)


def five_grams(text: str) -> set[tuple[str, ...]]:
    words = text.lower().replace(".", "").split()
    return {tuple(words[place : place + 5]) for place in range(len(words) - 4)}


def brute_force(texts: list[str], threshold: float) -> list[int]:
    """Components by flooding over all pairs, each named by its smallest member."""
    grams = [five_grams(text) for text in texts]
    label = list(range(len(texts)))
    changed = True
    while changed:
        changed = False
        for one in range(len(texts)):
            for other in range(one):
                similarity = len(grams[one] & grams[other]) / max(1, len(grams[one] | grams[other]))
                if similarity >= threshold and label[one] != label[other]:
                    label[one] = label[other] = min(label[one], label[other])
                    changed = True
    return label


def edited(text: str, every: int, start: int = 0) -> str:
    words = text.split()
    return " ".join("changed" if place % every == start else word for place, word in enumerate(words))


def test_clusters_are_the_components_of_all_pairs() -> None:
    texts = []
    for family in range(20):
        base = prose(200, family)
        texts += [base, edited(base, 100, 7), edited(base, 100, 53), prose(200, 1000 + family)]
    # A chain: neighbours are alike, its ends are not. Only connected components put it together.
    chain = prose(300, 77).split()
    texts += [" ".join(chain[shift : shift + 240]) for shift in range(0, 60, 10)]
    assert len(five_grams(texts[-1]) & five_grams(texts[-6])) / len(five_grams(texts[-1]) | five_grams(texts[-6])) < 0.7
    labels = near_duplicates(texts, PARAMS, seed=3)
    assert labels.dtype == np.int64
    assert labels.tolist() == brute_force(texts, 0.7)


@pytest.mark.parametrize(("common", "tolerance"), [(97, 0.05), (90, 0.05), (80, 0.06), (60, 0.06)])
def test_banding_follows_the_s_curve(common: int, tolerance: float) -> None:
    """Share of pairs with a common bucket against 1 - (1 - J^8)^14 (Mining of Massive Datasets, 3.4.2)."""
    random = np.random.default_rng(common)
    pairs, each = 300, 100
    found = 0
    sets = []
    for _ in range(pairs):
        pool = random.integers(0, 1 << 63, 2 * each, np.uint64)
        sets += [np.sort(pool[:each]), np.sort(pool[each - common : 2 * each - common])]
    signatures = minhash.signatures(sets, 14 * 8, seed=5)
    together = set()
    for bucket in minhash.buckets(signatures, 14):
        members = set(bucket.tolist())
        together |= {row for row in members if row % 2 == 0 and row + 1 in members}
    found = len(together) / pairs
    similarity = common / (2 * each - common)
    assert abs(found - (1 - (1 - similarity**8) ** 14)) < tolerance


def test_signatures_estimate_jaccard() -> None:
    random = np.random.default_rng(0)
    pool = random.integers(0, 1 << 63, 1500, np.uint64)
    one, other = np.sort(pool[:1000]), np.sort(pool[500:])
    signatures = minhash.signatures([one, other], 4096, seed=1)
    exact = minhash.jaccard(one, other)
    assert exact == pytest.approx(1 / 3)
    assert (signatures[0] == signatures[1]).mean() == pytest.approx(exact, abs=4 * (exact * (1 - exact) / 4096) ** 0.5)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=2, max_size=12))
def test_identical_texts_share_a_cluster_and_others_do_not(which: list[int]) -> None:
    labels = near_duplicates([prose(40, seed) for seed in which], PARAMS)
    assert [[a == b for a in labels] for b in labels] == [[a == b for a in which] for b in which]


def test_texts_without_words_are_alone() -> None:
    assert near_duplicates(["", "", "...", "one"], PARAMS.model_copy(update={"min_words": 0})).tolist() == [0, 1, 2, 3]
    assert near_duplicates([], PARAMS).tolist() == []


def test_each_drop_names_its_twin() -> None:
    base, other = prose(150, 1), prose(150, 2)
    near = edited(base, 75, 5)
    documents = table(
        [
            {"text": base, "url": "https://a.invalid/page"},
            {"text": other, "url": "https://a.invalid/other", "links": ["https://a.invalid/page"]},
            {"text": base + " tail", "url": "http://www.a.invalid/page/?utm_source=x"},
            {"text": other, "url": "https://mirror.invalid/other"},
            {"text": near, "url": "https://mirror.invalid/page"},
        ]
    )
    ids = documents["id"].to_pylist()
    kept, drops, _ = deduplicate(documents, PARAMS, seed=0)
    # Same URL: the longer text stays, though the other spelling is the one linked to (both count as one URL).
    assert set(kept["id"].to_pylist()) == {ids[2], min(ids[1], ids[3])}
    twins = dict(zip(drops["id"].to_pylist(), drops["duplicate_of"].to_pylist(), strict=True))
    assert twins[ids[0]] == ids[2]
    assert twins[ids[4]] == ids[2]
    assert sorted(drops["rule"].to_pylist()) == ["exact_duplicate", "near_duplicate", "url_duplicate"]


def test_the_linked_page_represents_its_mirrors() -> None:
    text = prose(100, 9)
    rows = [{"text": text, "url": f"https://mirror.invalid/{n}"} for n in range(5)]
    rows += [{"text": text, "url": "https://origin.invalid/page"}]
    rows += [{"text": prose(100, 10), "url": "https://hub.invalid/", "links": ["http://origin.invalid/page#top"]}]
    kept, _, _ = deduplicate(table(rows), PARAMS, seed=0)
    assert set(kept["url"].to_pylist()) == {"https://origin.invalid/page", "https://hub.invalid/"}


def test_order_of_the_documents_does_not_matter() -> None:
    rows = [{"text": edited(prose(120, n // 3), 60, n % 3), "id": f"{n:016x}", "url": f"u{n}"} for n in range(30)]
    kept = {frozenset(deduplicate(table(order), PARAMS, seed=0)[0]["id"].to_pylist()) for order in (rows, rows[::-1])}
    assert len(kept) == 1
    assert len(kept.pop()) == 10


def test_furniture_goes_and_headings_stay() -> None:
    footer = "Subscribe to the letter of this site 12 times a year."
    pages = [f"Menu\n\nTopic {n}\n\nNotes\n\n{prose(30, n)}\n{footer.replace('12', str(n))}\n\nMenu" for n in range(6)]
    # Lines are compared with their digits levelled, so the headings "Topic 1", "Topic 2" count as one repeated line.
    lines = {"menu", "notes", paragraphs.normal(footer)}
    assert paragraphs.repeated(pages, 4) == lines | {"topic 0"}
    text, removed = paragraphs.without(pages[3], lines, min_characters=30)
    assert text == f"Topic 3\n\nNotes\n\n{prose(30, 3)}"
    assert removed == 2 * len("Menu") + len(footer) - 1


def test_a_text_of_nothing_but_furniture_is_dropped() -> None:
    notice = "All pages of this site are kept by its editors."
    rows = [{"text": f"{notice}\n{prose(30, n)}"} for n in range(6)] + [{"text": notice}]
    kept, drops, counts = deduplicate(table(rows), PARAMS, seed=0)
    assert kept["text"].to_pylist() == [prose(30, n) for n in range(6)]
    assert drops["reason"].to_pylist() == ["nothing_left"]
    assert counts["paragraph_characters_removed"] == 7 * len(notice)


def test_planted_cases_are_counted() -> None:
    base = prose(150, 1)
    documents = table(
        [{"text": t} for t in (base, base, edited(base, 75, 5), prose(150, 3), prose(150, 3), prose(150, 5))]
    )
    url = documents["url"].to_pylist()
    truth = planted(
        [
            {"url": url[1], "kind": "exact_duplicate", "of_url": url[0]},
            {"url": url[2], "kind": "near_duplicate", "of_url": url[0]},
            {"url": url[5], "kind": "near_duplicate", "of_url": url[0]},
            {"url": url[5], "kind": "edition", "of_url": url[0]},
        ]
    )
    kept, drops, _ = deduplicate(documents, PARAMS, seed=0)
    metrics = planted_metrics(truth, documents, kept, drops)
    assert metrics["exact_duplicate_recall"] == 1.0
    assert metrics["near_duplicate_recall"] == 0.5
    assert metrics["duplicate_precision"] == pytest.approx(2 / 3)
    assert metrics["edition_kept"] == 1.0
