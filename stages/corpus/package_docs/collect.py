"""The documentation of the installed packages as a source: which modules are read, and their rendered pages."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Field

from stages.base.errors import DataLossError
from stages.base.params import Section
from stages.corpus.package_docs import locate, read
from stages.corpus.package_docs.pages import Page, object_urls, plan, render
from stages.corpus.sources.raw import Raw


class PackageDocsParams(Section):
    """Whose documentation is read, and how much of it."""

    packages: Annotated[list[str], Field(min_length=1)]
    """Distribution names; `stdlib` is Python's own library."""
    max_pages: Annotated[int, Field(ge=1)]
    """Modules are read in a seeded order until there are as many."""
    min_chars: Annotated[int, Field(ge=1)]
    """Pages whose docstrings are shorter are not written."""
    max_chars: Annotated[int, Field(ge=500)]
    """Of docstrings on a page; larger modules are spread over several pages."""
    max_unparsable: Annotated[float, Field(ge=0, le=1)]
    """Share of the files that may fail to parse."""


def choose(packages: list[locate.Package], params: PackageDocsParams, seed: int) -> tuple[list[Page], int, list[str]]:
    """(pages sorted by URL, files parsed, names of files that don't parse).

    Modules are read in the order of a seeded hash of their names until there are enough pages, so that the choice is
    the same on every machine and no more files are parsed than needed.
    """
    sources = [(package, module, path) for package in packages for module, path in locate.source_files(package)]
    sources.sort(key=lambda item: hashlib.sha256(f"{seed}\x1f{item[0].name}\x1f{item[1]}".encode()).digest())
    paths = {module: path for _, module, path in sources}
    exports: dict[str, set[str]] = {}
    pages: dict[str, Page] = {}
    parsed, failed = 0, []
    for package, module, path in sources:
        if len(pages) >= params.max_pages:
            break
        public = read.public_prefix(module)
        if not public:
            continue
        parsed += 1
        file = read.parse(path)
        if file is None:
            failed.append(module)
            continue
        for parent in _parents(module) if public != module else []:
            if parent not in exports:
                above = read.parse(paths[parent]) if parent in paths else None
                exports[parent] = read.imported_names(above.tree) if above else set()
        known = set().union(*(exports[parent] for parent in _parents(module) if parent in exports))
        for page in plan(package, read.read_module(module, file, known), params.max_chars):
            if page.chars >= params.min_chars and len(pages) < params.max_pages and page.url not in pages:
                pages[page.url] = page
    return [pages[url] for url in sorted(pages)], parsed, sorted(failed)


def _parents(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:depth]) for depth in range(1, len(parts))]


def rendered(pages: list[Page]) -> Iterator[Raw]:
    """The pages as HTML in their order, each with links to its neighbours in its package."""
    urls = object_urls(pages)
    by_package: dict[str, list[Page]] = defaultdict(list)
    for page in pages:
        by_package[page.package.name].append(page)
    places = {page.url: place for members in by_package.values() for place, page in enumerate(members)}
    for page in pages:
        members, place = by_package[page.package.name], places[page.url]
        near = [other for other in members[max(0, place - 4) : place + 5] if other is not page]
        yield Raw(page.url, render(page, near, urls), page.package.licence)


def collect(params: PackageDocsParams, seed: int) -> tuple[Iterator[Raw], dict[str, Any]]:
    """(pages sorted by URL, facts for the record). Raises DataLossError where too many files don't parse."""
    packages = [locate.locate(name) for name in params.packages]
    pages, parsed, failed = choose(packages, params, seed)
    if len(failed) > params.max_unparsable * parsed:
        raise DataLossError(
            f"package_docs: {len(failed)} of {parsed} source files don't parse, more than max_unparsable = "
            f"{params.max_unparsable:.1%} allows; first: {', '.join(failed[:3])}"
        )
    facts = {
        "versions": {package.name: package.version for package in packages},
        "files_parsed": parsed,
        "files_unparsable": failed,
        "docstring_chars": sum(page.chars for page in pages),
    }
    return rendered(pages), facts
