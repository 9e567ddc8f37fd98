"""Lists of hosts, pages and words, for blocking and for opting out: millions of entries, a few look-ups an address.

An entry is held as 8 bytes of its BLAKE2 digest in a sorted array: a list of five million hosts takes 40 MB in each
worker, where a set of strings takes 600. Two different names share a digest with probability 1 in 10^12 even then.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import numpy as np

from stages.base.compressed import read_lines
from stages.base.errors import InputError
from stages.corpus.links.url import ascii_host, canonical, host

# Rows of a hosts file (`0.0.0.0 name`), and the names that such files give to the machine itself.
ADDRESS = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}|[0-9a-f:]*:[0-9a-f:]*(?:%\w+)?")
LISTED = ("blocked_hosts", "blocked_url_words", "opt_out_hosts", "opt_out_pages")  # what a file's name begins with
LONGEST_LINE = 1 << 16  # bytes
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


class Blocklist(NamedTuple):
    """Addresses that the corpus must not have: hosts with everything below them, and whole words of the path."""

    hosts: Hosts
    words: frozenset[str]  # lower case

    def reason(self, url: str) -> str:
        """Why a URL is blocked (`blocked_host`, `blocked_url_word`), "" if it isn't."""
        if self.hosts.covers(host(url)):
            return "blocked_host"
        path = unquote(canonical(url).partition("/")[2]).lower()
        tokens = "".join(c if c.isalnum() else " " for c in path).split()
        return "blocked_url_word" if self.words.intersection(tokens) else ""


def read_lists(folder: Path) -> tuple[Blocklist, Addresses]:
    """(What is blocked, whose owners opted out) by the files of a folder; hidden ones and `.md` are none of them.

    Raises InputError for a file whose name doesn't say what it lists, and for a bad line.
    """
    files: dict[str, list[Path]] = {kind: [] for kind in LISTED}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.suffix == ".md":
            continue
        kind = next((kind for kind in LISTED if path.name.startswith(kind)), None)
        if kind is None:
            raise InputError(
                f"{path}: what does it list? Its name must begin with one of {', '.join(LISTED)}; rename it"
            )
        files[kind].append(path)
    hosts = Hosts(name for path in files["blocked_hosts"] for name in read_hosts(path))
    words = frozenset(word for path in files["blocked_url_words"] for word in read_words(path))
    owners = (name for path in files["opt_out_hosts"] for name in read_hosts(path))
    pages = (url for path in files["opt_out_pages"] for url in read_pages(path))
    return Blocklist(hosts, words), Addresses(owners, pages)


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
    """Numbered lines without comments, stripped; empty ones are left out. The file may be compressed."""
    comment = re.compile(comments)
    for number, raw in read_lines(path, LONGEST_LINE):
        try:
            line = comment.sub("", raw.decode("utf-8-sig" if number == 1 else "utf-8")).strip()
        except UnicodeDecodeError:
            raise InputError(f"{path}:{number}: not UTF-8") from None
        if line:
            yield number, line
