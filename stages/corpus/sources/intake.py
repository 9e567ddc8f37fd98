"""What sources give, sorted into pages, drops and robots.txt files: ids, bounds and counts."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any

import pyarrow as pa
from pydantic import Field

from stages.base import schemas
from stages.base.errors import DataLossError, InputError
from stages.base.params import Section
from stages.base.progress import Progress
from stages.base.tables import TableWriter
from stages.corpus.drops import Bound, check_bounds, sample
from stages.corpus.sources.occurrences import Occurrences, document_id
from stages.corpus.sources.raw import DAMAGE, Raw, is_empty
from stages.corpus.sources.robots import Robots

NO_PAGES = ("not_html", "http_status")  # an archive may be full of them
NOTED = 20  # places of a problem that are named; all are counted


class IngestParams(Section):
    """Bounds of what any source gives."""

    max_page_bytes: Annotated[int, Field(ge=1)]
    """Bytes of a page; larger ones are dropped."""
    max_drop: Annotated[float, Field(ge=0, le=1)]
    """Share of a source's pages that may be unusable. What is no page (pictures, errors, redirects) doesn't count."""


@dataclass(frozen=True)
class Found:
    """What a source gives: its pages and robots.txt files in its own fixed order, and what is known of them."""

    pages: Iterable[Raw | Robots]
    licence: str = ""  # of pages without their own
    max_damaged: int = 0  # records
    truth: dict[str, Any] = field(default_factory=lambda: {"attributes": {}, "entities": {}})
    questions: pa.Table = field(default_factory=schemas.QUESTION.empty_table)
    planted: pa.Table = field(default_factory=schemas.PLANTED.empty_table)


class Intake:
    """Sorts what a source gives into pages, drops and robots.txt files, and counts.

    Memory holds no page: the robots.txt files, and 18 to 36 bytes for each page.
    """

    def __init__(self, pages: TableWriter, drops: TableWriter, max_page_bytes: int) -> None:
        self._pages, self._drops, self._limit = pages, drops, max_page_bytes
        self.reasons: Counter[str] = Counter()
        self.robots: dict[str, str] = {}
        self._texts: dict[str, str] = {}  # many hosts have the same robots.txt: it is held once
        self.problems: defaultdict[str, dict[str, Any]] = defaultdict(lambda: {"count": 0, "first": []})

    def take(self, source: str, found: Found, bar: Progress) -> None:
        """All pages of a source. Ids count how often it has shown a URL before.

        Raises DataLossError above its `max_damaged` records, InputError for a source without any page.
        """
        seen = Occurrences()
        for raw in found.pages:
            if isinstance(raw, Robots):
                self.robots[raw.host] = self._texts.setdefault(raw.text, raw.text)
                continue
            row = {"id": document_id(source, raw.url, seen.earlier(raw.url)), "source": source, "url": raw.url}
            problem = raw.problem or ("empty" if is_empty(raw.html) else "")
            problem = problem or ("too_large" if len(raw.html) > self._limit else "")
            for remark in (problem, *raw.remarks) if problem else raw.remarks:
                self._note(remark, raw)
            if problem:
                self._drop(row, problem, raw)
                self._check_damage(source, found.max_damaged)
            else:
                page = row | {"licence": raw.licence or found.licence, "opt_out": raw.opt_out, "html": raw.html}
                self._pages.write(pa.Table.from_pylist([page], schema=schemas.PAGE))
            bar.advance(1, dropped=self._drops.rows)
        if not self._pages.rows and not self.robots:
            dropped = f"; dropped: {dict(self.reasons)}" if self.reasons else ""
            raise InputError(f"source `{source}` has no usable page{dropped}; check `corpus.sources.{source}`")

    def check(self, source: str, max_drop: float) -> None:
        """Raises DataLossError if more of the pages are unusable than `max_drop`."""
        unusable = {reason: count for reason, count in self.reasons.items() if reason not in NO_PAGES}
        pages = self._pages.rows + sum(unusable.values())
        bound = Bound(max_drop, "corpus.ingest.max_drop")
        check_bounds({(source, why): n for why, n in unusable.items()}, {source: pages}, {}, bound)

    def _drop(self, row: dict[str, str], problem: str, raw: Raw) -> None:
        self.reasons[problem] += 1
        if raw.detail or problem == "empty":
            told = ": ".join(filter(None, (raw.where, raw.detail)))
        else:
            told = raw.html[:1200].decode("utf-8", "replace")
        drop = row | {"rule": "ingest", "reason": problem, "duplicate_of": "", "sample": sample(told)}
        self._drops.write(pa.Table.from_pylist([drop], schema=schemas.DROP))

    def _note(self, what: str, raw: Raw) -> None:
        told = self.problems[what]
        told["count"] += 1
        if raw.where and len(told["first"]) < NOTED:
            told["first"].append(f"{raw.where}: {raw.detail}" if raw.detail else raw.where)

    def _check_damage(self, source: str, bound: int) -> None:
        found = [self.problems[what] for what in sorted(DAMAGE & self.problems.keys())]
        if sum(told["count"] for told in found) > bound:
            first = "; ".join([place for told in found for place in told["first"]][:3])
            raise DataLossError(
                f"source `{source}`: more damaged records than max_damaged = {bound}; first (file@offset): {first}; "
                f"fetch the file again, or raise corpus.sources.{source}.max_damaged"
            )
