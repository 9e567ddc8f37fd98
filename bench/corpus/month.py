"""A month of Common Crawl on paper: what a measured cost a page comes to, beside what FineWeb's makers published.

`python bench/corpus/month.py`: FineWeb's own. `bench/corpus/rehearsal.py` prints the table with what it has measured.

Sources: FineWeb's program as its authors ran it on each snapshot (huggingface/datatrove, examples/fineweb.py: tasks,
CPUs and time limits of every job); Penedo et al. 2024, arXiv:2406.17557 (96 snapshots, 15e12 tokens, 44 TB on disk;
a snapshot has 200 to 400 TiB of content); Common Crawl on its archive of September 2016 (commoncrawl.org/2016/10:
1.72e9 pages in 28.94 TiB of compressed WARCs). No run time or bill was published: the limits bound the core-hours.
"""

import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

PAGES = 2.5e9  # of a month of Common Crawl, about
DOLLARS = 0.04  # a core-hour in a cloud, assumed
PAGE_BYTES = 28.94 * 2**40 / 1.72e9  # of a page's record in a compressed archive
SNAPSHOTS, DISK = 96, 44e12  # of FineWeb; bytes


class Job(NamedTuple):
    """A job of a cluster: `tasks` of some CPUs each, and the hours after which a task is ended."""

    name: str
    tasks: int
    cpus: int
    hours: float

    @property
    def core_hours(self) -> float:
        """The most that it may have taken."""
        return self.tasks * self.cpus * self.hours


FINEWEB = (
    Job("extraction, language, rules", 8000, 1, 10),
    Job("MinHash: signatures", 1000, 1, 5),
    Job("MinHash: buckets", 14 * 50, 3, 2),
    Job("MinHash: clusters", 1, 8, 30),
    Job("MinHash: removal", 1000, 1, 5),
)


class Month(NamedTuple):
    """What a month of Common Crawl takes; `bytes` is None where it isn't known."""

    core_hours: float
    dollars: float
    read: float | None  # bytes of archives
    written: float | None  # bytes of the corpus

    @property
    def seconds_a_page(self) -> float:
        return self.core_hours * 3600 / PAGES


def of_measured(pages: int, cpu_seconds: float, read: float, written: float) -> Month:
    """The same cost for each of PAGES pages as was measured on `pages`: CPU, bytes read and bytes of the mixture."""
    hours = cpu_seconds / pages * PAGES / 3600
    return Month(hours, hours * DOLLARS, read / pages * PAGES, written / pages * PAGES)


def by_bytes(month: Month) -> Month:
    """The same cost for each byte of the archives instead of each page: pages of the web are longer than manuals'."""
    assert month.read is not None and month.written is not None
    scale = PAGES * PAGE_BYTES / month.read
    return Month(*(part * scale for part in (month.core_hours, month.dollars, month.read, month.written)))


def of_fineweb() -> Month:
    """At most: by the time limits of its jobs. The bytes written are a mean over its snapshots."""
    hours = sum(job.core_hours for job in FINEWEB)
    return Month(hours, hours * DOLLARS, None, DISK / SNAPSHOTS)


def table(months: dict[str, Month]) -> str:
    """A row for each."""
    rows = ["| | core-hours | dollars | CPU ms a page | archives, TB | corpus, TB |", "|---|--:|--:|--:|--:|--:|"]
    for name, month in months.items():
        read, written = (f"{size / 1e12:,.2f}" if size else "–" for size in (month.read, month.written))
        hours, milliseconds = f"{month.core_hours:,.0f}", 1000 * month.seconds_a_page
        rows.append(f"| {name} | {hours} | {month.dollars:,.0f} | {milliseconds:,.0f} | {read} | {written} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(table({"FineWeb, at most (limits of its jobs)": of_fineweb()}))
