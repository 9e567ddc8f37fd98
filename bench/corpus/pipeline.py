"""The corpus stages as they are run, on many pages: `python bench/corpus/pipeline.py [--pages N]`.

A project of its own in a temporary folder: N pages of documentation (and half of them), every stage from ingest to mix
with the project's params. Wall and CPU seconds of each stage at both sizes, the ratio, and the peak of the memory that
the stage and its workers held together.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from bench.corpus.documents import package_pages  # noqa: E402  (the path is the project's root)
from stages.base import schemas  # noqa: E402
from stages.base.files import write_json  # noqa: E402
from stages.base.tables import write_table  # noqa: E402

SOURCES, TASKS = ["atlas", "package_docs"], []
PAGES = "pages.parquet"
STAGES = ["ingest", "extract", "screen", "dedup", "heuristics", "quality", "domains", "decontaminate", "mix"]


class Cost(NamedTuple):
    """What a command took."""

    wall: float  # seconds
    cpu: float  # seconds, of the process and its children
    memory: float  # GiB resident at the peak, the whole tree of processes; pages they share count once for each


def measure(command: list[str], folder: Path) -> Cost:
    """Run a command in a folder. Exits with its output if it fails."""
    environment = os.environ | {
        "PYTHONPATH": str(ROOT), "TRAINYARD_TRACK": "off", "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0",
    }  # fmt: skip
    start = time.monotonic()
    with (folder / "log").open("wb") as log:
        process = psutil.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    peak = 0.0
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.1):
            try:
                tree = [process, *process.children(recursive=True)]
                peak = max(peak, sum(member.memory_info().rss for member in tree))
            except psutil.Error:
                continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    _, status, usage = os.wait4(process.pid, 0)
    done.set()
    watcher.join()
    if os.waitstatus_to_exitcode(status) != 0:
        sys.exit(f"{' '.join(command)} failed:\n{(folder / 'log').read_text()[-3000:]}")
    return Cost(time.monotonic() - start, usage.ru_utime + usage.ru_stime, peak / 2**30)


def make_project(folder: Path, pages: int) -> None:
    """A project whose crawl is `pages` pages of documentation, with open bounds of drops: web rules meet manuals."""
    params: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text())
    corpus = params["corpus"]
    corpus["sources"] = {"atlas": corpus["sources"]["atlas"], "package_docs": {"kind": "parquet", "path": PAGES}}
    params["evaluation"]["tasks"], params["alignment"]["instructions"]["sources"] = {}, {}
    for name in STAGES:
        if "max_drop" in corpus[name]:
            corpus[name]["max_drop"] = 0.95
    folder.mkdir()
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    (folder / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    (folder / "lists").symlink_to(ROOT / "lists")
    for phase, keys in (("corpus/source", SOURCES), ("evaluation/task", TASKS), ("alignment/instructions", TASKS)):
        write_json(folder / "data" / phase / "items.json", keys)
    found = package_pages(1200)
    if len(found) < pages:
        sys.exit(f"only {len(found):,} pages of documentation are installed; ask for fewer with --pages")
    rows = [
        {"id": sha256(page.url.encode()).hexdigest()[:16], "source": "package_docs", "url": page.url,
         "licence": page.licence, "opt_out": "", "html": page.html}
        for page in (found[place * len(found) // pages] for place in range(pages))
    ]  # fmt: skip
    write_table(folder / PAGES, pa.Table.from_pylist(rows, schema=schemas.PAGE), schemas.PAGE)


def halve(project: Path, half: Path) -> None:
    """The same project with every second page."""
    subprocess.run(["cp", "-r", project, half], check=True)
    path = half / PAGES
    table = pq.read_table(path)
    pq.write_table(table.take(pa.array(range(0, table.num_rows, 2))), path, row_group_size=64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pages", type=int, default=20_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        whole, half = Path(name) / "whole", Path(name) / "half"
        make_project(whole, arguments.pages)
        halve(whole, half)
        for project in (whole, half):
            for key in SOURCES:
                measure([sys.executable, "-m", "stages.corpus.source", key], project)
        pages = pq.read_metadata(whole / PAGES).num_rows
        costs: dict[str, tuple[Cost, Cost]] = {}
        for stage in STAGES:
            command = [sys.executable, "-m", f"stages.corpus.{stage}"]
            costs[stage] = measure(command, half), measure(command, whole)
            print(f"{stage}: {costs[stage][1].wall:.1f} s", file=sys.stderr)
    print(f"{pages:,} pages of documentation and {pages // 2:,}, and the atlas's in both\n")
    print(
        "| stage | wall s, half | wall s | ratio | CPU s | peak GiB, half | peak GiB |\n|---|---|---|---|---|---|---|"
    )
    totals = [Cost(*map(sum, zip(*part, strict=True))) for part in zip(*costs.values(), strict=True)]
    for stage, (small, large) in [*costs.items(), ("all", tuple(totals))]:
        memory = (
            (small.memory, large.memory)
            if stage != "all"
            else tuple(max(part[place].memory for part in costs.values()) for place in (0, 1))
        )
        print(
            f"| {stage} | {small.wall:.1f} | {large.wall:.1f} | {large.wall / small.wall:.2f} | {large.cpu:.1f} "
            f"| {memory[0]:.2f} | {memory[1]:.2f} |"
        )


if __name__ == "__main__":
    main()
