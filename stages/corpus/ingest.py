"""corpus.ingest: all sources of the crawl as one table of pages, written as they come."""

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pyarrow as pa
from pydantic import Field, StringConstraints, field_validator, model_validator

from stages.base import schemas
from stages.base.errors import DataLossError, InputError
from stages.base.files import sha256_file
from stages.base.params import Section, nearest
from stages.base.progress import Progress
from stages.base.record import StageRun, stage
from stages.base.tables import TableWriter
from stages.corpus.drops import sample
from stages.corpus.sources.download import check_url, fetch, is_url
from stages.corpus.sources.files import matches, read_file
from stages.corpus.sources.hub import local_inputs, read_hub
from stages.corpus.sources.occurrences import Occurrences, document_id
from stages.corpus.sources.raw import DAMAGE, Raw
from stages.corpus.sources.robots import ROBOTS, Robots, robots_table
from stages.corpus.sources.warc import read_warc

Text = Annotated[str, StringConstraints(min_length=1)]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
NOTED = 20  # places of a problem that the record names; all are counted
DECLARED = "declared"  # the licence is what each page says; "" in PAGE, filled in by corpus.extract


class ParquetSource(Section):
    """A table of pages (schema PAGE) that an upstream stage wrote; its licences are its own."""

    kind: Literal["parquet"]
    path: Text
    robots: Text | None  # a table (schema ROBOTS) of its hosts' robots.txt


class WarcSource(Section):
    kind: Literal["warc"]
    paths: Annotated[list[Text], Field(min_length=1)]  # files, or addresses to download
    sha256: dict[str, Digest]  # of the paths whose digest is known; may be empty
    licence: Text
    max_damaged: Annotated[int, Field(ge=0)]  # records

    @field_validator("paths")
    @classmethod
    def _addresses(cls, paths: list[str]) -> list[str]:
        for path in filter(is_url, paths):
            try:
                check_url(path)
            except InputError as error:
                raise ValueError(str(error)) from None
        return paths

    @model_validator(mode="after")
    def _digests_of_paths(self) -> Self:
        if strange := sorted(self.sha256.keys() - set(self.paths)):
            hint = nearest(strange[0], self.paths)
            raise ValueError(f"sha256 names {strange[0]!r}, which is none of the paths{hint}")
        return self


class FilesSource(Section):
    kind: Literal["files"]
    paths: Annotated[list[Text], Field(min_length=1)]  # glob patterns
    licence: Text
    max_damaged: Annotated[int, Field(ge=0)]  # lines of JSON


class HubSource(Section):
    kind: Literal["hub"]
    name: Text
    config: Text | None
    split: Text
    revision: Text | None
    data_files: Annotated[list[Text], Field(min_length=1)] | None
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


def read_source(source: Source, run: StageRun[IngestParams]) -> Iterator[Raw | Robots]:
    """All pages of a source in its own fixed order; inputs are registered with the run."""
    limit = run.params.max_page_bytes
    if isinstance(source, ParquetSource):
        for batch in run.batches(source.path, schemas.PAGE):
            for row in batch.to_pylist():
                yield Raw(row["url"], row["html"], row["licence"], row["opt_out"])
        for batch in run.batches(source.robots, ROBOTS) if source.robots else ():
            yield from itertools.starmap(Robots, zip(*batch.to_pydict().values(), strict=True))
    elif isinstance(source, WarcSource):
        names = _names([Path(path) for path in source.paths if not is_url(path)])
        for path in source.paths:
            digest = source.sha256.get(path)
            local = fetch(path, digest) if is_url(path) else _checked(run.input(path), digest)
            yield from read_warc(run.input(local), path if is_url(path) else names[local], limit)
    elif isinstance(source, FilesSource):
        for file, name in _names(matches(source.paths)).items():
            yield from read_file(run.input(file), name, limit)
    else:
        hub = source
        for local in local_inputs(hub.name, hub.data_files):
            run.input(local)
        yield from read_hub(hub.name, hub.config, hub.split, hub.revision, hub.data_files, hub.column, hub.limit)


def _names(files: list[Path]) -> dict[Path, str]:
    """What stands for each file in URLs and places: its path below the folder that all have in common."""
    absolute = [file.absolute() for file in files]
    folder = absolute[0].parent if files else Path()
    while not all(file.is_relative_to(folder) for file in absolute):
        folder = folder.parent
    return {file: whole.relative_to(folder).as_posix() for file, whole in zip(files, absolute, strict=True)}


def _checked(path: Path, digest: str | None) -> Path:
    """The path of a local file. Raises InputError if it has another sha256 than the params give."""
    if digest is not None and (found := sha256_file(path)) != digest:
        raise InputError(
            f"{path}: its sha256 begins with {found[:12]}, corpus.ingest.sources expects {digest[:12]}; "
            "the file is damaged or another one: fetch it again, or correct the digest"
        )
    return path


class Intake:
    """Sorts what the sources give into pages, drops and robots.txt files, and counts.

    Memory holds no page: the robots.txt files, and 18 to 36 bytes for each page of the source at hand.
    """

    def __init__(self, pages: TableWriter, drops: TableWriter, max_page_bytes: int) -> None:
        self._pages, self._drops, self._limit = pages, drops, max_page_bytes
        self.reasons: Counter[str] = Counter()
        self.robots: dict[str, str] = {}
        self._texts: dict[str, str] = {}  # many hosts have the same robots.txt: it is held once
        self.problems: defaultdict[str, defaultdict[str, dict[str, Any]]] = defaultdict(lambda: defaultdict(_none_yet))

    def take(self, name: str, source: Source, found: Iterator[Raw | Robots], bar: Progress) -> None:
        """All of a source. Ids count how often it has shown a URL before.

        Raises DataLossError above the source's `max_damaged`, InputError for a source without any page.
        """
        seen = Occurrences()
        kept, hosts = self._pages.rows, len(self.robots)
        for raw in found:
            if isinstance(raw, Robots):
                self.robots[raw.host] = self._texts.setdefault(raw.text, raw.text)
                continue
            row = {"id": document_id(name, raw.url, seen.earlier(raw.url)), "source": name, "url": raw.url}
            problem = raw.problem or ("" if raw.html.strip() else "empty")
            problem = problem or ("too_large" if len(raw.html) > self._limit else "")
            for remark in (problem, *raw.remarks) if problem else raw.remarks:
                self._note(name, remark, raw)
            if problem:
                self._drop(row, problem, raw)
                self._check_damage(name, source)
            else:
                licence = raw.licence or _licence(source)
                page = row | {"licence": licence, "opt_out": raw.opt_out, "html": raw.html}
                self._pages.write(pa.Table.from_pylist([page], schema=schemas.PAGE))
            bar.advance(1, dropped=self._drops.rows)
        if self._pages.rows == kept and len(self.robots) == hosts:
            raise InputError(f"source `{name}` has no usable page; check corpus.ingest.sources.{name} in params.yaml")

    def _drop(self, row: dict[str, str], problem: str, raw: Raw) -> None:
        self.reasons[problem] += 1
        told = f"{raw.where}: {raw.detail}" if raw.detail else raw.html[:1200].decode("utf-8", "replace")
        drop = row | {"rule": "ingest", "reason": problem, "duplicate_of": "", "sample": sample(told)}
        self._drops.write(pa.Table.from_pylist([drop], schema=schemas.DROP))

    def _note(self, name: str, what: str, raw: Raw) -> None:
        told = self.problems[name][what]
        told["count"] += 1
        if raw.where and len(told["first"]) < NOTED:
            told["first"].append(f"{raw.where}: {raw.detail}" if raw.detail else raw.where)

    def _check_damage(self, name: str, source: Source) -> None:
        found = [self.problems[name][what] for what in sorted(DAMAGE & self.problems[name].keys())]
        bound = source.max_damaged if isinstance(source, WarcSource | FilesSource) else 0
        if sum(told["count"] for told in found) > bound:
            first = "; ".join([place for told in found for place in told["first"]][:3])
            raise DataLossError(
                f"source `{name}`: more damaged records than max_damaged = {bound}; first (file@offset): {first}; "
                f"fetch the file again, or raise corpus.ingest.sources.{name}.max_damaged"
            )


def _none_yet() -> dict[str, Any]:
    return {"count": 0, "first": []}


def _licence(source: Source) -> str:
    licence = "" if isinstance(source, ParquetSource) else source.licence
    return "" if licence == DECLARED else licence


def main() -> None:
    with stage("corpus.ingest", IngestParams) as run:
        with (
            run.table("pages.parquet", schemas.PAGE) as pages,
            run.table("drops.parquet", schemas.DROP) as drops,
            Progress(None, "ingesting", unit="pages") as bar,
        ):
            intake = Intake(pages, drops, run.params.max_page_bytes)
            for name, source in sorted(run.params.sources.items()):
                intake.take(name, source, read_source(source, run), bar)
        run.write_table("robots.parquet", robots_table(intake.robots), ROBOTS)
        run.note("problems", intake.problems)
        taken = pages.rows + drops.rows
        run.rows(taken, pages.rows, dropped=intake.reasons, max_drop=run.params.max_drop)


if __name__ == "__main__":
    main()
