from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.base import tables
from stages.base.artifacts import PLANTED
from stages.base.errors import ParamError
from stages.base.params import parse
from stages.base.schemas import DOCUMENT, DROP
from stages.corpus import dedup
from stages.corpus.dedup import DedupParams, deduplicate, near_duplicates, shingle_set
from stages.corpus.duplicates import lsh
from stages.corpus.duplicates.spill import spill_folder
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


@pytest.fixture(autouse=True)
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINYARD_WORKERS", "1")


def in_batches(documents: pa.Table, size: int):
    """A reader of the table, `size` rows at a time."""

    def read(columns: list[str] | None = None):
        chosen = documents.select(columns) if columns else documents
        return (chosen.slice(start, size) for start in range(0, chosen.num_rows, size))

    return read


def run(documents: pa.Table, folder: Path, *, batch: int = 7, seed: int = 0, notices=None, params=PARAMS):
    """(kept, drops, summed facts)."""
    with spill_folder(folder / "spill") as spill:
        outcomes = list(
            deduplicate(in_batches(documents, batch), params, seed=seed, folder=spill, notices=notices or {})
        )
    assert list(folder.iterdir()) == []
    facts = {name: sum(outcome.facts[name] for outcome in outcomes) for name in outcomes[0].facts}
    return pa.concat_tables(o.kept for o in outcomes), pa.concat_tables(o.drops for o in outcomes), facts


def five_grams(text: str) -> set[tuple[str, ...]]:
    words = text.lower().replace(".", "").split()
    return {tuple(words[place : place + 5]) for place in range(len(words) - 4)}


def similarity(one: set, other: set) -> float:
    return len(one & other) / max(1, len(one | other))


def brute_force(texts: list[str], threshold: float) -> list[int]:
    """Components by flooding over all pairs, each named by its smallest member."""
    grams = [five_grams(text) for text in texts]
    label = list(range(len(texts)))
    changed = True
    while changed:
        changed = False
        for one in range(len(texts)):
            for other in range(one):
                if similarity(grams[one], grams[other]) >= threshold and label[one] != label[other]:
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
    assert similarity(five_grams(texts[-1]), five_grams(texts[-6])) < 0.7
    labels = near_duplicates(texts, PARAMS, seed=3)
    assert labels.dtype == np.int64
    assert labels.tolist() == brute_force(texts, 0.7)


def test_recall_and_precision_against_all_pairs() -> None:
    """Two thousand documents of which half are edited copies: every pair compared exactly, by Python's sets."""
    random = np.random.default_rng(8)
    texts = [prose(int(random.integers(60, 300)), seed) for seed in range(1000)]
    for number in range(1000):
        words = texts[number].split()
        for place in random.choice(len(words), int(random.integers(1, 8)), replace=False):
            words[place] = f"other{random.integers(1 << 30)}"
        texts.append(" ".join(words))
    grams = [five_grams(text) for text in texts]
    # Two documents without a common gram are not alike: only pairs with one are compared.
    holders: dict[tuple[str, ...], list[int]] = {}
    for row, one in enumerate(grams):
        for gram in one:
            holders.setdefault(gram, []).append(row)
    pairs = {(a, b) for rows in holders.values() for a in rows for b in rows if a < b}
    exact = {pair: similarity(grams[pair[0]], grams[pair[1]]) for pair in pairs}
    labels = near_duplicates(texts, PARAMS, seed=1)
    close = [pair for pair, value in exact.items() if value >= 0.9]
    assert len(close) > 100
    assert np.mean([labels[a] == labels[b] for a, b in close]) >= 0.95
    found = [(row, int(label)) for row, label in enumerate(labels) if label != row]
    assert np.mean([exact.get((label, row), 0.0) >= PARAMS.jaccard for row, label in found]) >= 0.99


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=2, max_size=12))
def test_identical_texts_share_a_cluster_and_others_do_not(which: list[int]) -> None:
    labels = near_duplicates([prose(40, seed) for seed in which], PARAMS)
    assert [[a == b for a in labels] for b in labels] == [[a == b for a in which] for b in which]


def test_ten_thousand_copies_are_one_cluster() -> None:
    assert set(near_duplicates([prose(60, 1)] * 10_000, PARAMS).tolist()) == {0}


def test_texts_without_words_are_alone() -> None:
    every = PARAMS.model_copy(update={"min_words": 0})
    assert near_duplicates(["", "", "...", "one"], every).tolist() == [0, 1, 2, 3]
    assert near_duplicates(["one", "One!", "two", ""], every).tolist() == [0, 0, 2, 3]
    assert near_duplicates([], PARAMS).tolist() == []


def test_short_texts_are_alone_and_any_script_is_compared() -> None:
    assert near_duplicates(["four words it has"] * 2, PARAMS).tolist() == [0, 1]
    greek = "Ο ΛΟΓΟΣ ΤΟΥ ΣΟΦΟΥ ΕΙΝΑΙ ΠΑΝΤΑ ΟΡΘΟΣ"
    texts = [
        greek,
        greek.lower(),
        "слово за слово — и так весь день напролёт",
        "Слово за слово и ТАК весь день, напролёт!",
    ]
    assert near_duplicates(texts, PARAMS).tolist() == [0, 0, 2, 2]


def test_shingle_sets_are_sorted_and_distinct() -> None:
    text = "a b c d e " * 4
    assert len(shingle_set(text, 5)) == len(five_grams(text)) == 5
    assert (np.diff(shingle_set(text, 5).astype(object)) > 0).all()
    assert len(lsh.distinct(np.zeros(0, np.uint64))) == 0


def mixed_corpus() -> pa.Table:
    """Documents of two sources with every kind of duplicate, links and furniture."""
    rows = []
    for number in range(12):
        base, source = prose(120, number), "one" if number % 3 else "two"
        footer = "\nThis page belongs to the site of all pages and to nobody else."
        rows += [
            {"text": base + footer, "source": source, "url": f"https://a.invalid/{number}"},
            {"text": base + footer, "source": "one", "url": f"https://mirror.invalid/{number}"},
            {"text": edited(base, 60, number) + footer, "source": source, "url": f"https://near.invalid/{number}"},
            {
                "text": prose(80, 500 + number),
                "source": source,
                "url": f"https://links.invalid/{number}",
                "links": [f"http://mirror.invalid/{number - 1}#top", f"https://near.invalid/{number}"] * 2,
            },
            {"text": prose(90, 700 + number), "source": source, "url": f"http://www.a.invalid/{number}/?utm_source=x"},
        ]
    return table(rows)


def test_any_batches_make_the_same_tables(tmp_path: Path) -> None:
    """Other engines: test_engines.py."""
    documents = mixed_corpus()
    expected = run(documents, tmp_path, batch=60)
    assert 0 < expected[1].num_rows < 60
    assert set(expected[1]["rule"].to_pylist()) == {"url_duplicate", "exact_duplicate", "near_duplicate"}
    for batch in (1, 13, 20):
        found = run(documents, tmp_path, batch=batch)
        # repr: NaN equals itself
        assert [repr(part.to_pylist()) for part in found[:2]] == [repr(part.to_pylist()) for part in expected[:2]]
        assert found[2] == expected[2]


def test_order_of_the_documents_does_not_matter(tmp_path: Path) -> None:
    documents = mixed_corpus()
    kept = [
        {row["id"]: row["text"] for row in run(part, tmp_path)[0].to_pylist()}
        for part in (documents, documents.take(list(range(documents.num_rows))[::-1]))
    ]
    assert kept[0] == kept[1]


def test_the_passes_make_the_clusters_of_the_corpus_in_memory(tmp_path: Path) -> None:
    texts = [edited(prose(120, number // 3), 60, number % 3) for number in range(30)]
    documents = table([{"text": text, "id": f"{row:016x}"} for row, text in enumerate(texts)])
    _, drops, _ = run(documents, tmp_path, seed=4)
    labels = near_duplicates(texts, PARAMS, seed=4)
    twins = dict(zip(drops["id"].to_pylist(), drops["duplicate_of"].to_pylist(), strict=True))
    assert len(twins) == sum(labels != np.arange(30)) == 20
    assert all(labels[int(one, 16)] == labels[int(other, 16)] for one, other in twins.items())


def test_each_drop_names_its_twin(tmp_path: Path) -> None:
    base, other = prose(150, 1), prose(150, 2)
    near = edited(base, 75, 5)
    documents = table(
        [
            {"text": base, "url": "https://a.invalid/page"},
            {"text": other, "url": "https://a.invalid/other", "links": ["https://a.invalid/page"]},
            {"text": base + " tail", "url": "http://www.a.invalid/page/?utm_source=x"},
            {"text": other, "url": "https://mirror.invalid/other"},
            {"text": near, "url": "https://mirror.invalid/page", "source": "another"},
        ]
    )
    ids = documents["id"].to_pylist()
    kept, drops, _ = run(documents, tmp_path)
    # Same URL: the longer text stays, though the other spelling is the one linked to (both count as one URL).
    assert set(kept["id"].to_pylist()) == {ids[2], min(ids[1], ids[3])}
    twins = dict(zip(drops["id"].to_pylist(), drops["duplicate_of"].to_pylist(), strict=True))
    assert twins[ids[0]] == ids[2]
    assert twins[ids[4]] == ids[2]
    assert sorted(drops["rule"].to_pylist()) == ["exact_duplicate", "near_duplicate", "url_duplicate"]


def test_documents_without_a_url_do_not_share_one(tmp_path: Path) -> None:
    urls = ["", "", "", "file:///a.jsonl#1", "file:///a.jsonl#2"]  # a file's name is none: two sources may share it
    kept, _, _ = run(table([{"text": prose(30, n), "url": url} for n, url in enumerate(urls)]), tmp_path)
    assert kept.num_rows == 5


def test_a_short_text_of_which_nothing_was_taken_stays(tmp_path: Path) -> None:
    kept, _, _ = run(table([{"text": "Short, and all its own."}, {"text": prose(30, 1)}]), tmp_path)
    assert kept.num_rows == 2


def test_the_linked_page_represents_its_mirrors(tmp_path: Path) -> None:
    text = prose(100, 9)
    rows = [{"text": text, "url": f"https://mirror.invalid/{n}"} for n in range(5)]
    # A page's links to itself, and its second link to another, don't count.
    rows[0]["links"] = ["https://mirror.invalid/0", "https://mirror.invalid/0#part"]
    rows += [{"text": text, "url": "https://origin.invalid/page"}]
    rows += [{"text": prose(100, 10), "url": "https://hub.invalid/", "links": ["http://origin.invalid/page#top"]}]
    kept, _, _ = run(table(rows), tmp_path)
    assert set(kept["url"].to_pylist()) == {"https://origin.invalid/page", "https://hub.invalid/"}


def test_repeated_lines_are_those_of_the_source_and_of_what_stays(tmp_path: Path) -> None:
    notice = "All pages of this site are kept by its editors."
    rows = [{"text": f"{notice}\n{prose(30, n)}"} for n in range(5)] + [{"text": notice}]
    rows += [{"text": f"{notice}\n{prose(30, n)}", "source": "another"} for n in range(20, 24)]
    # Copies are dropped first: a fifth page of the other source would make the line repeated.
    rows += [{"text": f"{notice}\n{prose(30, 20)}", "source": "another"}]
    kept, drops, facts = run(table(rows), tmp_path)
    assert kept["text"].to_pylist() == [prose(30, n) for n in range(5)] + [row["text"] for row in rows[6:10]]
    assert drops["reason"].to_pylist() == ["nothing_left", "same_text"]
    assert facts["paragraph_characters_removed"] == 6 * len(notice)
    hashes = dict(zip(kept["text"].to_pylist(), kept["text_hash"].to_pylist(), strict=True))
    assert hashes == {row["text"]: row["text_hash"] for row in table([{"text": text} for text in hashes]).to_pylist()}


def test_a_source_without_a_rule_is_an_error(tmp_path: Path) -> None:
    params = PARAMS.model_copy(update={"paragraphs": {"another": PARAMS.paragraphs["default"]}})
    with pytest.raises(ParamError, match=r"corpus\.dedup\.paragraphs.*made_up"):
        run(table([{"text": prose(30, 1)}]), tmp_path, params=params)


def test_planted_notices_are_counted(tmp_path: Path) -> None:
    notice = "All pages of this site are kept by its editors."
    rows = [{"text": f"{notice}\n{prose(30, n)}"} for n in range(5)] + [{"text": f"{prose(30, 9)}\nA single line."}]
    documents = table(rows)
    url = documents["url"].to_pylist()
    notices = {url[0]: [notice], url[1]: [notice, "not on the page"], url[5]: ["A single line."]}
    _, _, facts = run(documents, tmp_path, notices=notices)
    assert (facts["boilerplate_planted"], facts["boilerplate_removed"]) == (3, 2)


def test_the_stage_writes_tables_and_figures_and_leaves_no_spill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(f"corpus: {{seed: 1, dedup: {PARAMS.model_dump_json()}}}")
    documents = mixed_corpus()
    tables.write_table("data/corpus/screen/documents.parquet", documents, DOCUMENT)
    truth = [{"url": "https://mirror.invalid/1", "kind": "exact_duplicate", "of_url": "https://a.invalid/1"}]
    tables.write_table(PLANTED, planted(truth), planted(truth).schema)
    dedup.main()
    folder = Path("data/corpus/dedup")
    assert sorted(path.name for path in folder.iterdir()) == [
        "documents.parquet", "drops.parquet", "metrics.json", "record.json",
    ]  # fmt: skip
    read = partial(tables.read_table, schema=DOCUMENT)
    kept, drops = read(folder / "documents.parquet"), tables.read_table(folder / "drops.parquet", DROP)
    assert set(kept["id"].to_pylist()) | set(drops["id"].to_pylist()) == set(documents["id"].to_pylist())
    assert kept.num_rows + drops.num_rows == documents.num_rows
