"""One page to its text, links, licence and signals, within bounds of work. Runs in a sandbox: nothing else is imported.

The bounds are counts of bytes, tags and levels, so that the same pages are refused on every machine.
"""

import json
from typing import NamedTuple

from stages.corpus.pages import signals
from stages.corpus.pages.html_text import Mode, extract
from stages.corpus.pages.licence import declared_licence
from stages.corpus.pages.nesting import too_deep
from stages.corpus.sources.charset import decode_page
from stages.corpus.sources.raw import unwrap


class Bounds(NamedTuple):
    mode: Mode
    max_page_bytes: int
    max_tags: int
    max_nesting: int


class Extracted(NamedTuple):
    text: str
    links: list[str]
    licence: str  # what the page declares, "" for nothing
    opt_out: list[str]  # signals of the page's meta elements
    problem: str  # "" or too_large, too_many_tags, too_deep, failed, empty; crashed, timeout, out_of_memory


def lost(problem: str) -> Extracted:
    """What there is of a page that gives nothing."""
    return Extracted("", [], "", [], problem)


def extract_page(html: bytes, url: str, bounds: Bounds) -> Extracted:
    """Everything of one page, or why there is nothing.

    Raises MemoryError only: a page that breaks an extractor has `failed`.
    """
    if len(html) > bounds.max_page_bytes:
        return lost("too_large")
    plain = unwrap(html) is not None
    if not plain and html.count(b"<") > bounds.max_tags:
        return lost("too_many_tags")
    if not plain and too_deep(html, bounds.max_nesting):
        return lost("too_deep")
    try:
        text, links = extract(html, url, bounds.mode)
        if not text.strip():
            return lost("empty")
        if plain:
            return Extracted(text, [], "", [], "")
        # Tags are looked for as bytes, which those of UTF-16 are not.
        markup = decode_page(html).encode("utf-8", "replace") if b"\0" in html else html
        return Extracted(text, links, declared_licence(markup, url), sorted(signals.of_page(markup)), "")
    except MemoryError:
        raise
    except Exception:  # the parsers raise whatever hostile input makes them raise
        return lost("failed")


def request_head(url: str, bounds: Bounds) -> bytes:
    """The head of a sandbox's request for a page."""
    return json.dumps({"url": url, "bounds": bounds}).encode()


def answer(head: bytes, body: bytes) -> bytes:
    """The sandbox's entry: `extract_page` from and to bytes."""
    asked = json.loads(head)
    extracted = extract_page(body, asked["url"], Bounds(*asked["bounds"]))
    return json.dumps(extracted, ensure_ascii=False).encode("utf-8", "replace")


def read_answer(told: bytes) -> Extracted:
    return Extracted(*json.loads(told))
