"""corpus.ingest: all sources of the crawl as one table of pages."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pyarrow as pa
from pydantic import Field, StringConstraints

from stages.base import schemas
from stages.base.errors import DataLossError, InputError
from stages.base.files import read_table
from stages.base.params import Section
from stages.base.progress import Progress
from stages.base.record import StageRun, stage
from stages.corpus.download import fetch, is_url
from stages.corpus.files_source import matches, read_file
from stages.corpus.hub import read_hub
from stages.corpus.identity import document_id
from stages.corpus.warc import read_warc

Text = Annotated[str, StringConstraints(min_length=1)]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class ParquetSource(Section):
    """A table of pages (schema PAGE) that an upstream stage wrote; its licences are its own."""

    kind: Literal["parquet"]
    path: Text


class WarcSource(Section):
    kind: Literal["warc"]
    paths: Annotated[list[Text], Field(min_length=1)]  # files, or addresses to download
    sha256: dict[str, Digest]  # of the paths whose digest is known; may be empty
    licence: Text
    max_truncated: Annotated[int, Field(ge=0)]  # damaged records


class FilesSource(Section):
    kind: Literal["files"]
    paths: Annotated[list[Text], Field(min_length=1)]  # glob patterns
    licence: Text


class HubSource(Section):
    kind: Literal["hub"]
    name: Text
    config: Text | None
    split: Text
    revision: Text | None
    column: Text
    limit: Annotated[int, Field(ge=1)]
    licence: Text


Source = Annotated[ParquetSource | WarcSource | FilesSource | HubSource, Field(discriminator="kind")]
Key = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]


class IngestParams(Section):
    sources: Annotated[dict[Key, Source], Field(min_length=1)]
    max_page_bytes: Annotated[int, Field(ge=1)]
    max_drop: Annotated[float, Field(ge=0, le=1)]


PARAMS = {"corpus.ingest": IngestParams}


@dataclass(frozen=True)
class Raw:
    """A page as its source gives it; `problem` is "" or the reason why it can't be used."""

    url: str
    html: bytes
    licence: str
    problem: str = ""


def read_source(source: Source, run: StageRun[IngestParams]) -> Iterator[Raw]:
    """All pages of a source in its own fixed order; inputs are registered with the run."""
    if isinstance(source, ParquetSource):
        table = read_table(run.input(source.path), schemas.PAGE)
        for row in table.select(["url", "html", "licence"]).to_pylist():
            yield Raw(row["url"], row["html"], row["licence"])
    elif isinstance(source, WarcSource):
        yield from _read_warcs(source, run)
    elif isinstance(source, FilesSource):
        files = matches(source.paths)
        base = _common_folder(files)
        for path in files:
            for url, html in read_file(run.input(path), path.relative_to(base).as_posix()):
                yield Raw(url, html, source.licence)
    else:
        rows = read_hub(source.name, source.config, source.split, source.revision, source.column, source.limit)
        for url, html in rows:
            yield Raw(url, html, source.licence)


def _read_warcs(source: WarcSource, run: StageRun[IngestParams]) -> Iterator[Raw]:
    truncated: list[str] = []
    for path in source.paths:
        local = fetch(path, source.sha256.get(path)) if is_url(path) else Path(path)
        for response in read_warc(run.input(local)):
            if response.problem == "truncated":
                truncated.append(f"{Path(path).name}@{response.offset}")
            yield Raw(response.url, response.body, source.licence, response.problem)
    run.note("truncated_records", truncated)
    if len(truncated) > source.max_truncated:
        raise DataLossError(
            f"{len(truncated)} damaged WARC records, more than max_truncated = {source.max_truncated}; "
            f"first (file@offset): {', '.join(truncated[:3])}"
        )


def _common_folder(files: list[Path]) -> Path:
    folder = files[0].parent
    while not all(file.is_relative_to(folder) for file in files):
        folder = folder.parent
    return folder


def collect(
    sources: dict[str, Iterator[Raw]], max_page_bytes: int, advance: Callable[..., None]
) -> tuple[pa.Table, pa.Table]:
    """(pages, drops) of all sources, in the order given; ids count how often a source has shown a URL before.

    `advance(1)` is called after each source, `advance(0, pages=n)` after each page. Raises InputError for a source
    without any page.
    """
    pages: list[dict] = []
    drops: list[dict] = []
    for name, raws in sources.items():
        seen: Counter[str] = Counter()
        kept = len(pages)
        for raw in raws:
            identifier = document_id(name, raw.url, seen[raw.url])
            seen[raw.url] += 1
            advance(0, pages=len(pages))
            problem = raw.problem or ("empty" if not raw.html.strip() else "")
            problem = problem or ("too_large" if len(raw.html) > max_page_bytes else "")
            row = {"id": identifier, "source": name, "url": raw.url}
            if problem:
                sample = raw.html[:1200].decode("utf-8", "replace")[:300]
                drops.append(row | {"rule": "ingest", "reason": problem, "duplicate_of": "", "sample": sample})
            else:
                pages.append(row | {"licence": raw.licence, "html": raw.html})
        if len(pages) == kept:
            raise InputError(f"source `{name}` has no usable page; check corpus.ingest.sources.{name} in params.yaml")
        advance(1, pages=len(pages))
    return pa.Table.from_pylist(pages, schema=schemas.PAGE), pa.Table.from_pylist(drops, schema=schemas.DROP)


def main() -> None:
    with stage("corpus.ingest", IngestParams) as run:
        sources = {name: read_source(source, run) for name, source in sorted(run.params.sources.items())}
        with Progress(len(sources), "ingesting", unit="sources") as bar:
            pages, drops = collect(sources, run.params.max_page_bytes, bar.advance)
        run.write_table("pages.parquet", pages, schemas.PAGE)
        run.write_table("drops.parquet", drops, schemas.DROP)
        reasons = Counter(drops["reason"].to_pylist())
        run.rows(pages.num_rows + drops.num_rows, pages.num_rows, dropped=reasons, max_drop=run.params.max_drop)


if __name__ == "__main__":
    main()
