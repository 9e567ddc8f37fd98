"""Where a source lies: one file, the files of a folder, or a list of addresses to download."""

import glob
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from stages.base.compressed import bare_suffix, read_lines
from stages.base.errors import InputError
from stages.corpus.sources.charset import is_utf8

COMMON_CRAWL = "https://data.commoncrawl.org/"  # what the lines of its warc.paths and wet.paths begin with
LONGEST_LINE = 16384  # bytes


class Address(NamedTuple):
    """A file to fetch."""

    url: str
    sha256: str | None  # where the list gives it


def files_at(path: Path, pattern: str | None, suffixes: Iterable[str]) -> dict[Path, str]:
    """Files to read → what stands for each in URLs and places: `path` itself, or what is below that folder, sorted.

    `pattern` is a glob below the folder (`**` allowed); None: every file whose name ends with one of `suffixes`. Each
    file comes once, under its shortest name if links lead to it too. Raises InputError where there is none, and for a
    name that no URL can hold.
    """
    if path.is_file():
        return {path: path.name}
    if pattern and above(pattern):
        raise InputError(f"{path}: the pattern `{pattern}` leads out of the folder; set `path` to the folder itself")
    wanted = tuple(suffixes)
    names = glob.glob(pattern or "**", root_dir=path, recursive=True, include_hidden=False)
    files = {Path(name) for name in names if (path / name).is_file()}
    if pattern is None:
        files = {name for name in files if name.name.lower().endswith(wanted)}
    if not files:
        told = f"`{pattern}` matches no file" if pattern else f"no file ends with any of {', '.join(wanted)}"
        raise InputError(f"{path}: {told}; check `path` and `pattern` of the source in params.yaml")
    shortest = {
        os.path.realpath(path / name): name for name in sorted(files, key=lambda name: (-len(name.parts), name))
    }
    for name in shortest.values():
        if not is_utf8(os.fsencode(name)):
            raise InputError(f"{str(path / name)!r}: the file's name isn't UTF-8; rename it")
    return {path / name: name.as_posix() for name in sorted(shortest.values())}


def above(pattern: str) -> bool:
    """Whether a glob leads out of the folder that it is to be looked for in."""
    return os.path.isabs(pattern) or ".." in Path(pattern).parts


def is_list(path: Path) -> bool:
    """Whether a file lists addresses, by its name (`.txt` does so for archives only)."""
    return bare_suffix(path.name) == ".paths"


def read_addresses(path: Path) -> list[Address]:
    """A list of addresses, one a line, with its sha256 behind a blank where it is known; `#` starts a comment.

    A line without `…://` is Common Crawl's: a path below data.commoncrawl.org. One of a store that fsspec knows (`s3://`,
    `hf://`, …) may be a glob, of which no digest is known. Raises InputError naming the line.
    """
    # Their HTTP client takes longer to load than all else here.
    from stages.corpus.sources.download import check_url, is_url
    from stages.corpus.sources.stores import expand

    found = []
    for number, line in read_lines(path, LONGEST_LINE):
        words = line.decode("utf-8", "replace").split()
        if not words or words[0].startswith("#"):
            continue
        url = words[0] if "://" in words[0] else COMMON_CRAWL + words[0]
        digest = words[1].lower() if len(words) == 2 else None
        if len(words) > 2 or (digest and (len(digest) != 64 or set(digest) - set("0123456789abcdef"))):
            raise InputError(f"{path}:{number}: expected an address and maybe its sha256, got {' '.join(words)[:80]!r}")
        try:
            if is_url(url):
                check_url(url)
            files = expand(url)
        except InputError as error:
            raise InputError(f"{path}:{number}: {error}") from None
        if digest and len(files) > 1:
            raise InputError(f"{path}:{number}: one sha256 for {len(files)} files; leave it out")
        found += [Address(file, digest) for file in files]
    if not found:
        raise InputError(f"{path}: lists no address; write one a line")
    return found
