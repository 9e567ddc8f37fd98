"""Trusted links from lists, Wikipedia's dumps and the crawl itself: what is planted is found, damage is named."""

import bz2
import gzip
import random
from collections.abc import Callable
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.base.errors import InputError, ParamError
from stages.corpus.links import wikipedia_sql, wikipedia_xml
from stages.corpus.links.graph import (
    KeySet,
    hash64,
    hub_pattern,
    linked_keys,
    member,
    read_urls,
    reference_keys,
    url_keys,
)
from stages.corpus.links.wikipedia_xml import external_links

PIECES = [  # wikitext, and the addresses that its page links to
    ("[http://a.example/x?q=1|2 a label]", ["http://a.example/x?q=1|2"]),
    ("[https://b.example]", ["https://b.example"]),
    ("[//c.example/relative label]", ["https://c.example/relative"]),
    ("{{cite web|url=https://d.example/y|title=[[T]]|access-date=2020}}", ["https://d.example/y"]),
    ("{{cite web | title=T | URL = HTTP://d.example/Z }}", ["HTTP://d.example/Z"]),
    ("{{Official|http://e.example/e}}", ["http://e.example/e"]),
    ("see http://f.example/page.", ["http://f.example/page"]),
    ("(http://g.example/a_(b))", ["http://g.example/a_(b))"]),  # as MediaWiki: balanced or not, it has a `(`
    ("(http://g.example/a)", ["http://g.example/a"]),
    ("''http://h.example/i''", ["http://h.example/i"]),
    ("http://i.example/?a=1&amp;b=2", ["http://i.example/?a=1&b=2"]),
    ('<ref name="r">http://j.example/k</ref>', ["http://j.example/k"]),
    ("<!-- http://no.example/comment -->", []),
    ("<nowiki>http://no.example/nowiki</nowiki>", []),
    ("<nowiki/> http://k.example/after", ["http://k.example/after"]),
    ("[http://no.example/{{PAGENAME}} x]", []),
    ("[[Article]] [[File:a.jpg|http text]] ftp://no.example/x mailto:a@no.example", []),
    ("[https://l.example/путь Кириллица]", ["https://l.example/путь"]),
]


@pytest.mark.parametrize(("wikitext", "links"), PIECES)
def test_links_of_wikitext(wikitext: str, links: list[str]) -> None:
    assert external_links(wikitext) == links


def page(title: str, text: str, namespace: int | None) -> str:
    ns = "" if namespace is None else f"<ns>{namespace}</ns>"
    body = f'<text bytes="1" xml:space="preserve">{escape(text)}</text>'
    return f"<page><title>{escape(title)}</title>{ns}<id>1</id><revision><id>2</id>{body}</revision></page>\n"


def dump(pages: list[str]) -> bytes:
    names = [(-2, "Media"), (0, ""), (1, "Talk"), (2, "User"), (10, "Template")]
    listed = "".join(f'<namespace key="{key}" case="first-letter">{name}</namespace>' for key, name in names)
    head = '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11" xml:lang="en">\n'
    return f"{head}<siteinfo><namespaces>{listed}</namespaces></siteinfo>\n{''.join(pages)}</mediawiki>\n".encode()


def streams(data: bytes) -> bytes:
    """Several bzip2 streams in one file, as Wikipedia's multistream dumps have."""
    return b"".join(bz2.compress(data[start : start + 700]) for start in range(0, len(data), 700))


@pytest.mark.parametrize(("ending", "pack"), [("", bytes), (".gz", gzip.compress), (".bz2", streams)])
@pytest.mark.parametrize("block", [7, 1 << 20])
def test_a_pages_articles_dump(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, pack: Callable[[bytes], bytes], block: int
) -> None:
    monkeypatch.setattr("stages.base.compressed.BLOCK", block)
    generator = random.Random(3)
    pages, expected = [], []
    for number in range(40):
        chosen = generator.choices(PIECES, k=5)
        namespace = number % 4  # 0 is an article; talk, user and project pages are not
        pages.append(page(f"Title {number}", "\n".join(text for text, _ in chosen), namespace))
        expected += [link for _, links in chosen for link in links] if namespace == 0 else []
    path = tmp_path / f"pages-articles.xml{ending}"
    path.write_bytes(pack(dump(pages)))
    assert list(read_urls(path)) == expected
    assert len(expected) > 20


def test_old_dumps_tell_namespaces_by_their_titles(tmp_path: Path) -> None:
    titles = ["Plain", "User:Me", "Talk:Plain", "Film: the sequel", "Template:Cite"]
    path = tmp_path / "old.xml"
    path.write_bytes(dump([page(title, f"http://a.example/{n}", None) for n, title in enumerate(titles)]))
    assert list(read_urls(path)) == ["http://a.example/0", "http://a.example/3"]


def test_damaged_xml_is_named_with_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = dump([page("A", "http://a.example/1", 0), page("B", "http://a.example/2", 0)])
    path = tmp_path / "a.xml"
    path.write_bytes(whole[:-30])
    with pytest.raises(InputError, match=r"a\.xml:4: not well-formed"):
        list(read_urls(path))
    path.write_bytes(b"<html>\n</html>")
    with pytest.raises(InputError, match=r"a\.xml:1: the root element is <html>"):
        list(read_urls(path))
    path.write_bytes(b'<!DOCTYPE x [<!ENTITY a "aaaa">]>\n' + whole)
    with pytest.raises(InputError, match="document type declaration"):
        list(read_urls(path))
    packed = tmp_path / "a.xml.gz"
    packed.write_bytes(gzip.compress(whole)[:-20])
    with pytest.raises(InputError, match=r"a\.xml\.gz: damaged near byte"):
        list(read_urls(packed))
    packed = tmp_path / "a.xml.bz2"
    packed.write_bytes(b"no bzip2 at all")
    with pytest.raises(InputError, match=r"a\.xml\.bz2: damaged near byte"):
        list(read_urls(packed))
    monkeypatch.setattr(wikipedia_xml, "MAX_TEXT", 10)
    path.write_bytes(whole)
    with pytest.raises(InputError, match=r"a\.xml:3: a <text> of more than 10 characters"):
        list(read_urls(path))


OLD = ["el_id", "el_from", "el_to", "el_index", "el_index_60"]
NEW = ["el_id", "el_from", "el_to_domain_index", "el_to_path"]
ROWS = [  # address, its host reversed, the rest; "" for what is no http address
    ("http://www.a.example/x?y=1", "http://example.a.www.", "/x?y=1"),
    ('https://b.example/it\'s,(a)\\"b";\n', "https://example.b.", '/it\'s,(a)\\"b";\n'),
    ("https://c.example:8080/", "https://example.c.:8080", "/"),
    ("http://192.0.2.7/p", "http://V4.192.0.2.7.", "/p"),
    ("https://[2001:DB8:0:0:0:0:0:1]/q", "https://V6.2001.DB8.0.0.0.0.0.1.", "/q"),
    ("https://ö.example/ü", "https://example.ö.", "/ü"),
    ("", "mailto:example.d.@me", ""),
    ("", "ftp://example.e.", "/f"),
]


def literal(value: str | int | None) -> str:
    if not isinstance(value, str):
        return "NULL" if value is None else str(value)
    for plain, escaped in [("\\", "\\\\"), ("'", "\\'"), ('"', '\\"'), ("\n", "\\n")]:
        value = value.replace(plain, escaped)
    return f"'{value}'"


def sql(columns: list[str], rows: list[list[str | int | None]], between: str = ",", named: bool = False) -> str:
    declared = "\n".join(f"  `{name}` blob NOT NULL," for name in columns)
    head = f"CREATE TABLE `externallinks` (\n{declared}\n  PRIMARY KEY (`el_id`)\n) ENGINE=InnoDB;\n"
    values = between.join(f"({','.join(map(literal, row))})" for row in rows)
    names = f" ({', '.join(f'`{name}`' for name in columns)})" if named else ""
    table = f"INSERT INTO `externallinks`{names} VALUES {values};\n"
    return f"-- MySQL dump\nDROP TABLE IF EXISTS `externallinks`;\n{head}LOCK TABLES;\n{table}{table}UNLOCK TABLES;\n"


def old_rows() -> list[list[str | int | None]]:
    return [[n, 7, url or f"ftp://no.example/{n}", index, index[:60]] for n, (url, index, _) in enumerate(ROWS)]


def new_rows() -> list[list[str | int | None]]:
    return [[n, 7, index, path] for n, (_, index, path) in enumerate(ROWS)]


@pytest.mark.parametrize("between", [",", ",\n"])
@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize(
    ("columns", "rows"), [(OLD, old_rows()), (NEW, new_rows())], ids=["el_to", "el_to_domain_index"]
)
def test_an_externallinks_dump(
    tmp_path: Path, columns: list[str], rows: list[list[str | int | None]], between: str, named: bool
) -> None:
    path = tmp_path / "externallinks.sql.gz"
    path.write_bytes(gzip.compress(sql(columns, rows, between, named).encode()))
    assert list(read_urls(path)) == 2 * [url for url, _, _ in ROWS if url]


@given(st.lists(st.tuples(st.text(st.characters(exclude_categories=["Cs"])), st.integers(), st.none()), min_size=1))
def test_any_string_survives_the_dump(tmp_path_factory: pytest.TempPathFactory, rows: list) -> None:
    path = tmp_path_factory.mktemp("sql") / "a.sql"
    table = [[number, "it''s" if number % 2 else none, f"http://{text}"] for text, number, none in rows]
    path.write_text(sql(["el_id", "el_from", "el_to"], table), newline="")
    assert list(read_urls(path)) == 2 * [f"http://{text}" for text, _, _ in rows]


def test_other_spellings_of_a_string() -> None:
    assert wikipedia_sql._text(b"_binary 'http://a''b'") == "http://a'b"
    assert wikipedia_sql._text(b"0x68747470") == "http"
    assert wikipedia_sql._text(b"NULL") == ""


def test_a_damaged_dump_is_named_with_line_and_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.sql"
    whole = sql(NEW, new_rows())
    path.write_text(whole.replace("(3,7,", "(3,7,9,"))
    with pytest.raises(InputError, match=r"a\.sql:11: byte \d+ of the line: not a row of 4 values"):
        list(read_urls(path))
    path.write_text(whole.replace("el_to_path", "elsewhere"))
    with pytest.raises(InputError, match=r"a\.sql:11: `externallinks` has neither"):
        list(read_urls(path))
    path.write_text("CREATE TABLE `page` (\n`page_id` int\n);\n")
    with pytest.raises(InputError, match="no rows of the table"):
        list(read_urls(path))
    lines = sql(NEW, new_rows(), between=",\n").splitlines(keepends=True)
    path.write_text("".join(lines[:13]))
    with pytest.raises(InputError, match="ends within a statement"):
        list(read_urls(path))
    monkeypatch.setattr(wikipedia_sql, "MAX_LINE", 100)
    path.write_text(whole)
    with pytest.raises(InputError, match=r"a\.sql:11: the line is longer than 100 bytes"):
        list(read_urls(path))


def test_a_list_of_addresses(tmp_path: Path) -> None:
    path = tmp_path / "curlie.txt.gz"
    path.write_bytes(gzip.compress(b"# trusted\nhttp://a.example/1\r\n\n  HTTPS://b.example/2  \n"))
    assert list(read_urls(path)) == ["http://a.example/1", "HTTPS://b.example/2"]
    plain = tmp_path / "urls.txt"
    plain.write_text("http://a.example/\nnot an address\n")
    with pytest.raises(InputError, match=r"urls\.txt:2: not an http or https address: 'not an address'"):
        list(read_urls(plain))


def test_one_page_has_one_key_in_any_spelling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINYARD_WORKERS", "1")
    path = tmp_path / "urls.txt"
    path.write_text("http://www.a.example/page/?utm_source=x#part\nhttps://a.example/page\nhttp://b.example/other\n")
    pages = ["https://a.example/page", "https://a.example/elsewhere", "https://b.example/", "https://c.example/"]
    keys = reference_keys([path, path], "page")
    assert len(keys) == 2
    assert member(url_keys(pages, "page"), keys).tolist() == [True, False, False, False]
    hosts = reference_keys([path], "host")
    assert member(url_keys(pages, "host"), hosts).tolist() == [True, True, True, False]
    assert not member(url_keys(["file:///a.html"], "host"), reference_keys([path], "host")).any()


def test_hubs_of_the_crawl_and_not_their_links_to_themselves() -> None:
    urls = ["https://a.example/hub.html", "https://a.example/other.html", "https://a.example/hub.html"]
    links = [["https://a.example/1#part", "https://a.example/hub.html"], ["https://a.example/2"], None]
    hub = hub_pattern([r"/hub\.html$"], "corpus.quality.sources")
    assert linked_keys(urls, links, hub, "page").tolist() == [hash64("a.example/1")]
    assert linked_keys(urls, links, hub, "host").tolist() == []
    assert linked_keys(urls, links, hub_pattern([], "p"), "page").tolist() == []
    with pytest.raises(ParamError, match=r"`p`: not a regular expression"):
        hub_pattern(["("], "p")


@given(st.lists(st.lists(st.integers(0, 50), max_size=20), max_size=20))
def test_a_key_set_is_a_set(parts: list[list[int]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stages.corpus.links.graph.WAITING", 5)
        keys = KeySet()
        for part in parts:
            keys.add(np.array(part, np.uint64))
        expected = sorted({key for part in parts for key in part})
        assert keys.keys().tolist() == expected
        probe = np.arange(60, dtype=np.uint64)
        assert np.flatnonzero(member(probe, keys.keys())).tolist() == expected
