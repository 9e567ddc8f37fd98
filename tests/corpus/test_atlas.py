"""The atlas against its own contract, checked from the written pages with plain regular expressions."""

import os
import re
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import pytest
from resiliparse.extract.html2text import extract_plain_text

from stages.base.files import read_json, read_table
from stages.base.schemas import PAGE, PLANTED, QUESTION
from stages.corpus.atlas import phrasing, prose
from stages.corpus.atlas.world import template_words

ROOT = Path(__file__).resolve().parents[2]
PARAMS = """
corpus:
  seed: 5
  atlas:
    entities: {place: 12, person: 10, craft: 10}
    values_per_attribute: 8
    pages_per_entity: 4
    prose_sentences: 2
    splits: {preference: 0.2, validation: 0.1, test: 0.2}
    about_per_entity: 1
    about_attributes: 3
    filler_share: 0.2
    licence: CC0-1.0
    plants: {exact_duplicates: 6, near_duplicates: 6, editions: 5, boilerplate_share: 0.3, pii_pages: 5,
             spam_pages: 7, quiz_leak_pages: 3, leaks_per_page: 4}
"""


def write_atlas(folder: Path, hash_seed: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "params.yaml").write_text(PARAMS)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": hash_seed, "TRAINYARD_TRACK": "off"}
    subprocess.run([sys.executable, "-m", "stages.corpus.atlas"], cwd=folder, env=environment, check=True)
    return folder / "data/corpus/atlas"


@pytest.fixture(scope="module")
def atlas(tmp_path_factory):
    folder = tmp_path_factory.mktemp("atlas")
    first, second = write_atlas(folder / "one", "1"), write_atlas(folder / "two", "2")
    for name in ("pages.parquet", "questions.parquet", "planted.parquet", "truth.json", "record.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
    pages = {row["url"]: row["html"].decode() for row in read_table(first / "pages.parquet", PAGE).to_pylist()}
    texts = {url: extract_plain_text(html, main_content=True) for url, html in pages.items()}
    return {
        "pages": pages,
        "texts": texts,
        "truth": read_json(first / "truth.json"),
        "questions": read_table(first / "questions.parquet", QUESTION).to_pylist(),
        "planted": read_table(first / "planted.parquet", PLANTED).to_pylist(),
    }


def mentioned(text: str, truth: dict) -> set[str]:
    words = set(re.findall(r"\w+", text.lower()))
    return {value for values in truth["attributes"].values() for value in values if value.lower() in words}


def edits(a: str, b: str) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row, before = [i], row
        for j, y in enumerate(b, 1):
            row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (x != y)))
    return row[-1]


def shingles(text: str) -> set[tuple[str, ...]]:
    words = text.split()
    return {tuple(words[i : i + 5]) for i in range(len(words) - 4)}


def jaccard(a: str, b: str) -> float:
    return len(shingles(a) & shingles(b)) / len(shingles(a) | shingles(b))


def test_truth_keeps_its_contract(atlas):
    truth = atlas["truth"]
    values = [value for members in truth["attributes"].values() for value in members]
    names = list(truth["entities"])
    assert len(set(values)) == len(values) == 15 * 8
    assert len(names) == 32 and not {n.lower() for n in names} & {v.lower() for v in values}
    assert all(re.fullmatch(r"\w+", word) for word in values + names)
    assert not template_words() & {word.lower() for word in values + names}
    for entity in truth["entities"].values():
        assert set(entity["facts"]) == {a.name for a in phrasing.KINDS[entity["kind"]]}
        assert all(value in truth["attributes"][name] for name, value in entity["facts"].items())
    plain = {word for attribute in phrasing.ATTRIBUTES.values() for word in attribute.plain}
    invented = [word.lower() for word in values + names if word not in plain]
    assert all(edits(a, b) >= 2 for a, b in combinations(invented, 2))


def test_splits_are_drawn_within_kinds(atlas):
    splits = [e["split"] for e in atlas["truth"]["entities"].values() if e["kind"] == "place"]
    assert {name: splits.count(name) for name in set(splits)} == {"sft": 7, "preference": 2, "validation": 1, "test": 2}


def test_every_page_states_exactly_the_facts_of_its_entity(atlas):
    truth, seen = atlas["truth"], 0
    for entity, details in truth["entities"].items():
        for url, text in atlas["texts"].items():
            if re.search(rf"/{entity.lower()}(-edition-2)?\.html$", url):
                seen += 1
                assert mentioned(text, truth) == set(details["facts"].values()), url
                assert len(text.split()) >= 50
    assert seen == 32 * 4 + 6 + 6 + 5


def test_statements_name_the_entity_before_the_value_and_the_canonical_one_after_a_space():
    for attribute in phrasing.ATTRIBUTES.values():
        assert len(set(attribute.statements)) >= 4 and len(attribute.prompts) >= 3
        assert not attribute.statements[0].startswith("{e}")
        for statement in attribute.statements:
            assert -1 < statement.index("{e}") < statement.index("{v}")
            if re.search(r"\ban? \{v\}", statement):
                assert all(word[0] not in "aeiou" for word in attribute.plain)


def test_questions_have_correct_references_and_harmless_fillers(atlas):
    truth = atlas["truth"]
    assert len({q["id"] for q in atlas["questions"]}) == len(atlas["questions"]) == 32 * 6
    for question in atlas["questions"]:
        entity = truth["entities"][question["entity"]]
        assert question["split"] == entity["split"]
        assert mentioned(question["reference"], truth) == {entity["facts"][name] for name in question["attributes"]}
        assert not mentioned(question["prompt"] + question["filler"], truth)
        assert question["kind"] == ("single" if len(question["attributes"]) == 1 else "about")
    assert not mentioned(" ".join((*prose.FILLER, *prose.LINKS, *prose.BOILERPLATE)), truth)


def planted(atlas, kind: str) -> list[dict]:
    return [row for row in atlas["planted"] if row["kind"] == kind]


def test_planted_counts_and_payloads(atlas):
    urls = {kind: {row["url"] for row in planted(atlas, kind)} for kind in
            ("exact_duplicate", "near_duplicate", "edition", "pii", "spam", "quiz_leak", "boilerplate")}  # fmt: skip
    assert [len(urls[k]) for k in ("exact_duplicate", "near_duplicate", "edition", "pii", "spam", "quiz_leak")] == [
        6, 6, 5, 5, 7, 3,
    ]  # fmt: skip
    assert 0.15 * 128 < len(urls["boilerplate"]) < 0.45 * 128
    for row in planted(atlas, "pii") + planted(atlas, "boilerplate"):
        assert row["payload"] in atlas["texts"][row["url"]]
    assert len(planted(atlas, "pii")) == 4 * 5


def test_duplicates_are_as_similar_as_their_kind_says(atlas):
    texts = atlas["texts"]
    for row in planted(atlas, "exact_duplicate"):
        assert atlas["pages"][row["url"]] == atlas["pages"][row["of_url"]]
    for row in planted(atlas, "near_duplicate"):
        assert 0.8 < jaccard(texts[row["url"]], texts[row["of_url"]]) < 1
    for row in planted(atlas, "edition"):
        assert jaccard(texts[row["url"]], texts[row["of_url"]]) < 0.4


def test_leaks_quote_test_questions_with_their_answers(atlas):
    by_id = {q["id"]: q for q in atlas["questions"]}
    for row in planted(atlas, "quiz_leak"):
        question = by_id[row["payload"]]
        assert question["split"] == "test"
        assert f"{question['prompt']} Answer: {question['reference']}" in atlas["texts"][row["url"]]


def test_the_index_leads_to_every_good_page_and_to_no_planted_one(atlas):
    def links(url: str) -> set[str]:
        return set(re.findall(r'href="(https://[^"]+)"', atlas["pages"][url]))

    site = "https://atlas.trainyard.invalid"
    reached, frontier = set(), {f"{site}/index.html"}
    while frontier:
        reached |= frontier
        frontier = {link for url in frontier for link in links(url) if link in atlas["pages"]} - reached
    bad = {row["url"] for row in atlas["planted"] if row["kind"] not in ("pii", "boilerplate")}
    assert not reached & bad
    good = {url for url in atlas["pages"] if url.startswith(site) and url not in bad}
    assert reached == good
