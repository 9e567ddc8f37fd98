"""The engines on one job: documents through the web rules and back to parquet. `python bench/corpus/engines.py`.

Ours in one process, in two, and on a local Ray cluster of two CPUs; Daft's native runner (environment of the peers)
with the same function as a batch UDF. Wall-clock medians of 3, engines alternating, start-up of pools and clusters
counted; and whether all of them wrote the same ids and texts.
"""

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
SCHEMA = pa.schema([("id", pa.string()), ("url", pa.string()), ("text", pa.string())])
ENGINES = {
    "one process": {"TRAINYARD_WORKERS": "1"},
    "two processes": {"TRAINYARD_WORKERS": "2"},
    "Ray, two CPUs": {"TRAINYARD_ENGINE": "ray"},
    "Daft, native": {},
}


def rules() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "params.yaml").read_text())["corpus"]["heuristics"]["rules"]["default"]


def kept(ids: list[str], texts: list[str]) -> dict[str, list[str]]:
    """Ids and rewritten texts of the documents that the rules keep."""
    from stages.corpus.heuristics import apply_rules

    pairs = [(name, made.text) for name, made in zip(ids, apply_rules(texts, rules()), strict=True) if made.kept]
    return {"id": [name for name, _ in pairs], "text": [text for _, text in pairs]}


def filter_batch(batch: pa.Table, _: None) -> pa.Table:
    return pa.table(kept(batch["id"].to_pylist(), batch["text"].to_pylist()))


def run_ours(source: Path, target: Path) -> None:
    if os.environ.get("TRAINYARD_ENGINE") == "ray":
        import ray

        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    from stages.base.engine import map_batches
    from stages.base.tables import read_batches

    with pq.ParquetWriter(target, pa.schema([("id", pa.string()), ("text", pa.string())])) as writer:
        for part in map_batches(filter_batch, read_batches(source, SCHEMA), None):
            writer.write_table(part)


def run_daft(source: Path, target: Path) -> None:
    """The same function as Daft runs it: a batch UDF that gives the rewritten text, or null for a dropped document."""
    import daft

    @daft.func.batch(return_dtype=daft.DataType.string())
    def rewritten(ids: daft.Series, texts: daft.Series) -> list[str | None]:
        names = ids.to_pylist()
        made = kept(names, texts.to_pylist())
        found = dict(zip(made["id"], made["text"], strict=True))
        return [found.get(name) for name in names]

    frame = daft.read_parquet(str(source))
    frame = frame.select(frame["id"], rewritten(frame["id"], frame["text"]).alias("text"))
    pq.write_table(frame.where(frame["text"].not_null()).to_arrow(), target)


def timed(name: str, source: Path, folder: Path) -> tuple[float, str]:
    """(wall seconds, digest of what was written) of one run in a process of its own."""
    peer = name.startswith("Daft")
    python = ROOT / ".venv-peers/bin/python" if peer else sys.executable
    target = folder / "out.parquet"
    environment = os.environ | ENGINES[name] | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    start = time.monotonic()
    command = [str(python), __file__, "--work", "daft" if peer else "ours", str(source), str(target)]
    # The peers' environment lacks what our rules import: ours comes behind its own on the path.
    environment["TRAINYARD_BENCH_PATH"] = sysconfig.get_path("purelib")
    subprocess.run(command, check=True, env=environment, stderr=subprocess.DEVNULL)
    wall = time.monotonic() - start
    rows = pq.read_table(target, columns=["id", "text"]).sort_by("id").to_pylist()
    return wall, hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, default=20_000)
    parser.add_argument("--work", nargs=3, metavar=("ENGINE", "SOURCE", "TARGET"))
    arguments = parser.parse_args()
    if arguments.work:
        sys.path.append(os.environ["TRAINYARD_BENCH_PATH"])
        engine, source, target = arguments.work
        (run_daft if engine == "daft" else run_ours)(Path(source), Path(target))
        return
    from bench.corpus.documents import documents

    source = documents(arguments.documents, ROOT / ".trainyard" / "bench")
    walls: dict[str, list[float]] = {name: [] for name in ENGINES}
    digests: dict[str, set[str]] = {name: set() for name in ENGINES}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(3):
            for name in ENGINES:
                wall, digest = timed(name, source, Path(folder))
                walls[name].append(wall)
                digests[name].add(digest)
                print(f"{name}: {wall:.1f} s", file=sys.stderr)
    reference = statistics.median(walls["one process"])
    same = len(set().union(*digests.values())) == 1
    print(f"{arguments.documents:,} documents; ids and texts {'the same on all' if same else 'DIFFER'}\n")
    print("| engine | wall s, median of 3 (range) | documents/s | against one process |\n|---|---|---|---|")
    for name, seconds in walls.items():
        middle = statistics.median(seconds)
        print(
            f"| {name} | {middle:.1f} ({min(seconds):.1f}–{max(seconds):.1f}) | {arguments.documents / middle:,.0f} "
            f"| {reference / middle:.2f}x |"
        )


if __name__ == "__main__":
    main()
