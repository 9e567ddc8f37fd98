"""Media types: WHATWG's own examples for headers, its table of signatures for bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.corpus.sources.media_type import MediaType, extract_type, parse_type, sniff

TAGS = "!DOCTYPE HTML,HTML,HEAD,SCRIPT,IFRAME,H1,DIV,FONT,TABLE,A,STYLE,TITLE,B,BODY,BR,P".split(",")  # noqa: SIM905


@pytest.mark.parametrize(
    ("values", "expected"),
    [  # the examples of Fetch, "extract a MIME type", but for those of an unknown type
        (["text/plain;charset=gbk, text/html"], ("text/html", "")),
        (["text/html;charset=gbk;a=b, text/html;x=y"], ("text/html", "gbk")),
        (["text/html;charset=gbk;a=b", "text/html;x=y"], ("text/html", "gbk")),
        (["text/html;charset=gbk", "x/x", "text/html;x=y"], ("text/html", "")),
        (["text/html", "cannot-parse"], ("text/html", "")),
        (["text/html", "*/*"], ("text/html", "")),
        (["text/html", ""], ("text/html", "")),
        (["text/html, charset=utf-8"], ("text/html", "")),
        (['text/html;charset="u,t;f-8"'], ("text/html", "u,t;f-8")),
        (["TEXT/HTML ; Charset=UTF-8 ; charset=gbk"], ("text/html", "utf-8")),
        (["text/html;;;charset='utf-8'"], ("text/html", "utf-8")),
        (["text/html charset=utf-8"], None),
        (["text/html/x"], None),
        (["html"], None),
        (["/html", "text/"], None),
        (["*/*"], None),
        ([], None),
    ],
)
def test_headers_come_to_a_type(values, expected):
    assert extract_type(values) == expected


@pytest.mark.parametrize("tag", TAGS)
def test_a_tag_makes_a_page(tag):
    for before in ("", " \n\t\r\x0c", "\ufeff"):
        for after in (">", " lang=en>"):
            assert sniff(f"{before}<{tag.lower()}{after}".encode()) == sniff(f"<{tag}{after}".encode()) == "text/html"
    assert sniff(f"<{tag}x>".encode()) in ("text/plain", "text/html")
    assert sniff(f"x <{tag}>".encode()) == "text/plain"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"<!-- x", "text/html"), (b"<?xml version='1.0'?><rss>", "text/xml"), (b"%PDF-1.7", "application/pdf"),
        (b"plain words", "text/plain"), (b"\xff\xfea\0b\0", "text/plain"), (b"a\0b", "application/octet-stream"),
        (b"\x89PNG\r\n\x1a\n\0", "application/octet-stream"), (b"", "text/plain"), (b"{\"a\": \"<p>\"}", "text/plain"),
    ],
)  # fmt: skip
def test_other_bytes_are_no_page(body, expected):
    assert sniff(body) == expected


@given(st.text(max_size=80), st.binary(max_size=200))
def test_anything_has_a_type_or_none(text, body):
    found = parse_type(text)
    assert found is None or isinstance(found, MediaType)
    extract_type([text, text])
    assert "/" in sniff(body)
