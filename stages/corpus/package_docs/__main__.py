"""corpus.package_docs: render the documentation of installed packages as pages of a crawl."""

import hashlib
from collections import defaultdict
from collections.abc import Callable

import pyarrow as pa

from stages.base import schemas
from stages.base.errors import DataLossError
from stages.base.progress import Progress
from stages.base.record import stage
from stages.corpus.package_docs import locate, read
from stages.corpus.package_docs.pages import Page, object_urls, plan, render
from stages.corpus.package_docs.params import PARAMS, PackageDocsParams
from stages.corpus.sources.occurrences import document_id

__all__ = ["PARAMS"]


def collect(
    packages: list[locate.Package], params: PackageDocsParams, seed: int, advance: Callable[[int], None]
) -> tuple[list[Page], int, list[str]]:
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
        tree = read.parse(path)
        if tree is None:
            failed.append(module)
            continue
        for parent in _parents(module) if public != module else []:
            if parent not in exports:
                above = read.parse(paths[parent]) if parent in paths else None
                exports[parent] = read.imported_names(above) if above else set()
        known = set().union(*(exports[parent] for parent in _parents(module) if parent in exports))
        for page in plan(package, read.read_module(module, tree, known), params.max_chars):
            if page.chars >= params.min_chars and len(pages) < params.max_pages and page.url not in pages:
                pages[page.url] = page
                advance(1)
    return [pages[url] for url in sorted(pages)], parsed, sorted(failed)


def _parents(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:depth]) for depth in range(1, len(parts))]


def page_rows(pages: list[Page]) -> list[dict]:
    """Rendered pages (schema PAGE), each with links to its neighbours in its package."""
    urls = object_urls(pages)
    by_package: dict[str, list[Page]] = defaultdict(list)
    for page in pages:
        by_package[page.package.name].append(page)
    rows = []
    for members in by_package.values():
        for position, page in enumerate(members):
            near = [other for other in members[max(0, position - 4) : position + 5] if other is not page]
            rows.append(
                {
                    "id": document_id("package_docs", page.url, 0),
                    "source": "package_docs",
                    "url": page.url,
                    "licence": page.package.licence,
                    "opt_out": "",
                    "html": render(page, near, urls),
                }
            )
    return sorted(rows, key=lambda row: row["url"])


def main() -> None:
    with stage("corpus.package_docs", PackageDocsParams, seed="corpus.seed") as run:
        packages = [locate.locate(name) for name in run.params.packages]
        with Progress(run.params.max_pages, "reading docs", unit="pages") as bar:
            pages, parsed, failed = collect(packages, run.params, run.seed, bar.advance)
        if len(failed) > run.params.max_unparsable * parsed:
            raise DataLossError(
                f"package_docs: {len(failed)} of {parsed} source files don't parse, more than max_unparsable = "
                f"{run.params.max_unparsable:.1%} allows; first: {', '.join(failed[:3])}"
            )
        run.write_table("pages.parquet", pa.Table.from_pylist(page_rows(pages), schema=schemas.PAGE), schemas.PAGE)
        run.note("versions", {package.name: package.version for package in packages})
        run.note("files_parsed", parsed)
        run.note("files_unparsable", failed)
        run.note("docstring_chars", sum(page.chars for page in pages))


if __name__ == "__main__":
    main()
