"""The published folder: built beside its place and put there whole; never written over what isn't its own."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from stages.base.errors import InputError, TrainyardError
from stages.base.files import read_json

MARKER = "provenance.json"
MADE_BY = "trainyard publish"
UNLISTED = {MARKER, ".nojekyll"}


@contextmanager
def published(folder: Path) -> Iterator[Path]:
    """A new folder to fill, which becomes `folder` when all went well; otherwise nothing has changed.

    Raises InputError where something stands there that `trainyard publish` didn't write.
    """
    check_own(folder)
    place = folder.resolve()
    place.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
    new, old = scratch / "new", scratch / "old"
    try:
        new.mkdir()
        yield new
        if place.exists():
            os.replace(place, old)
        try:
            os.replace(new, place)
        except OSError:
            if old.exists():
                os.replace(old, place)
            raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def check_own(folder: Path) -> None:
    """Raises InputError where `folder` is neither absent, nor empty, nor all of it written by `trainyard publish`."""
    remedy = "name a new folder"
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise InputError(f"{folder}: not a folder of its own; {remedy}")
    if not folder.exists() or not any(folder.iterdir()):
        return
    try:
        told: Any = read_json(folder / MARKER)
        own = {str(path) for path in told["files"]} if told["made_by"] == MADE_BY else None
    except (TrainyardError, OSError, KeyError, TypeError):
        own = None
    if own is None:
        raise InputError(f"{folder}: holds files that `{MADE_BY}` didn't write; {remedy}")
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if (path.is_symlink() or not path.is_dir()) and name not in own | UNLISTED:
            raise InputError(f"{folder}: `{name}` isn't of this site; move it away, or {remedy}")


class _Links(HTMLParser):
    """Targets of links and names of places on one page."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "href" and tag == "a" and value is not None:
                self.links.append(value)
            elif name == "id" and value:
                self.ids.add(value)


def broken_links(folder: Path) -> list[tuple[str, str]]:
    """(page, link) of each relative link below `folder` that leads to no file, or to no place of a page."""
    pages: dict[str, _Links] = {}
    for path in sorted(folder.rglob("*.html")):
        pages[path.relative_to(folder).as_posix()] = read = _Links()
        read.feed(path.read_text(encoding="utf-8"))
    broken = []
    for name, page in pages.items():
        for link in dict.fromkeys(page.links):
            target = urlsplit(link)
            if target.scheme or target.netloc:
                continue
            leads_to = _joined(name, unquote(target.path))
            place = unquote(target.fragment)
            there = leads_to is not None and (folder / leads_to).is_file()
            known = pages.get(leads_to or "")
            if not there or (place and known is not None and place not in known.ids and place != "top"):
                broken.append((name, link))
    return broken


def _joined(page: str, path: str) -> str | None:
    """A relative path from a page, as one from the folder; None where it leads out of it."""
    parts: list[str] = [] if not path else list(PurePosixPath(page).parent.parts)
    if not path:
        return page
    for part in path.split("/"):
        if part == "..":
            if not parts:
                return None
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)
