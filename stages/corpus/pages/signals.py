"""Signals against use for training: X-Robots-Tag and robots meta elements, the TDM Reservation Protocol.

They end in the `opt_out` column: `x-robots-tag:noai meta:noindex tdm-reservation`, sorted. (TDMRep: W3C community group
report, 2024. `noai` and `noimageai` are directives that large hosts of pictures and texts introduced in 2022.)
"""

import html
import re

DIRECTIVES = frozenset(("noai", "noimageai", "noindex", "none"))  # `none` is short for `noindex, nofollow`
META = re.compile(rb"<meta\s[^<>]{0,1000}>", re.IGNORECASE)
ATTRIBUTE = re.compile(r"""([\w:-]{1,50})\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))""")


def directives(value: str) -> set[str]:
    """The directives of a header or meta element that speak against use.

    A directive for one crawler (`googlebot: noindex`) counts like one for all: nobody can know the others' intent.
    """
    words = (part.rpartition(":")[2].strip().lower() for part in value.split(","))
    return set(DIRECTIVES.intersection(words))


def of_headers(headers: list[tuple[str, str]]) -> set[str]:
    """Signals in HTTP headers; names are in lower case."""
    found = set()
    for name, value in headers:
        if name == "x-robots-tag":
            found |= {f"x-robots-tag:{directive}" for directive in directives(value)}
        elif name == "tdm-reservation" and value.strip() == "1":
            found.add("tdm-reservation")
    return found


def of_page(page: bytes) -> set[str]:
    """Signals in the meta elements of a page: found in its bytes, in time linear in their number."""
    found = set()
    for tag in META.findall(page):
        if not any(word in tag.lower() for word in (b"bot", b"tdm-")):  # most of them
            continue
        attributes = attributes_of(tag)
        name, content = attributes.get("name", "").strip().lower(), attributes.get("content", "")
        if name == "tdm-reservation" and content.strip() == "1":
            found.add("tdm-reservation")
        elif name == "robots" or name.endswith("bot"):
            found |= {f"meta:{directive}" for directive in directives(content)}
    return found


def attributes_of(tag: bytes) -> dict[str, str]:
    """Attributes of a start tag, names in lower case, the first of each name."""
    found: dict[str, str] = {}
    for name, double, single, bare in ATTRIBUTE.findall(tag.decode("utf-8", "replace")):
        found.setdefault(name.lower(), html.unescape(double or single or bare))
    return found


def join(found: set[str]) -> str:
    """The `opt_out` column of a set of signals; `split` of it is the set."""
    return " ".join(sorted(found))
