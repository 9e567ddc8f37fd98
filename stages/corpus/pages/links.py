"""The addresses that a page links to."""

import re
from urllib.parse import urldefrag, urljoin, urlsplit

from resiliparse.parse.html import HTMLTree

MAX_LINKS = 1000
LONGEST = 2000  # characters of an address
# Most targets need no parsing: addresses that joining leaves as they are, and paths that it sets behind the host,
# for they have no white space, brackets, dots to resolve or empty parts to drop.
PLAIN_ADDRESS = re.compile(r"https?://[\w.-]+(?::\d+)?/[^\s#?;\[\]\\]*(?:\?[^\s#?;\[\]\\]+)?", re.ASCII)
PLAIN_PATH = re.compile(r"(?:/[\w~%@+,=-][\w.~%@+,=-]*)+/?(?:\?[\w.~%@+,=&/-]+)?", re.ASCII)


def origin(base: str) -> str:
    """Scheme and host of a page's address, "" if it isn't http(s)."""
    try:
        parts = urlsplit(base)
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.netloc}" if parts.scheme in ("http", "https") and parts.netloc else ""


def absolute(base: str, host: str, target: str) -> str:
    """`target` as an http(s) address without fragment, seen from a page at `base` (`host` is its origin), or ""."""
    address = target.partition("#")[0]
    if PLAIN_ADDRESS.fullmatch(address):
        return address
    if host and PLAIN_PATH.fullmatch(address):
        return host + address
    try:
        address = urldefrag(urljoin(base, target)).url
        return address if urlsplit(address).scheme in ("http", "https") else ""
    except ValueError:  # `http://[bad` and its like
        return ""


def tree_links(tree: HTMLTree, url: str) -> list[str]:
    """Absolute http(s) addresses in page order, each once, without fragments, at most MAX_LINKS of up to LONGEST."""
    root = tree.document
    if root is None:
        return []
    base_element = root.query_selector("base[href]")
    base = (absolute(url, "", (base_element.getattr("href") or "").strip()) if base_element else "") or url
    if len(base) > LONGEST:
        return []
    host = origin(base)
    # `values()`: iterating the list itself looks every element up from the front, in quadratic time.
    found: dict[str, None] = {}
    for anchor in root.query_selector_all("a[href]").values():
        target = (anchor.getattr("href") or "").strip()
        address = absolute(base, host, target) if 0 < len(target) <= LONGEST else ""
        if 0 < len(address) <= LONGEST and address != url:
            found[address] = None
            if len(found) >= MAX_LINKS:
                break
    return list(found)


def links(html: str, url: str) -> list[str]:
    """The links of a page that hasn't been parsed."""
    return tree_links(HTMLTree.parse(html), url)
