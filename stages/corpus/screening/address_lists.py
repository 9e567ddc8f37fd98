"""Lists of hosts and of pages, for blocking and for opting out: millions of entries, a few look-ups an address.

An entry is held as 8 bytes of its BLAKE2 digest in a sorted array: a list of five million hosts takes 40 MB in each
worker, where a set of strings takes 600. Two different names share a digest with probability 1 in 10^12 even then.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from stages.base.errors import InputError
from stages.corpus.links.url import ascii_host, canonical, host

# Rows of a hosts file (`0.0.0.0 name`), and the names that such files give to the machine itself.
ADDRESS = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}|[0-9a-f:]*:[0-9a-f:]*(?:%\w+)?")
NAME = re.compile(r"(?=.{1,253}$)[\w-]{1,63}(?:\.[\w-]{1,63})*")


class Digests:
    """A frozen set of strings, by digest."""

    def __init__(self, entries: Iterable[str]) -> None:
        self._sorted = np.unique(np.fromiter(map(digest, entries), np.uint64))

    def __len__(self) -> int:
        return len(self._sorted)

    def __contains__(self, entry: str) -> bool:
        key = digest(entry)
        place = int(np.searchsorted(self._sorted, key))
        return place < len(self._sorted) and bool(self._sorted[place] == key)


def digest(entry: str) -> np.uint64:
    """64 bits of BLAKE2b, the same on every machine."""
    return np.uint64(int.from_bytes(hashlib.blake2b(entry.encode("utf-8", "replace"), digest_size=8).digest(), "big"))


class Hosts:
    """Host names; each stands for itself and everything below it."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = Digests(map(ascii_host, names))

    def __len__(self) -> int:
        return len(self._names)

    def covers(self, name: str) -> bool:
        """Whether the host or a domain above it is listed: one look-up a label."""
        if not len(self._names):
            return False
        labels = ascii_host(name).split(".")
        return any(".".join(labels[start:]) in self._names for start in range(len(labels)))


class Addresses:
    """Hosts, and single pages by their canonical URL."""

    def __init__(self, hosts: Iterable[str], pages: Iterable[str]) -> None:
        self.hosts = Hosts(hosts)
        self._pages = Digests(map(canonical, pages))

    def covers(self, url: str) -> bool:
        return self.hosts.covers(host(url)) or (len(self._pages) > 0 and canonical(url) in self._pages)


def read_hosts(path: Path) -> Iterator[str]:
    """Host names of a list: one a line, or rows of a hosts file; `#` starts a comment; `*.` and `.` before a name count
    for nothing. Raises InputError naming file and line.
    """
    for number, line in _lines(path):
        names = line.split()
        if len(names) > 1:
            if not ADDRESS.fullmatch(names[0].lower()):
                raise InputError(f"{path}:{number}: expected one host, or an address and hosts, got {line[:80]!r}")
            names = [name for name in names[1:] if "." in name and not ADDRESS.fullmatch(name.lower())]
        for name in names:
            bare = ascii_host(name.removeprefix("*").removeprefix("."))
            if not NAME.fullmatch(bare):
                raise InputError(f"{path}:{number}: not a host name: {name[:80]!r}; write one host a line, no URL")
            yield bare


def read_words(path: Path) -> Iterator[str]:
    """Words of a list, one a line, lower-cased; `#` starts a comment. Raises InputError naming file and line."""
    for number, line in _lines(path):
        if not line.isalnum():
            raise InputError(f"{path}:{number}: not one word of letters and digits: {line[:80]!r}")
        yield line.lower()


def read_pages(path: Path) -> Iterator[str]:
    """URLs of a list, one a line; `#` at the start of a line makes it a comment. Raises InputError naming file and
    line.
    """
    for number, line in _lines(path, comments=r"^\s*#.*"):
        if not host(line):
            raise InputError(f"{path}:{number}: not a URL: {line[:80]!r}; write them whole, with https://")
        yield line


def _lines(path: Path, comments: str = r"#.*") -> Iterator[tuple[int, str]]:
    """Numbered lines without comments, stripped; empty ones are left out."""
    comment = re.compile(comments)
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            try:
                line = comment.sub("", raw.decode("utf-8-sig" if number == 1 else "utf-8")).strip()
            except UnicodeDecodeError:
                raise InputError(f"{path}:{number}: not UTF-8") from None
            if line:
                yield number, line
