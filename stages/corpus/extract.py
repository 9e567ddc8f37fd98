"""corpus.extract: pages to documents. Hostile pages are worked on in a sandbox, and cost themselves at the most."""

import hashlib
import math
from collections.abc import Iterator
from multiprocessing.util import Finalize
from typing import Annotated, Any

import pyarrow as pa
from pydantic import Field

from stages.base import schemas
from stages.base.params import Section
from stages.base.record import stage
from stages.base.tables import read_batches
from stages.corpus.drops import sample
from stages.corpus.pages import signals
from stages.corpus.pages.html_text import Mode, extract_text
from stages.corpus.pages.page import Bounds, Extracted, lost, read_answer, request_head
from stages.corpus.pages.sandbox import Lost, Request, Sandbox
from stages.corpus.step import Outcome, run_step

__all__ = ["extract_text"]


class ExtractParams(Section):
    mode: Mode
    """What finds the main text: blocks (trained here), volume, or fast and precision (trafilatura)."""
    max_page_bytes: Annotated[int, Field(ge=1)]
    """Larger pages are dropped."""
    max_tags: Annotated[int, Field(ge=1)]
    """Pages with more `<` are dropped."""
    max_nesting: Annotated[int, Field(ge=1)]
    """Pages whose elements stand deeper are dropped."""
    max_memory_mib: Annotated[int, Field(ge=512)]
    """Of the process that extracts."""
    max_page_seconds: Annotated[float, Field(gt=0, le=1e6)]
    """Wall clock: the last guard, and the one that isn't reproducible."""
    max_drop: Annotated[float, Field(ge=0, le=1)]

    @property
    def bounds(self) -> Bounds:
        return Bounds(self.mode, self.max_page_bytes, self.max_tags, self.max_nesting)


PARAMS = {"corpus.extract": ExtractParams}

MODULE = "stages.corpus.pages.page"  # what the sandbox runs
_sandboxes: dict[tuple[int, float], Sandbox] = {}  # one a process, kept from batch to batch


def extract_batch(pages: pa.Table, params: ExtractParams) -> Outcome:
    """Documents of a batch of PAGE rows, in their order; every page without a text is a drop with its reason."""
    documents, drops = [], []
    rows = pages.to_pylist()
    bodies = [row.pop("html") for row in rows]
    for row, html, page in zip(rows, bodies, extract_pages(rows, bodies, params), strict=True):
        if page.problem:
            origin = {name: row[name] for name in ("id", "source", "url")}
            shown = sample(html[:1200].decode("utf-8", "replace"))
            drops.append(origin | {"rule": "extract", "reason": page.problem, "duplicate_of": "", "sample": shown})
        else:
            documents.append(_document(row, page))
    facts = {
        "pages": pages.num_rows,
        "characters": sum(len(row["text"]) for row in documents),
        "links": sum(len(row["links"]) for row in documents),
        "opted_out": sum(row["opt_out"] != "" for row in documents),
        "wall_clock_drops": sum(drop["reason"] == "timeout" for drop in drops),
    }
    return Outcome(
        pa.Table.from_pylist(documents, schema=schemas.DOCUMENT),
        pa.Table.from_pylist(drops, schema=schemas.DROP),
        facts,
    )


def extract_pages(rows: list[dict[str, Any]], bodies: list[bytes], params: ExtractParams) -> Iterator[Extracted]:
    """What the sandbox makes of each page, in order. One that is too large isn't even handed over."""
    small = [len(body) <= params.max_page_bytes for body in bodies]
    requests = [
        Request(request_head(row["url"], params.bounds), body)
        for row, body, fits in zip(rows, bodies, small, strict=True)
        if fits
    ]
    answers = _sandbox(params).answers(requests)
    for fits in small:
        answer = next(answers) if fits else Lost("too_large")
        yield lost(answer.reason) if isinstance(answer, Lost) else read_answer(answer)


def _document(row: dict[str, Any], page: Extracted) -> dict[str, Any]:
    return row | {
        "licence": row["licence"] or page.licence,
        "opt_out": signals.join(set(row["opt_out"].split()) | set(page.opt_out)),
        "language": "",
        "text": page.text,
        "text_hash": hashlib.sha256(page.text.encode()).hexdigest(),
        "links": page.links,
        "quality": math.nan,
        "domain": "",
    }


def _sandbox(params: ExtractParams) -> Sandbox:
    key = (params.max_memory_mib, params.max_page_seconds)
    if key not in _sandboxes:
        _sandboxes[key] = Sandbox(MODULE, *key)
        Finalize(None, close_sandboxes, exitpriority=1)  # a worker of a pool runs no atexit
    return _sandboxes[key]


def close_sandboxes() -> None:
    """End this process's sandboxes; what they have used is then counted as this process's."""
    while _sandboxes:
        _sandboxes.popitem()[1].close()


def main() -> None:
    with stage("corpus.extract", ExtractParams) as run:
        params = run.params
        # Compiles what `blocks` needs before any page's clock runs.
        extract_text(b"<ul><li>Text, <b>here</b>.</ul><table><tr><td>a<td>b</table>", "", params.mode)
        facts = run_step(
            run,
            "data/corpus/ingest/pages.parquet",
            extract_batch,
            params,
            max_drop=params.max_drop,
            schema=schemas.PAGE,
        )
        close_sandboxes()
        drops = read_batches(run.output("drops.parquet"), schemas.DROP, ["url", "reason"])
        run.note(
            "wall_clock_drops",
            [row["url"] for batch in drops for row in batch.to_pylist() if row["reason"] == "timeout"],
        )
        run.write_json("metrics.json", {name: facts[name] for name in sorted(facts)})


if __name__ == "__main__":
    main()
