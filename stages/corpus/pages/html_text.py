"""One HTML page to its main text and links: decoded and parsed once, with four extractors to choose from.

`volume` is Resiliparse's main-content heuristic (Bevendorff et al., "Elastic ChatNoir", ECIR 2018). `fast` and
`precision` are Trafilatura's (Barbaresi, "Trafilatura", ACL 2021). `blocks` is our own: a linear model over the text
blocks of Resiliparse's tree. docs/corpus_extraction.md has the figures.
"""

from typing import Literal

from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.html import HTMLTree

from stages.corpus.pages.links import links, tree_links
from stages.corpus.pages.rewriting import rewrite
from stages.corpus.pages.text import normalise, paragraphs, protect, rows, unprotect
from stages.corpus.sources.charset import decode_page
from stages.corpus.sources.raw import unwrap

__all__ = ["Mode", "extract", "extract_text", "links", "normalise"]
Mode = Literal["volume", "fast", "precision", "blocks"]
SHALLOW_LISTS = "body>ul,body>*>ul,body>*>*>ul"


def deepen_lists(tree: HTMLTree) -> None:
    """Lists of text right below the body, moved deeper: Resiliparse takes every list up there for navigation."""
    root, body = tree.document, tree.body
    if root is None or body is None:
        return
    for listing in body.query_selector_all(SHALLOW_LISTS).values():
        words = len((listing.text_content or "").split())
        linked = sum(len((link.text_content or "").split()) for link in listing.get_elements_by_tag_name("a").values())
        if words < 8 or linked > 0.2 * words:
            continue
        for _ in range(3):
            wrapper = root.create_element("div")
            listing.replace_with(wrapper)
            wrapper.append_child(listing)


def main_text(html: str, tree: HTMLTree, markup: bytes, url: str, mode: Mode) -> str:
    """The main text of a page as the chosen extractor gives it. The tree is the page's, and is changed."""
    changed = rewrite(tree, markup)
    if mode == "blocks":
        from stages.corpus.pages.block_text import main_content

        return main_content(tree)
    has_code = protect(tree) if changed or "<pre" in html else False
    if mode == "volume":
        deepen_lists(tree)
        text = extract_plain_text(
            tree, preserve_formatting=True, main_content=True, alt_texts=False, comments=False, post_meta=False
        )
        text = rows(text) if "<table" in html else text
    else:
        import trafilatura

        lines = trafilatura.extract(
            str(tree.document) if changed or has_code else html,
            url=url or None,
            fast=mode == "fast",
            favor_precision=mode == "precision",
            include_comments=False,
        )
        text = paragraphs(lines or "")
    return unprotect(text) if has_code else text


def parse(html: bytes) -> tuple[str, HTMLTree, bytes]:
    """(The page decoded, its tree, its bytes in lower case), without NUL bytes."""
    page = decode_page(html)
    if b"\0" in html:
        page = page.replace("\0", "")
        html = page.encode("utf-8", "replace")
    return page, HTMLTree.parse(page), html.lower()


def extract(html: bytes, url: str, mode: Mode) -> tuple[str, list[str]]:
    """(The main text of a page, the addresses that it links to), from one decoding and one parse.

    The text has paragraphs separated by blank lines, lists with their marks, rows of tables as `a | b`, code with its
    indentation and formulas as `$…$`; it is NFC without control characters, and "" where there is no main text.
    Plain text that `corpus.ingest` wrapped is handed on, without links.
    """
    plain = unwrap(html)
    if plain is not None:
        return normalise(plain), []
    page, tree, markup = parse(html)
    found = tree_links(tree, url)
    return normalise(main_text(page, tree, markup, url, mode)), found


def extract_text(html: bytes, url: str = "", mode: Mode = "fast") -> str:
    """The text of `extract`."""
    plain = unwrap(html)
    if plain is not None:
        return normalise(plain)
    return normalise(main_text(*parse(html), url, mode))
