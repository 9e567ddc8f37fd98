"""Signals against training and licences, in headers and pages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.corpus.pages import signals
from stages.corpus.pages.licence import declared_licence


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("noai, noimageai", {"noai", "noimageai"}),
        ("index,follow", set()),
        ("NONE", {"none"}),
        ("otherbot: noindex, nofollow", {"noindex"}),
        ("unavailable_after: 25 Jun 2040 15:00:00 PST", set()),
        ("nonsense noai", set()),
        ("max-snippet:-1,noai", {"noai"}),
    ],
)
def test_directives_speak_against_use(value, found):
    assert signals.directives(value) == found
    assert signals.of_headers([("x-robots-tag", value)]) == {f"x-robots-tag:{one}" for one in found}
    assert signals.of_page(f'<META CONTENT="{value}" name=Robots>'.encode()) == {f"meta:{one}" for one in found}


@pytest.mark.parametrize(
    ("tag", "found"),
    [
        ('<meta name="tdm-reservation" content="1">', {"tdm-reservation"}),
        ('<meta name="tdm-reservation" content="0">', set()),
        ("<meta name='description' content='about noai and robots'>", set()),
        ('<meta name="robots" content="no&#97;i">', {"meta:noai"}),
        ('<meta property="robots">', set()),
        ("<meta name=googlebot content=noindex/>", set()),  # without quotes the slash belongs to the value
        ("<meta name=googlebot content=noindex>", {"meta:noindex"}),
    ],
)
def test_meta_elements(tag, found):
    assert signals.of_page(b"<html><head>" + tag.encode()) == found


@given(st.binary(max_size=300))
def test_no_bytes_break_them(page):
    for start in (b"<meta name=robots ", b"<a rel=license href=", b'<link rel="license" href="'):
        signals.of_page(start + page + b">")
        declared_licence(start + page + b">", "https://a.org/")


@pytest.mark.parametrize(
    ("tag", "licence"),
    [
        ('<a rel="license" href="http://creativecommons.org/licenses/by/4.0/">', "CC-BY-4.0"),
        ("<link HREF='http://creativecommons.org/licenses/by-nc-nd/3.0/us/' REL='x License'>", "CC-BY-NC-ND-3.0"),
        ('<a rel=license href="//creativecommons.org/publicdomain/zero/1.0/">', "CC0-1.0"),
        ('<a rel="license" href="https://creativecommons.org/publicdomain/mark/1.0/">', "CC-PDM-1.0"),
        ('<a rel="license" href="/terms.html?lang=en#top">', "https://a.org/terms.html"),
        ('<a rel="license" href="https://creativecommons.org/licenses/">', "https://creativecommons.org/licenses/"),
        ('<a href="https://creativecommons.org/licenses/by/4.0/">license</a>', ""),
        ('<a rel="license" href="javascript:x()">', ""),
        ('<a rel="license" href="http://[bad">', ""),
        ('<p rel="license" href="http://x/">', ""),
        ('<a rel="license-info" href="http://x/">', ""),
        ('<a rel="license">', ""),
    ],
)  # fmt: skip
def test_licences(tag, licence):
    assert declared_licence(b"<p>The license is < there > " + tag.encode(), "https://a.org/b") == licence


def test_the_first_licence_counts():
    tags = b'<a rel="license" href="http://x/1"><a rel="license" href="http://x/2">'
    assert declared_licence(tags, "https://a.org/") == "http://x/1"
