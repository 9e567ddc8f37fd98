"""One spelling for the URLs of one page."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.corpus.links.url import canonical


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("http://www.Example.invalid:80/a/", "https://example.invalid/a"),
        ("https://example.invalid/a/./b/../c/index.html#top", "https://example.invalid/a/c"),
        ("https://example.invalid/?b=2&a=1&utm_source=mail", "https://example.invalid/?a=1&b=2"),
        ("https://example.invalid/%7euser", "https://example.invalid/~user"),
        ("https://example.invalid/a?PHPSESSID=1f3870be274f6c49b3e31a0c6728957f", "https://example.invalid/a"),
        ("https://example.invalid/a?ref_src=twsrc%5Etfw#part", "https://example.invalid/a"),
        ("https://example.invalid/#!/%7euser", "http://www.example.invalid#!/~user"),
        ("http://bücher.example/a", "http://xn--bcher-kva.example/a"),
        ("http://BÜCHER.example/a", "http://b%C3%BCcher.example./a"),
        ("http://bu\u0308cher.example", "https://www.bücher.example:443"),
        ("https://www.example.invalid.:443/x", "https://example.invalid/x"),
        ("http://例え。jp/", "http://xn--r8jz45g.jp"),
        ("http://☃.example/", "http://xn--n3h.example/"),
        ("http://faß.example/", "http://xn--fa-hia.example/"),
    ],
)
def test_spellings_of_one_url_agree(one: str, other: str) -> None:
    assert canonical(one) == canonical(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://example.invalid/a?page=1", "https://example.invalid/a?page=2"),
        ("https://example.invalid/A", "https://example.invalid/a"),
        ("https://example.invalid/article.pl?sid=03/12/01/1", "https://example.invalid/article.pl?sid=04/07/21/2"),
        ("https://example.invalid/talk?sessionid=4", "https://example.invalid/talk?sessionid=5"),
        ("https://example.invalid/source?ref=main", "https://example.invalid/source?ref=v1.2"),
        ("https://example.invalid/#!/a", "https://example.invalid/#!/b"),
        ("https://example.invalid/#!/a", "https://example.invalid/"),
        ("https://example.invalid/", "https://example.invalid:8080/"),
        ("https://example.invalid/%C4%E3.html", "https://example.invalid/%BA%C3.html"),  # not UTF-8: GBK
        ("https://example.invalid/?q=%C4%E3", "https://example.invalid/?q=%BA%C3"),
        ("http://faß.example/", "http://fass.example/"),
    ],
)
def test_different_pages_stay_apart(one: str, other: str) -> None:
    assert canonical(one) != canonical(other)


@given(st.text(max_size=60))
def test_canonical_takes_anything(url: str) -> None:
    assert isinstance(canonical(url), str)
