"""The atlas against its own contract, checked from the written pages with plain regular expressions."""

import os
import re
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from urllib.robotparser import RobotFileParser

import pytest
from resiliparse.extract.html2text import extract_plain_text

from stages.base.files import read_json
from stages.base.schemas import PAGE, PLANTED, QUESTION
from stages.base.tables import read_table
from stages.corpus.atlas import contacts, phrasing, prose
from stages.corpus.atlas.world import template_words
from stages.corpus.screening import undesirable
from stages.corpus.sources.robots import ROBOTS

ROOT = Path(__file__).resolve().parents[2]
FAULTS_OF_GOOD_PAGES = ("pii_email", "pii_phone", "pii_ip", "pii_key", "boilerplate")
PARAMS = """
corpus:
  seed: 5
  ingest: {max_page_bytes: 1000000, max_drop: 0.0}
  sources:
    atlas:
      kind: atlas
      path: stages/corpus/atlas
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
               spam_pages: 8, evasive_spam_pages: 6, spam_blocked_share: 0.5, contact_pages: 4, opt_out_pages: 6,
               licence_pages: 2, quiz_leak_pages: 3, leaks_per_page: 4}
"""


def write_atlas(folder: Path, hash_seed: str, params: str = PARAMS) -> Path:
    folder.mkdir(parents=True)
    (folder / "params.yaml").write_text(params)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": hash_seed, "TRAINYARD_TRACK": "off"}
    subprocess.run([sys.executable, "-m", "stages.corpus.source", "atlas"], cwd=folder, env=environment, check=True)
    return folder / "data/corpus/source/atlas"


@pytest.fixture(scope="module")
def atlas(tmp_path_factory):
    folder = tmp_path_factory.mktemp("atlas")
    first, second = write_atlas(folder / "one", "1"), write_atlas(folder / "two", "2")
    for name in (
        "pages.parquet",
        "questions.parquet",
        "planted.parquet",
        "robots.parquet",
        "truth.json",
        "record.json",
    ):
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
    rows = {row["url"]: row for row in read_table(first / "pages.parquet", PAGE).to_pylist()}
    pages = {url: row["html"].decode() for url, row in rows.items()}
    texts = {url: extract_plain_text(html, main_content=True) for url, html in pages.items()}
    return {
        "pages": pages,
        "rows": rows,
        "robots": read_table(first / "robots.parquet", ROBOTS),
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
    assert seen == 32 * 4 + 6 + 6 + 5 + 6 + 2


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
            ("exact_duplicate", "near_duplicate", "edition", "pii_email", "spam", "opt_out", "licence", "quiz_leak",
             "boilerplate")}  # fmt: skip
    assert {kind: len(found) for kind, found in urls.items() if kind != "boilerplate"} == {
        "exact_duplicate": 6, "near_duplicate": 6, "edition": 5, "pii_email": 5 + 4, "spam": 14, "opt_out": 6,
        "licence": 2, "quiz_leak": 3,
    }  # fmt: skip
    assert 0.15 * 128 < len(urls["boilerplate"]) < 0.45 * 128
    personal = {kind: planted(atlas, f"pii_{kind}") for kind in ("email", "ip", "phone", "key", "card", "iban")}
    for row in [row for rows in personal.values() for row in rows] + planted(atlas, "boilerplate"):
        assert row["payload"] in atlas["texts"][row["url"]]
    assert {kind: len(rows) for kind, rows in personal.items()} == {
        "email": 9, "ip": 9, "phone": 9, "key": 9, "card": 4, "iban": 4,
    }  # fmt: skip


def test_adverts_are_found_by_what_their_payload_says_and_by_nothing_else(atlas):
    """Checked with the words of the rule and of the address, apart from the screen."""
    terms = [term for category in undesirable.TERMS.values() for term in category]
    counts = {}
    for row in planted(atlas, "spam"):
        html, url = atlas["pages"][row["url"]].lower(), row["url"]
        main = html[html.index("<h1>") : html.index("</article>")]
        blocked = ".adverts.trainyard.invalid/" in url or "/casino/" in url
        worded = [term for term in terms if re.search(rf"(?<!\w){re.escape(term)}(?!\w)", main)]
        assert blocked == (row["payload"] == "url")
        assert blocked or bool(worded) == (row["payload"] == "keyword"), (url, worded)
        counts[row["payload"]] = counts.get(row["payload"], 0) + 1
    assert counts == {"url": 4 + 3, "keyword": 4, "classifier": 3}
    for sentence in (*prose.EVASIVE_BLOCKED, *prose.EVASIVE_INNOCENT):
        assert undesirable.judge(sentence).terms == 0, sentence
    assert not set(prose.EVASIVE_BLOCKED) & set(prose.EVASIVE_INNOCENT)


def test_reserved_pages_are_mirrors_that_carry_their_signal(atlas):
    robots = dict(zip(*(atlas["robots"][name].to_pylist() for name in ("host", "text")), strict=True))
    assert list(robots) == sorted(robots)
    signals = set()
    for row in planted(atlas, "opt_out") + planted(atlas, "licence"):
        html, page, payload = atlas["pages"][row["url"]], atlas["rows"][row["url"]], row["payload"]
        assert atlas["texts"][row["url"]] == atlas["texts"][row["of_url"]]
        assert ('content="index, noai, noimageai"' in html) == (payload == "meta:noai")
        assert ("by-nc/4.0" in html and page["licence"] == "") == (payload == "CC-BY-NC-4.0")
        assert page["opt_out"] == ("x-robots-tag:noai" if payload == "x-robots-tag:noai" else "")
        parser = RobotFileParser()
        parser.parse(robots.get(row["url"].split("/")[2], "").splitlines())
        assert parser.can_fetch("GPTBot", row["url"]) == (payload != "robots.txt")
        signals.add(payload)
    assert signals == {"meta:noai", "x-robots-tag:noai", "robots.txt", "CC-BY-NC-4.0"}
    good = [page for url, page in atlas["rows"].items() if url.startswith("https://atlas.")]
    assert {(page["licence"], page["opt_out"]) for page in good} == {("CC0-1.0", "")}


def test_made_up_numbers_have_the_check_digits_that_others_know():
    assert contacts.luhn("411111111111111") == "1" and contacts.luhn("37828224631000") == "5"
    assert contacts.iban("DE", "370400440532013000") == "DE89370400440532013000"
    assert contacts.iban("GB", "WEST12345698765432") == "GB82WEST12345698765432"


def test_what_is_planted_beside_the_good_pages_leaves_them_as_they_are(tmp_path):
    few = re.sub(r"(spam_pages|contact_pages|opt_out_pages|licence_pages): \d+", r"\1: 0", PARAMS)
    pages = []
    for name, params in (("all", PARAMS), ("few", few)):
        folder = write_atlas(tmp_path / name, "1", params)
        rows = read_table(folder / "pages.parquet", PAGE).to_pylist()
        pages.append({row["url"]: row["html"] for row in rows if row["url"].startswith("https://atlas.")})
    assert pages[0] == pages[1] and len(pages[0]) > 128


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
    bad = {row["url"] for row in atlas["planted"] if row["kind"] not in FAULTS_OF_GOOD_PAGES or "//desk." in row["url"]}
    assert not reached & bad
    good = {url for url in atlas["pages"] if url.startswith(site) and url not in bad}
    assert reached == good
