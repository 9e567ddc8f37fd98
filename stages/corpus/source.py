"""source: the pages of one place, and what is known of them: `python -m stages.corpus.source <key>`."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints

from stages.base import schemas
from stages.base.hub import HubDataset
from stages.base.params import Section
from stages.base.progress import Progress
from stages.base.record import StageRun, stage
from stages.base.seeds import derive
from stages.corpus.atlas.params import AtlasParams
from stages.corpus.package_docs.collect import PackageDocsParams
from stages.corpus.sources.intake import Found, IngestParams, Intake
from stages.corpus.sources.locations import above, files_at, is_list, read_addresses
from stages.corpus.sources.raw import Raw
from stages.corpus.sources.robots import ROBOTS, Robots, robots_table

Text = Annotated[str, StringConstraints(min_length=1)]


def _local(path: str) -> str:
    if "://" in path:
        raise ValueError("DVC watches files: write the address into a file NAME.paths, one a line, and name that here")
    if any(character in path for character in "*?"):
        raise ValueError("no glob: name the folder here, and the glob in `pattern`")
    return path


def _below(pattern: str) -> str:
    if above(pattern):
        raise ValueError("the pattern leads out of the folder `path`; set `path` to the folder itself")
    return pattern


Place = Annotated[Text, AfterValidator(_local)]
Pattern = Annotated[Text, AfterValidator(_below)]
DECLARED = "declared"  # the licence is what each page says; "" in PAGE, filled in by corpus.extract
ARCHIVES = (".warc", ".warc.gz", ".warc.zst", ".wet", ".wet.gz", ".wet.zst")


class AtlasSource(AtlasParams):
    """An invented encyclopaedia whose facts and faults are known (docs/corpus.md)."""

    kind: Literal["atlas"]
    path: Literal["stages/corpus/atlas"]
    """All that it is made from is code."""


class PackageDocsSource(PackageDocsParams):
    """Docstrings of the installed packages, as the pages of a documentation site."""

    kind: Literal["package_docs"]
    path: Text
    """Versions of Python and of the packages, as `check` writes them."""


class WarcSource(Section):
    """Archives of a crawl: HTML of successful responses and of resources, plain text of WET files, robots.txt."""

    kind: Literal["warc"]
    path: Place
    """An archive, plain, gzip or zstd; a folder of archives; or a list of addresses to fetch (`.paths`, `.paths.gz`,
    `.txt`: one a line, maybe its sha256 behind it; Common Crawl's warc.paths as it is; `s3://…`, `hf://…` and their
    globs)."""
    pattern: Pattern | None
    """Glob below `path` where that is a folder; null: all archives below it."""
    licence: Text
    """Of all pages; `declared`: what each page says of itself."""
    max_damaged: Annotated[int, Field(ge=0)]
    """Records that may be cut off, or have another digest than they say."""


class FilesSource(Section):
    """Own files: HTML, plain text, Markdown, JSON lines and parquet with a column `html`, `text` or `content`; all but
    parquet maybe compressed (`.gz`, `.bz2`, `.xz`, `.zst`)."""

    kind: Literal["files"]
    path: Place
    """A file, a folder, or a list of addresses to fetch (`.paths`, as of archives)."""
    pattern: Pattern | None
    """Glob below `path` where that is a folder; null: every file below it of a kind that is read."""
    licence: Text
    """Of all pages; `declared`: what each page says of itself."""
    max_damaged: Annotated[int, Field(ge=0)]
    """Lines of JSON that may be unreadable."""


class ParquetSource(Section):
    """Pages that another pipeline wrote."""

    kind: Literal["parquet"]
    path: Place
    """A table of pages (schema PAGE), each with its own licence; or a folder with `pages.parquet` and, if there are,
    `robots.parquet`, `truth.json`, `questions.parquet` and `planted.parquet`, as a source's own folder has them."""


class HubSource(HubDataset):
    """A dataset of the Hugging Face hub, streamed."""

    kind: Literal["hub"]
    column: Text
    """Where the text stands."""
    licence: Text
    """Of all rows."""


Source: Any = Annotated[
    AtlasSource | PackageDocsSource | WarcSource | FilesSource | ParquetSource | HubSource, Field(discriminator="kind")
]
PARAMS: dict[str, Any] = {"corpus.sources.*": Source, "corpus.ingest": IngestParams}
Run = StageRun[Any]


def of_all(licence: str) -> str:
    """The licence of pages that came without one; extraction looks for it in those of `declared`."""
    return "" if licence == DECLARED else licence


def read_atlas(run: Run, source: AtlasSource, seed: int, limit: int) -> Found:
    from stages.corpus.atlas.collect import collect

    return collect(source, seed)


def read_package_docs(run: Run, source: PackageDocsSource, seed: int, limit: int) -> Found:
    from stages.corpus.package_docs.collect import collect

    run.input(source.path)
    pages, facts = collect(source, seed)
    for name, fact in facts.items():
        run.note(name, fact)
    return Found(pages)


def read_archives(run: Run, source: WarcSource, seed: int, limit: int) -> Found:
    from stages.corpus.sources.warc import read_warc

    path = run.input(source.path)
    listed = path.is_file() and (is_list(path) or path.suffix == ".txt")
    files = _listed(run, path) if listed else files_at(path, source.pattern, ARCHIVES).items()
    pages = (raw for file, name in files for raw in read_warc(file, name, limit))
    return Found(pages, of_all(source.licence), source.max_damaged)


def read_files(run: Run, source: FilesSource, seed: int, limit: int) -> Found:
    from stages.corpus.sources.files import SUFFIXES, read_file

    path = run.input(source.path)
    listed = path.is_file() and is_list(path)
    files = _listed(run, path) if listed else files_at(path, source.pattern, SUFFIXES).items()
    pages = (raw for file, name in files for raw in read_file(file, name, limit))
    return Found(pages, of_all(source.licence), source.max_damaged)


def _listed(run: Run, path: Path) -> Iterator[tuple[Path, str]]:
    """Files of a list, each fetched when its turn comes, with their addresses."""
    from stages.corpus.sources.stores import copy

    for url, digest in read_addresses(path):
        yield run.input(copy(url, digest)), url


def read_pages(run: Run, source: ParquetSource, seed: int, limit: int) -> Found:
    path = Path(source.path)
    beside = path if path.is_dir() else None
    table = path / "pages.parquet" if beside else path

    def pages() -> Iterator[Raw | Robots]:
        for batch in run.batches(table, schemas.PAGE):
            for row in batch.to_pylist():
                yield Raw(row["url"], row["html"], row["licence"], row["opt_out"])
        if beside and (beside / "robots.parquet").exists():
            for batch in run.batches(beside / "robots.parquet", ROBOTS):
                yield from (Robots(row["host"], row["text"]) for row in batch.to_pylist())

    known: dict[str, Any] = {}
    if beside and (beside / "truth.json").exists():
        known["truth"] = run.read_json(beside / "truth.json")
    for name, schema in ("questions", schemas.QUESTION), ("planted", schemas.PLANTED):
        if beside and (beside / f"{name}.parquet").exists():
            known[name] = run.read_table(beside / f"{name}.parquet", schema)
    return Found(pages(), **known)


def read_dataset(run: Run, source: HubSource, seed: int, limit: int) -> Found:
    from stages.corpus.sources.hub import read_hub

    run.input(source.path)
    return Found(read_hub(source, source.column), of_all(source.licence))


READERS: dict[str, Callable[..., Found]] = {
    "atlas": read_atlas,
    "package_docs": read_package_docs,
    "warc": read_archives,
    "files": read_files,
    "parquet": read_pages,
    "hub": read_dataset,
}


def main() -> None:
    key = sys.argv[1]
    with stage("corpus.source", Source, item=key, section=f"corpus.sources.{key}") as run:
        source, bounds = run.params, run.section("corpus.ingest", IngestParams)
        seed = derive(run.root_seed("corpus.seed"), f"corpus.{key}", "")
        with (
            run.table("pages.parquet", schemas.PAGE) as pages,
            run.table("drops.parquet", schemas.DROP) as drops,
            Progress(None, f"reading {key}", unit="pages") as bar,
        ):
            found = READERS[source.kind](run, source, seed, bounds.max_page_bytes)
            intake = Intake(pages, drops, bounds.max_page_bytes)
            intake.take(key, found, bar)
        run.write_table("robots.parquet", robots_table(intake.robots), ROBOTS)
        run.write_table("questions.parquet", found.questions, schemas.QUESTION)
        run.write_table("planted.parquet", found.planted, schemas.PLANTED)
        run.write_json("truth.json", found.truth)
        run.write_json("problems.json", intake.problems)
        if pages.rows:  # an archive of robots.txt files has none
            intake.check(key, bounds.max_drop)
            run.rows(pages.rows + drops.rows, pages.rows, dropped=intake.reasons, max_drop=1.0)


if __name__ == "__main__":
    main()
