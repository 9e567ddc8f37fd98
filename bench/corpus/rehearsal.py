"""A rehearsal of a crawl: `python bench/corpus/rehearsal.py [--pages 20000] [--engines 1 2 ray] [--roots FOLDER …]`.

Installed documentation as archives (`crawl_archive.py`), with the params of `scales/crawl.yaml`, through source … mix
on one process, two, and Ray. It fails unless the engines write the same bytes, every drop has its reason, the drops of
the archives are those that were planted, and no process tree holds more than `--memory` GiB.
"""

import argparse
import hashlib
import json
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from bench.corpus.crawl_archive import FAULTS, ROOTS, write  # noqa: E402  (the path is the project's root)
from bench.corpus.month import DOLLARS, PAGES, by_bytes, of_fineweb, of_measured, table  # noqa: E402
from bench.corpus.pipeline import STAGES, Cost, measure  # noqa: E402


def make_project(folder: Path, archives: Path) -> None:
    """Params of a crawl, its archives, and nothing to protect."""
    from stages.base.files import write_json

    folder.mkdir()
    for name in ("dvc.yaml", "scales", "lists", "stages"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "crawl").symlink_to(archives)
    (folder / "own.jsonl").write_text("")
    given = ["corpus.sources.crawl.path=crawl", "corpus.sources.crawl.max_damaged=1000000"]
    given += ["alignment.instructions.sources.own.path=own.jsonl", "corpus.heuristics.max_drop=1.0"]
    measure([sys.executable, "-m", "stages.cli", "configure", "crawl", *given, "--write"], folder)
    for phase, keys in (("corpus/source", ["crawl"]), ("evaluation/task", []), ("alignment/instructions", [])):
        write_json(folder / "data" / phase / "items.json", keys)


def run(folder: Path, engine: str) -> dict[str, Cost]:
    os.environ["TRAINYARD_ENGINE"] = "ray" if engine == "ray" else "processes"
    os.environ["TRAINYARD_WORKERS"] = "2" if engine == "ray" else engine
    costs = {"source": measure([sys.executable, "-m", "stages.corpus.source", "crawl"], folder)}
    for stage in STAGES:
        costs[stage] = measure([sys.executable, "-m", f"stages.corpus.{stage}"], folder)
        print(f"{engine}: {stage}: {costs[stage].wall:.1f} s, {costs[stage].memory:.2f} GiB", file=sys.stderr)
    return costs


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in (folder / "data").rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def explain(folder: Path, planted: dict[str, int], pages: int) -> list[tuple[str, int, int, Counter[str]]]:
    """(stage, rows in, rows out, drops by reason). Exits where a count isn't what was planted, or rows are lost."""
    problems: dict[str, Any] = json.loads((folder / "data/corpus/source/crawl/problems.json").read_text())
    expected: Counter[str] = Counter()
    for name, count in planted.items():
        if name:
            expected.update({FAULTS[name].reason: count, FAULTS[name].remark: count})
    found = Counter({name: told["count"] for name, told in problems.items()})
    wrong = {name: (found[name], expected[name]) for name in expected if name and found[name] != expected[name]}
    if wrong:
        sys.exit(f"not the faults that were planted: {{name: (found, planted)}} = {wrong}")
    steps = []
    before = pages + planted.get("junk", 0)  # junk is a row of its own
    for stage in STAGES:
        rows = json.loads((folder / f"data/corpus/{stage}/record.json").read_text())["rows"]
        dropped = Counter(rows["dropped"])
        if rows["in"] != before or rows["in"] - sum(dropped.values()) != rows["out"]:
            sys.exit(f"{stage}: {rows['in']:,} rows in of {before:,}, {rows['out']:,} out: rows are lost")
        steps.append((stage, rows["in"], rows["out"], dropped))
        before = rows["out"]
    return steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pages", type=int, default=20_000)
    parser.add_argument("--engines", nargs="+", default=["1", "2", "ray"], choices=["1", "2", "ray"])
    parser.add_argument("--roots", nargs="+", type=Path, default=[Path(root) for root in ROOTS])
    parser.add_argument(
        "--memory", type=float, default=2.0, help="GiB of all processes of a stage together; not of Ray's"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        archives = Path(name) / "archives"
        planted = write(archives, arguments.pages, arguments.roots)
        size = sum(path.stat().st_size for path in archives.iterdir())
        results: dict[str, tuple[dict[str, Cost], dict[str, str]]] = {}
        for engine in arguments.engines:
            folder = Path(name) / f"engine_{engine}"
            make_project(folder, archives)
            results[engine] = run(folder, engine), digests(folder)
        first = results[arguments.engines[0]][1]
        for engine, (_, other) in results.items():
            if different := sorted(path for path in first.keys() | other.keys() if first.get(path) != other.get(path)):
                sys.exit(f"{engine}: other bytes than {arguments.engines[0]}: {', '.join(different[:5])}")
        project = Path(name) / f"engine_{arguments.engines[0]}"
        steps = explain(project, planted, arguments.pages)
        written = sum(path.stat().st_size for path in (project / "data/corpus/mix").glob("*.parquet"))
    faults = sum(planted.values()) - planted[""]
    print(f"{arguments.pages:,} pages, {size / 2**20:.0f} MiB of archives, {faults:,} faults\n")
    print("| step | in | out | drops |\n|---|---|---|---|")
    for stage, rows_in, rows_out, dropped in steps:
        told = ", ".join(f"{reason} {count:,}" for reason, count in dropped.most_common(6))
        print(f"| {stage} | {rows_in:,} | {rows_out:,} | {told} |")
    print(f"\nThe same bytes in {len(first)} files on: {', '.join(results)}\n")
    print("| engine | wall s | CPU s | peak GiB | pages a CPU second |\n|---|---|---|---|---|")
    for engine, (costs, _) in results.items():
        total = Cost(*map(sum, zip(*costs.values(), strict=True)))
        peak = max(cost.memory for cost in costs.values())
        print(f"| {engine} | {total.wall:.0f} | {total.cpu:.0f} | {peak:.2f} | {arguments.pages / total.cpu:.1f} |")
        if engine != "ray" and peak > arguments.memory:
            sys.exit(f"{engine}: {peak:.2f} GiB at the peak, {arguments.memory:.2f} are allowed")
    cpu = sum(cost.cpu for cost in results[arguments.engines[0]][0].values())
    print(
        f"\nA month of Common Crawl: {PAGES:.1e} pages at the cost of these, {DOLLARS} dollars a core-hour (assumed)\n"
    )
    here = of_measured(arguments.pages, cpu, size, written)
    months = {"all ten stages, by pages": here, "all ten stages, by bytes": by_bytes(here)}
    print(table({**months, "FineWeb, at most (limits of its jobs)": of_fineweb()}))


if __name__ == "__main__":
    main()
