"""More than a laptop's run asks for: `python bench/load.py MODEL POINT [--small] [--only ROW …]`; one JSON line a row.

MODEL is a model's folder, POINT the point.json of a ladder. Memory is this process's and its children's peak.

judge    10,000 judge calls to a loopback server that fails as servers do, then all of them again from the cache
chats    50 chats at once with `trainyard serve MODEL`
ladder   the fit of a ladder of 200 points, around a known law
mlflow   a database of 5,000 runs: what the tracker does on it, a call at a time

`--small` asks for a hundredth of it. 20,000 and 200,000 pages: `make crawl` (bench/corpus).
"""

import argparse
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from stages.base.plain_yaml import read_yaml  # noqa: E402  (the path is the project's root)


def judge(share: float) -> dict[str, object]:
    from bench.judging import client

    settings = argparse.Namespace(calls=round(10_000 * share), concurrency=64, latency=0.25)
    return {"calls": settings.calls, **client.measure(client.ours, settings)}


def chats(share: float, model: Path) -> dict[str, object]:
    clients = max(1, round(50 * share))
    command = [sys.executable, str(ROOT / "bench/publishing/serve.py"), str(model), "--clients", str(clients)]
    told = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    return json.loads(told.splitlines()[-1])


def ladder(share: float, point: Path) -> dict[str, object]:
    """Losses of L = E + A/N^α + B/D^β with a noise of 0.3 % (Hoffmann et al. 2022, equation 2)."""
    import numpy as np

    from stages.base.contracts.point import Point
    from stages.base.params import parse
    from stages.scaling.fit import FitParams, analyse

    known = {"E": 1.7, "A": 400.0, "B": 410.0, "alpha": 0.34, "beta": 0.28}
    one, draw, points = Point.model_validate_json(point.read_text(encoding="utf-8")), np.random.default_rng(0), []
    for number in range(max(8, round(200 * share))):
        size, tokens = (int(10**exponent) for exponent in draw.uniform((5.5, 6.5), (8.5, 10.0)))
        loss = known["E"] + known["A"] / size ** known["alpha"] + known["B"] / tokens ** known["beta"]
        new = {"key": f"p{number}", "n_params": size, "n_nonembedding": size, "tokens": tokens}
        points.append(one.model_copy(update=new | {"flops": 6.0 * size * tokens, "loss": loss * draw.normal(1, 0.003)}))
    values = read_yaml(ROOT / "params.yaml")["scaling"]["fit"]
    law = analyse(points, parse("scaling.fit", values, FitParams), seed=1)[0].law
    found = {name: round(float(getattr(law, name)), 3) for name in ("E", "alpha", "beta")}
    return {"points": len(points), "known": known, "found": found}


def mlflow(share: float) -> dict[str, object]:
    """Median and longest milliseconds of the tracker's calls, the store being filled already."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        os.environ["GIT_CEILING_DIRECTORIES"] = str(Path(folder).parent)  # a database of its own
        from stages.publishing.tracking.client import Tracker

        tracker = Tracker()
        home, count = tracker.experiment("trainyard", {}), round(5000 * share)
        start = time.monotonic()
        for number in range(count):
            kind = "pipeline" if number % 50 == 0 else "stage"
            tracker.start(home, f"run {number}", {"fingerprint": f"{number:064x}", "kind": kind}, 1.7e9 + number)
        filled = time.monotonic() - start

        def begin(number: int) -> object:
            run = tracker.start(home, "new", {"fingerprint": f"new {number}", "kind": "stage"}, 1.8e9)
            tracker.log_params(run, {f"p{one}": "1" for one in range(20)})
            tracker.log_points(run, ([("curve/loss", 1.0, 1, step)] for step in range(100)))
            tracker.close(run, "FINISHED", 1.8e9)
            return run

        calls: dict[str, Callable[[int], object]] = {
            "find a run": lambda number: tracker.find(home, fingerprint=f"{(number * 7) % count:064x}"),
            "newest 100 pipelines": lambda _: tracker.search(home, "tags.kind = 'pipeline'", limit=100),
            "ship a stage": begin,
        }
        row: dict[str, object] = {"runs": count, "seconds to fill": round(filled, 1)}
        for name, call in calls.items():
            times = []
            for number in range(20):
                start = time.monotonic()
                assert call(number)
                times.append(1000 * (time.monotonic() - start))
            row[f"{name}, ms"] = [round(statistics.median(times)), round(max(times))]
        lost = count - len(tracker.search(home, "attributes.run_name != 'new'", limit=50_000))
        return {**row, "lost": lost, "database MiB": round(Path(".trainyard/mlflow.db").stat().st_size / 2**20, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("point", type=Path)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--only", nargs="+", default=[], metavar="ROW")
    asked = parser.parse_args()
    model, point, share = asked.model.resolve(), asked.point.resolve(), 0.01 if asked.small else 1.0
    rows: dict[str, Callable[[], dict[str, object]]] = {
        "judge": lambda: judge(share),
        "chats": lambda: chats(share, model),
        "ladder": lambda: ladder(share, point),
        "mlflow": lambda: mlflow(share),
    }
    for name in asked.only or rows:
        start = time.monotonic()
        row = rows[name]()
        peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        print(json.dumps({"row": name, **row, "seconds": round(time.monotonic() - start, 1), "peak_mib": peak >> 10}),
              flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
