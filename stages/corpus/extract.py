"""corpus.extract: pages to documents, in parallel, with the same bytes for any number of workers."""

import hashlib
import math
import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Annotated, NamedTuple

import pyarrow as pa
from pydantic import Field

from stages.base import schemas
from stages.base.params import Section
from stages.base.progress import Progress
from stages.base.record import stage
from stages.base.workers import worker_count
from stages.corpus.html_text import Mode, decode, depth, extract_text, links
from stages.corpus.plain import unwrap

__all__ = ["extract_text"]
CHUNK = 64  # pages a worker takes at once


class ExtractParams(Section):
    mode: Mode
    max_page_bytes: Annotated[int, Field(ge=1)]
    max_nesting: Annotated[int, Field(ge=1)]
    max_drop: Annotated[float, Field(ge=0, le=1)]


PARAMS = {"corpus.extract": ExtractParams}


class Extracted(NamedTuple):
    text: str
    links: list[str]
    problem: str  # "" or too_large, too_deep, failed, crashed, empty


Work = Callable[[list[tuple[bytes, str]], ExtractParams], list[Extracted]]


def extract_page(html: bytes, url: str, params: ExtractParams) -> Extracted:
    """Text and links of one page, or why there are none. Never raises: a page that breaks an extractor is a drop."""
    if len(html) > params.max_page_bytes:
        return Extracted("", [], "too_large")
    if depth(html) > params.max_nesting:
        return Extracted("", [], "too_deep")
    try:
        text = extract_text(html, url, params.mode)
        found = [] if unwrap(html) is not None else links(decode(html), url)
    except Exception:  # the parsers raise whatever hostile input makes them raise
        return Extracted("", [], "failed")
    return Extracted(text, found, "" if text.strip() else "empty")


def _extract_chunk(pages: list[tuple[bytes, str]], params: ExtractParams) -> list[Extracted]:
    return [extract_page(html, url, params) for html, url in pages]


def extract_all(
    pages: list[tuple[bytes, str]],
    params: ExtractParams,
    workers: int,
    advance: Callable[[int], None],
    work: Work = _extract_chunk,
) -> list[Extracted]:
    """Every page's extraction, in order. Workers are processes: a crash of a parser costs its page and no other."""
    chunks = [pages[start : start + CHUNK] for start in range(0, len(pages), CHUNK)]
    results: list[Extracted] = []
    while len(results) < len(pages):
        first = len(results) // CHUNK
        try:
            for part in _pooled(chunks[first:], params, workers, work):
                results += part
                advance(len(part))
        except BrokenProcessPool:
            part = _one_by_one(chunks[len(results) // CHUNK], params, work)
            results += part
            advance(len(part))
    return results


def _pooled(
    chunks: list[list[tuple[bytes, str]]], params: ExtractParams, workers: int, work: Work
) -> Iterator[list[Extracted]]:
    context = multiprocessing.get_context("spawn")  # forking a process that runs Arrow's threads may deadlock
    with ProcessPoolExecutor(min(workers, max(1, len(chunks))), mp_context=context) as pool:
        yield from pool.map(work, chunks, [params] * len(chunks))


def _one_by_one(chunk: list[tuple[bytes, str]], params: ExtractParams, work: Work) -> list[Extracted]:
    """The pages of a chunk that broke the pool, each in a process of its own."""
    results = []
    for page in chunk:
        try:
            results += next(_pooled([[page]], params, 1, work))
        except BrokenProcessPool:
            results.append(Extracted("", [], "crashed"))
    return results


def tabulate(pages: pa.Table, results: list[Extracted]) -> tuple[pa.Table, pa.Table]:
    """(documents, drops) of the pages, in the pages' order."""
    documents, drops = [], []
    for row, result in zip(pages.select(["id", "source", "url", "licence"]).to_pylist(), results, strict=True):
        if result.problem:
            origin = {name: row[name] for name in ("id", "source", "url")}
            drops.append(origin | {"rule": "extract", "reason": result.problem, "duplicate_of": "", "sample": ""})
            continue
        documents.append(
            row
            | {
                "language": "",
                "text": result.text,
                "text_hash": hashlib.sha256(result.text.encode()).hexdigest(),
                "links": result.links,
                "quality": math.nan,
                "domain": "",
            }
        )
    return pa.Table.from_pylist(documents, schema=schemas.DOCUMENT), pa.Table.from_pylist(drops, schema=schemas.DROP)


def main() -> None:
    with stage("corpus.extract", ExtractParams) as run:
        pages = run.read_table("data/corpus/ingest/pages.parquet", schemas.PAGE)
        with Progress(pages.num_rows, "extracting", unit="pages") as bar:
            columns = zip(pages["html"].to_pylist(), pages["url"].to_pylist(), strict=True)
            results = extract_all(list(columns), run.params, worker_count(), bar.advance)
        documents, drops = tabulate(pages, results)
        run.write_table("documents.parquet", documents, schemas.DOCUMENT)
        run.write_table("drops.parquet", drops, schemas.DROP)
        reasons = Counter(drops["reason"].to_pylist())
        run.rows(pages.num_rows, documents.num_rows, dropped=reasons, max_drop=run.params.max_drop)
        run.write_json(
            "metrics.json",
            {
                "pages": pages.num_rows,
                "documents": documents.num_rows,
                "characters": sum(len(result.text) for result in results),
                "links": sum(len(result.links) for result in results),
            },
        )


if __name__ == "__main__":
    main()
