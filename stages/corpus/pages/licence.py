"""The licence that a page declares for itself: `rel="license"` of a link or an anchor."""

import re
from collections.abc import Iterator
from urllib.parse import urljoin, urlsplit

from stages.corpus.pages.signals import attributes_of

ELEMENTS = (b"<a", b"<link")
WORD = b"icense"  # of `license` and `License`; one search of the bytes, which is the quickest there is
REACH = 500  # bytes of a tag on either side of the word
CREATIVE_COMMONS = re.compile(r"/licenses/((?:by-)?(?:nc|nd|sa|nc-nd|nd-nc|nc-sa)|by)(?:/(\d\.\d))?(?:/|$)")
PUBLIC_DOMAIN = {"/publicdomain/zero/1.0": "CC0-1.0", "/publicdomain/mark/1.0": "CC-PDM-1.0"}


def declared_licence(page: bytes, url: str) -> str:
    """SPDX id of a Creative Commons licence, the address of another one, "" where the page declares none.

    The first declaration counts. A ported version (`by-sa/3.0/de`) is given the id of the licence that it ports. A mere
    link to a licence is no declaration: pages link to the licences of what they quote.
    """
    for tag in _tags(page):
        attributes = attributes_of(tag)
        target = attributes.get("href", "").strip()
        if "license" in attributes.get("rel", "").lower().split() and target:
            try:
                return licence_id(urljoin(url, target))
            except ValueError:  # `http://[bad` and its like
                continue
    return ""


def _tags(page: bytes) -> Iterator[bytes]:
    """Start tags of anchors and links that have the word in them."""
    place = page.find(WORD)
    while place >= 0:
        start = page.rfind(b"<", max(0, place - REACH), place)
        end = page.find(b">", place, place + REACH)
        tag = page[start:end] if 0 <= start < end else b""
        if tag and tag.split(maxsplit=1)[0].lower() in ELEMENTS:
            yield tag
        place = page.find(WORD, max(end, place + 1))


def licence_id(address: str) -> str:
    """A licence's address, shortened to its SPDX id where it is one of Creative Commons'."""
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https"):
        return ""
    if (parts.hostname or "").removeprefix("www.") == "creativecommons.org":
        path = parts.path.lower()
        if found := CREATIVE_COMMONS.match(path):
            terms = found[1].replace("nd-nc", "nc-nd")  # as version 1.0 had it
            return "-".join(("CC", terms.upper(), *filter(None, (found[2],))))
        for start, identifier in PUBLIC_DOMAIN.items():
            if path.startswith(start):
                return identifier
    return parts._replace(query="", fragment="").geturl()[:200]
