"""page_links: absolute addresses, the short way and the long way the same."""

from urllib.parse import urldefrag, urljoin, urlsplit

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stages.corpus.pages.links import MAX_LINKS, absolute, links, origin

BASES = ["https://a.org/x/y.html", "http://a.org", "https://a.org:8080/x/?q", "", "ftp://a.org/x", "https://A.org/%7e/"]


def joined(base: str, target: str) -> str:
    """By the standard library alone."""
    try:
        address = urldefrag(urljoin(base, target)).url
        return address if urlsplit(address).scheme in ("http", "https") else ""
    except ValueError:
        return ""


@settings(max_examples=1000, deadline=None)
@given(
    st.sampled_from(BASES),
    st.text("/.?#:;=&a1-_~%[]@\\ äs", max_size=12),
    st.sampled_from(["", "/", "http://b.c", "//"]),
)
@example("https://a.org/x", "a//b", "/")
@example("https://a.org/x", "", "http://b.c")
@example("https://a.org/x", "/../x", "http://b.c")
def test_addresses_are_those_of_the_standard_library(base, target, start):
    target = (start + target).strip()
    assert absolute(base, origin(base), target) == joined(base, target)


@pytest.mark.parametrize(
    ("base", "expected"),
    [("", ["https://a.org/x/b", "https://a.org/c"]), ("/z/", ["https://a.org/z/b", "https://a.org/c"])],
)
def test_the_base_element_counts(base, expected):
    head = f'<head><base href="{base}"></head>' if base else ""
    targets = ("b#1", "b", "", " /c ", "tel:1")
    page = head + "<a>no</a>" + "".join(f'<a href="{target}">x</a>' for target in targets)
    assert links(page, "https://a.org/x/y") == expected


def test_links_are_bounded():
    page = "".join(f'<a href="/{n}">x</a>' for n in range(MAX_LINKS + 10))
    assert links(page, "https://a.org/") == [f"https://a.org/{n}" for n in range(MAX_LINKS)]
