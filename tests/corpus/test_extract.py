"""extract: structure kept, any bytes survived, any worker count the same, and the published F1 of real pages."""

import re
import unicodedata

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.base import schemas
from stages.base.engine import map_batches
from stages.corpus import extract
from stages.corpus.extract import ExtractParams, extract_text
from stages.corpus.pages.html_text import links, normalise
from stages.corpus.pages.nesting import depth
from stages.corpus.pages.page import extract_page
from stages.corpus.sources.charset import decode_page
from stages.corpus.sources.occurrences import document_id
from stages.corpus.sources.raw import wrap
from stages.corpus.step import Outcome
from tests.corpus import hostile

PARAMS = ExtractParams(
    mode="volume",
    max_page_bytes=100_000,
    max_tags=5000,
    max_nesting=300,
    max_memory_mib=512,
    max_page_seconds=60.0,
    max_drop=0.5,
)
BOUNDS = PARAMS.bounds
SENTENCE = "The quick brown fox jumps over the lazy dog while the sun is setting behind the hills. "
PAGE = f"""<html><head><title>T</title></head><body><nav><ul><li><a href="/home">Home</a></li></ul></nav>
<main><article><section><h1>Title</h1><p>{SENTENCE * 3}</p><p>Second. {SENTENCE * 2}</p>
<ul><li>The first item of the list. {SENTENCE}</li><li>The second item of the list. {SENTENCE}</li></ul><pre><code>x = 1
    y = 2</code></pre><p>Links to <a href="../b.html#part">b</a>, <a href="https://c.org/">c</a>,
<a href="b.html">again</a>, <a href="mailto:x@y">mail</a>, <a href="http://[bad">bad</a>.</p></section></article></main>
<footer>Copyright footer</footer></body></html>"""


@pytest.mark.parametrize("mode", ["volume", "fast", "precision"])
def test_paragraphs_are_separated_and_furniture_is_gone(mode):
    text = extract_text(PAGE.encode(), "https://a.org/x/y.html", mode)
    assert f"{SENTENCE * 3}".strip() + "\n\nSecond." in text
    assert "first item of the list" in text and "x = 1" in text
    assert "Copyright footer" not in text and "\n\n\n" not in text


def test_links_are_absolute_and_in_page_order():
    assert links(PAGE, "https://a.org/x/y.html") == [
        "https://a.org/home", "https://a.org/b.html", "https://c.org/", "https://a.org/x/b.html",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("café".encode(), "café"),
        (b'<meta charset="iso-8859-2">\xb1', '<meta charset="iso-8859-2">ą'),
        (b"\xef\xbb\xbfbom", "bom"),
        ('<meta http-equiv="Content-Type" content="text/html; charset=Shift_JIS">日本'.encode("shift_jis"),
         '<meta http-equiv="Content-Type" content="text/html; charset=Shift_JIS">日本'),
    ],
)  # fmt: skip
def test_bytes_are_decoded_by_what_they_are(page, text):
    assert decode_page(page) == text


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_break_a_page(page):
    result = extract_page(b"<html><body><p>" + page, "https://a.org/", BOUNDS)
    assert result.problem in ("", "empty", "failed")
    result.text.encode()


@given(st.text(max_size=200))
def test_normalised_text_is_a_fixed_point(text):
    once = normalise(text)
    assert normalise(once) == once == unicodedata.normalize("NFC", once)
    assert "\n\n\n" not in once and not re.search(r"[\x00-\x08\x0b-\x1f]", once)


def test_bounds_have_their_reasons():
    assert extract_page(b"x" * 100_001, "", BOUNDS).problem == "too_large"
    assert extract_page(b"<div>" * 301 + b"text", "", BOUNDS).problem == "too_deep"
    assert extract_page(b"<br>" * 5001 + b"text", "", BOUNDS).problem == "too_many_tags"
    assert extract_page(wrap("<" * 6000 + " text"), "", BOUNDS).problem == ""
    assert depth(b"<div></div>" * 1000) == 1
    assert extract_page(b"<html></html>", "", BOUNDS).problem == "empty"


def test_wrapped_text_is_handed_on():
    assert extract_page(wrap("a <b> c\r\n\r\n\r\nd"), "", BOUNDS).text == "a <b> c\n\nd"


def table(pages: list[tuple[bytes, str]], **columns: str) -> pa.Table:
    rows = [
        {"id": document_id("s", url, 0), "source": "s", "url": url, "licence": "", "opt_out": "", "html": html}
        | columns
        for html, url in pages
    ]
    return pa.Table.from_pylist(rows, schema=schemas.PAGE)


@pytest.fixture(autouse=True)
def no_sandbox_is_left():
    yield
    extract.close_sandboxes()


def outcome(pages: list[tuple[bytes, str]], params: ExtractParams = PARAMS, **columns: str) -> Outcome:
    return extract.extract_batch(table(pages, **columns), params)


def test_any_number_of_workers_gives_the_same_documents_in_order(monkeypatch):
    pages = [(PAGE.replace("Title", f"Title {n}").encode(), f"https://a.org/{n}") for n in range(150)]
    pages[70] = (b"<div>" * 400, "https://a.org/70")
    batches = [table(pages[start : start + 40]) for start in range(0, 150, 40)]
    found = []
    for workers in ("1", "2"):
        monkeypatch.setenv("TRAINYARD_WORKERS", workers)
        parts = list(map_batches(extract.extract_batch, batches, PARAMS))
        kept = pa.concat_tables(part.kept for part in parts).drop_columns("quality")  # NaN equals nothing
        found.append((kept, pa.concat_tables(part.drops for part in parts)))
    assert found[0][0].equals(found[1][0]) and found[0][1].equals(found[1][1])
    documents, drops = found[0]
    expected = [extract_page(html, url, BOUNDS) for html, url in pages]
    assert documents["text"].to_pylist() == [page.text for page in expected if not page.problem]
    assert documents["url"].to_pylist() == [url for n, (_, url) in enumerate(pages) if n != 70]
    assert drops["reason"].to_pylist() == ["too_deep"] and drops["sample"][0].as_py().startswith("<div><div>")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_hostile_pages_cost_themselves_on_any_number_of_workers(monkeypatch, workers):
    monkeypatch.setenv("TRAINYARD_WORKERS", workers)
    monkeypatch.setattr(extract, "MODULE", extract.MODULE)  # put back after the batches have changed it
    params = PARAMS.model_copy(update={"max_page_seconds": 3.0})
    bad = {3: "segfault", 4: "exhaust", 9: "hang", 17: "abort"}
    pages = [((f"<{bad[n]}>" if n in bad else PAGE).encode(), f"https://a.org/{n}") for n in range(20)]
    batches = [table(pages[start : start + 10]) for start in (0, 10)]
    parts = list(map_batches(hostile.extract_batch, batches, params))
    drops = [(row["url"], row["reason"]) for part in parts for row in part.drops.to_pylist()]
    reasons = {3: "crashed", 4: "out_of_memory", 9: "timeout", 17: "out_of_memory"}
    assert drops == [(f"https://a.org/{n}", reason) for n, reason in reasons.items()]
    assert sum(part.kept.num_rows for part in parts) == 16
    assert [part.facts["wall_clock_drops"] for part in parts] == [1, 0]


def test_a_page_declares_its_licence_and_its_signals():
    head = """<meta name="robots" content="noarchive, NoAI"><META CONTENT=noindex NAME=otherbot>
    <meta name="description" content="noai"><meta content="1" name="tdm-reservation">"""
    licence = '<a rel="license" href="//creativecommons.org/licenses/by-sa/4.0/deed.de">CC</a>'
    html = PAGE.replace("<title>", head + "<title>").replace("Copyright footer", licence).encode()
    found = outcome([(html, "https://a.org/"), (PAGE.encode(), "https://a.org/b")], opt_out="x-robots-tag:noai").kept
    assert found["opt_out"].to_pylist() == [
        "meta:noai meta:noindex tdm-reservation x-robots-tag:noai", "x-robots-tag:noai",
    ]  # fmt: skip
    assert found["licence"].to_pylist() == ["CC-BY-SA-4.0", ""]
    assert outcome([(html, "https://a.org/")], licence="MIT").kept["licence"].to_pylist() == ["MIT"]
    utf16 = outcome([(b"\xff\xfe" + html.decode().encode("utf-16-le"), "https://a.org/")]).kept
    assert utf16["licence"].to_pylist() == ["CC-BY-SA-4.0"]
