"""Which pages a trusted source links to: sorted 64-bit hashes of canonical addresses, from a crawl's own links or from
lists and dumps of others (Wikipedia's among them). 8 bytes an address are held, never the addresses.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import AfterValidator

from stages.base.compressed import read_lines
from stages.base.engine import map_batches
from stages.base.errors import InputError, ParamError
from stages.base.progress import Progress
from stages.corpus.links.url import canonical, host
from stages.corpus.links.wikipedia_sql import read_externallinks
from stages.corpus.links.wikipedia_xml import read_pages_articles

Match = Literal["page", "host"]  # two addresses are the same if their canonical spelling is, or if their host is
LONGEST_URL = 1 << 16


def _compiled(pattern: str) -> str:
    try:
        re.compile(f"(?:{pattern})")  # as it is used: one of several
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    return pattern


RegularExpression = Annotated[str, AfterValidator(_compiled)]
URLS = 1 << 14  # addresses of a batch
WAITING = 1 << 20  # hashes gathered before they are sorted in


def hash64(text: str) -> int:
    """64 bits of BLAKE2b, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), "little")


NOTHING = np.uint64(hash64(""))  # the spelling of an address without a host


def hashes(texts: Iterable[str]) -> np.ndarray:
    return np.fromiter((hash64(text) for text in texts), np.uint64)


def spelling(url: str, match: Match) -> str:
    """What two addresses of the same page (or host) have in common."""
    return canonical(url) if match == "page" else host(url).removeprefix("www.")


def url_keys(urls: Iterable[str], match: Match) -> np.ndarray:
    """uint64 hash of each address's spelling."""
    return hashes(spelling(url, match) for url in urls)


class KeySet:
    """Distinct hashes, held sorted; memory is at most a half more than the distinct ones, or `WAITING`."""

    def __init__(self) -> None:
        self._sorted = np.zeros(0, np.uint64)
        self._waiting: list[np.ndarray] = []
        self._count = 0
        self.seen = 0  # hashes added, repeats and all

    def add(self, keys: np.ndarray) -> None:
        self._waiting.append(keys)
        self._count += len(keys)
        self.seen += len(keys)
        if self._count > max(WAITING, len(self._sorted) // 4):
            self.keys()

    def keys(self) -> np.ndarray:
        """uint64, ascending, each once."""
        if self._waiting:
            self._sorted = np.unique(np.concatenate([self._sorted, *self._waiting]))
            self._waiting, self._count = [], 0
        return self._sorted


def member(keys: np.ndarray, sorted_keys: np.ndarray) -> np.ndarray:
    """bool: which of `keys` are among `sorted_keys`."""
    if not len(sorted_keys):
        return np.zeros(len(keys), bool)
    places = np.searchsorted(sorted_keys, keys)
    return sorted_keys[np.minimum(places, len(sorted_keys) - 1)] == keys


def hub_pattern(patterns: Sequence[str], place: str) -> re.Pattern[str]:
    """One expression for all; matches nothing if there are none. Raises ParamError, naming `place`, for a bad one."""
    try:
        return re.compile("|".join(f"(?:{pattern})" for pattern in patterns) or r"(?!)")
    except re.error as error:
        raise ParamError(f"params.yaml: `{place}`: not a regular expression: {error}") from None


def linked_keys(
    urls: Sequence[str], links: Sequence[Sequence[str] | None], hub: re.Pattern[str], match: Match
) -> np.ndarray:
    """uint64 hashes of what pages with a trusted URL link to, their links to themselves left out."""
    targets = (
        target
        for url, found in zip(urls, links, strict=True)
        if hub.search(url)
        for other in found or []
        if (target := spelling(other, match)) and target != spelling(url, match)
    )
    return hashes(targets)


def read_urls(path: Path) -> Iterator[str]:
    """Addresses that a file lists or links to. By its name: `.xml` a MediaWiki `pages-articles` dump, `.sql` an
    `externallinks` dump, anything else text with one address a line (`#` begins a remark); each also as .gz or .bz2.

    Raises InputError, with file and line, for what can't be read as that.
    """
    kind = Path(path.name.removesuffix(".gz").removesuffix(".bz2")).suffix
    if kind == ".xml":
        yield from read_pages_articles(path)
    elif kind == ".sql":
        yield from read_externallinks(path)
    else:
        for number, line in read_lines(path, LONGEST_URL):
            url = line.decode("utf-8", "replace").strip()
            if url.lower().startswith(("http://", "https://")):
                yield url
            elif url and not url.startswith("#"):
                raise InputError(f"{path}:{number}: not an http or https address: {url[:80]!r}")


def reference_keys(paths: Sequence[Path], match: Match) -> np.ndarray:
    """uint64, ascending: the hashes of all addresses that the files list or link to."""
    found = KeySet()
    with Progress(len(paths), "reading references", unit="files") as bar:
        for path in paths:
            for keys in map_batches(url_keys, _portions(read_urls(path)), match):
                found.add(keys[keys != NOTHING])
                bar.advance(0, addresses=found.seen)
            bar.advance(1, addresses=found.seen)
    return found.keys()


def _portions(urls: Iterator[str]) -> Iterator[list[str]]:
    while portion := list(islice(urls, URLS)):
        yield portion
