"""External links of the articles in a MediaWiki `pages-articles` dump, streamed: one page's text is held at a time."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.parsers import expat

from stages.base.compressed import read_blocks
from stages.base.errors import InputError

MAX_TEXT = 1 << 24  # characters of one page; MediaWiki's own bound is 2 MiB
HIDDEN = re.compile(r"<!--.*?(?:-->|\Z)|<nowiki(?:\s[^<>]*)?(?<!/)>.*?(?:</nowiki\s*>|\Z)", re.DOTALL | re.IGNORECASE)
# In brackets a link ends where MediaWiki ends it. A bare one also ends at what closes a template's parameter, since
# here templates ({{cite web|url=…|title=…}}) are not expanded first.
LINK = re.compile(r'\[((?:https?:)?//[^][<>"\s\x00-\x1f\x7f]+)|\b(https?://[^][<>"\s\x00-\x1f\x7f|{}]+)', re.IGNORECASE)
ENDS = re.compile(r"''|&(?:lt|gt|nbsp);")
WANTED = {"title", "ns", "text", "namespace"}


def external_links(wikitext: str) -> list[str]:
    """http and https addresses that a page's wikitext links to, in order; comments and `nowiki` left out."""
    found = []
    for match in LINK.finditer(HIDDEN.sub(" ", wikitext)):
        bracketed, bare = match.groups()
        url = ENDS.split(bracketed or bare)[0]
        if bare:  # punctuation after a bare address belongs to the sentence
            url = url.rstrip(",;.:!?" if "(" in url else ",;.:!?)")
        if "{{" in url:  # a template would write the rest
            continue
        url = url.replace("&amp;", "&")
        found.append(f"https:{url}" if url.startswith("//") else url)
    return found


class _Reader:
    """expat's handlers: `articles` fills with the texts of finished pages of the main namespace."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._characters
        self.parser.StartDoctypeDeclHandler = self._doctype
        self.articles: list[str] = []
        self._root = ""
        self._other_namespaces: set[str] = set()
        self._open, self._collected, self._size = "", [""], 0
        self._namespace_key = ""
        self._page: dict[str, str] = {}

    def error(self, problem: str) -> InputError:
        return InputError(f"{self._path}:{self.parser.CurrentLineNumber}: {problem}")

    def _doctype(self, *_: Any) -> None:
        raise self.error("a document type declaration, which no MediaWiki dump has")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if not self._root:
            self._root = name
            if name != "mediawiki":
                raise self.error(f"the root element is <{name}>, not <mediawiki>; is it a pages-articles dump?")
        if name == "page":
            self._page = {}
        self._open = name if name in WANTED else ""
        self._collected, self._size = [], 0
        if name == "namespace":
            self._namespace_key = attributes.get("key", "")

    def _characters(self, data: str) -> None:
        if self._open:
            self._collected.append(data)
            self._size += len(data)
            if self._size > MAX_TEXT:
                raise self.error(f"a <{self._open}> of more than {MAX_TEXT} characters")

    def _end(self, name: str) -> None:
        if name == self._open:
            value = "".join(self._collected)
            if name != "namespace":
                self._page[name] = value  # of several revisions the last
            elif self._namespace_key != "0":
                self._other_namespaces.add(value)
        elif name == "page" and self._is_article():
            self.articles.append(self._page.get("text", ""))
        self._open = ""

    def _is_article(self) -> bool:
        if "ns" in self._page:
            return self._page["ns"].strip() == "0"
        prefix, colon, _ = self._page.get("title", "").partition(":")  # dumps before 2012 have no <ns>
        return not colon or prefix not in self._other_namespaces


def read_pages_articles(path: Path) -> Iterator[str]:
    """Addresses that the articles (namespace 0) of a .xml, .xml.gz or .xml.bz2 dump link to, in order, repeats and all.

    Raises InputError, with the line, for what is not a whole, well-formed dump.
    """
    reader = _Reader(path)
    try:
        for block in read_blocks(path):
            reader.parser.Parse(block, False)
            articles, reader.articles = reader.articles, []
            for article in articles:
                yield from external_links(article)
        reader.parser.Parse(b"", True)
    except expat.ExpatError as error:
        raise reader.error(f"not well-formed XML: {error}") from None
