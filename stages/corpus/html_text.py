"""One HTML page to its main text and links: bounded, normalised, with two extractors to choose from.

`volume` is Resiliparse's main-content heuristic (Bevendorff et al., "Elastic ChatNoir", ECIR 2018), which also drops
unordered lists that lie right below the body. `fast` and `precision` are Trafilatura's (Barbaresi, "Trafilatura",
ACL 2021): slower by several times, more precise.
"""

import re
import unicodedata
from typing import Literal
from urllib.parse import urldefrag, urljoin, urlsplit

from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.encoding import bytes_to_str, detect_encoding
from resiliparse.parse.html import HTMLTree

from stages.corpus.plain import unwrap

Mode = Literal["volume", "fast", "precision"]
CONTAINERS = re.compile(
    rb"<(/?)(?:div|span|table|tbody|tr|td|ul|ol|dl|blockquote|section|article|main|font|center|b|i|em|form)[\s>]",
    re.IGNORECASE,
)
META_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w\-:]+)", re.IGNORECASE)
MAX_LINKS = 1000
LIST_ITEM = re.compile(r"^\s*(?:[-*•+]|\d+[.)])\s")


def decode(page: bytes) -> str:
    """Bytes to text: UTF-8 if valid, else the charset that the page declares, else a guess; never fails."""
    try:
        return page.decode("utf-8-sig")
    except UnicodeDecodeError:
        pass
    declared = META_CHARSET.search(page[:4096])
    if declared:
        try:
            return page.decode(declared[1].decode("ascii"))
        except (UnicodeError, LookupError):
            pass
    return bytes_to_str(page, detect_encoding(page) or "utf-8", errors="replace")


def depth(page: bytes) -> int:
    """A bound on how deeply containers are nested, in one pass: opening tags minus closing tags, at the most."""
    open_tags = deepest = 0
    for match in CONTAINERS.finditer(page):
        open_tags = max(0, open_tags - 1) if match[1] else open_tags + 1
        deepest = max(deepest, open_tags)
    return deepest


def main_text(html: str, url: str, mode: Mode) -> str:
    """The main text as the chosen extractor gives it."""
    if mode == "volume":
        return extract_plain_text(html, preserve_formatting=True, main_content=True, alt_texts=False)
    import trafilatura

    text = trafilatura.extract(
        html, url=url or None, fast=mode == "fast", favor_precision=mode == "precision", include_comments=False
    )
    return paragraphs(text or "")


def paragraphs(text: str) -> str:
    """Trafilatura's lines are paragraphs: set a blank line between them, except between items of a list."""
    out: list[str] = []
    for line in text.split("\n"):
        if out and not (LIST_ITEM.match(line) and LIST_ITEM.match(out[-1])):
            out.append("")
        out.append(line)
    return "\n".join(out)


def normalise(text: str) -> str:
    """NFC, no control characters, no trailing blanks, paragraphs separated by exactly one blank line."""
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))
    text = "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs"))
    text = "\n".join(line.rstrip() for line in text.split("\n"))
    return re.sub(r"\n{3,}", "\n\n", text).strip("\n")


def links(html: str, url: str) -> list[str]:
    """Absolute http(s) addresses that the page links to, in page order, each once, without fragments."""
    root = HTMLTree.parse(html).document
    found: dict[str, None] = {}
    for anchor in root.get_elements_by_tag_name("a") if root is not None else ():
        target = (anchor.getattr("href") or "").strip()
        try:
            address = urldefrag(urljoin(url, target)).url
            if target and urlsplit(address).scheme in ("http", "https") and address != url:
                found[address] = None
        except ValueError:  # `http://[bad` and its like
            continue
        if len(found) >= MAX_LINKS:
            break
    return list(found)


def extract_text(html: bytes, url: str = "", mode: Mode = "fast") -> str:
    """The main text of a page: paragraphs separated by blank lines, lists and code kept, NFC.

    Plain text that `corpus.ingest` wrapped is handed on. Returns "" if there is no main text.
    """
    plain = unwrap(html)
    return normalise(plain if plain is not None else main_text(decode(html), url, mode))
