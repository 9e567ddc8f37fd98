"""The embedded life cycle against its bars, from a fresh clone: `python bench/life_cycle.py budget|identity|seeds`.

budget    wall, CPU, memory of the first `dvc repro`; the no-op; what a judge param, a model added or removed rerun
identity  two runs in two folders: every tracked output must have the same hash
seeds     three training seeds: is SFT above base and above every control, by a paired 95 % interval on test entities?
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]


def clone(folder: Path) -> Path:
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    return folder


def repro(project: Path, *targets: str) -> dict[str, Any]:
    """Run `dvc repro`; wall and CPU seconds of it and its children, and the stages that ran."""
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(project),
    }
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(["dvc", "repro", *targets], cwd=project, env=environment, stdout=subprocess.PIPE, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        sys.exit(f"dvc repro failed in {project}: {done.stdout[-2000:]}")
    return {
        "wall": time.monotonic() - start,
        "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "ran": [line.split("'")[1] for line in done.stdout.splitlines() if line.startswith("Running stage")],
    }


def edit(project: Path, path: str, value: Any) -> None:
    """Set (or with None remove) one value of the project's params.yaml."""
    file = project / "params.yaml"
    params = yaml.safe_load(file.read_text())
    *parents, leaf = path.split(".")
    here = params
    for part in parents:
        here = here[part]
    if value is None:
        del here[leaf]
    else:
        here[leaf] = value
    file.write_text(yaml.safe_dump(params, sort_keys=False))


def tracked_hashes(project: Path) -> dict[str, str]:
    lock = yaml.safe_load((project / "dvc.lock").read_text())
    return {out["path"]: out["md5"] for stage in lock["stages"].values() for out in stage.get("outs", [])}


def budget(folder: Path) -> None:
    project = clone(folder / "budget")
    first = repro(project)
    timings = [json.loads(path.read_text()) for path in (project / ".trainyard" / "timings").glob("*.json")]
    rss = max(timing.get("peak_rss_mib", 0) for timing in timings) / 1024
    print(f"first repro: {first['wall'] / 60:.1f} min wall (bar 15), {first['cpu'] / 60:.1f} CPU-min (bar 28)")
    print(f"peak RSS of a stage: {rss:.2f} GiB (bar 4)")
    again = repro(project)
    print(f"second repro: {again['wall']:.1f} s (bar 10), {len(again['ran'])} stages ran (bar 0)")
    edit(project, "judging.judge.annotator.pool.label_noise", 0.2)
    print(f"after a judge param: {' '.join(repro(project)['ran'])}")
    edit(project, "judging.models.constant_again", {"kind": "constant", "source": "data/corpus/atlas/truth.json"})
    print(f"after adding a model: {' '.join(repro(project)['ran'])}")
    edit(project, "judging.models.constant_again", None)
    print(f"after removing it: {' '.join(repro(project)['ran'])}")
    page = (project / "reports" / "index.html").read_text()
    print(f"trace of it in the page: {'constant_again' in page} (bar False)")


def identity(folder: Path) -> None:
    first, second = clone(folder / "one"), clone(folder / "another place")
    for project in (first, second):
        print(f"{project.name}: {repro(project)['wall'] / 60:.1f} min")
    a, b = tracked_hashes(first), tracked_hashes(second)
    different = sorted(path for path in a | b if a.get(path) != b.get(path))
    print(f"{len(a)} tracked outputs, {len(different)} differ (bar 0): {' '.join(different)}")


def seeds(folder: Path, wanted: list[int]) -> None:
    project = clone(folder / "seeds")
    for seed in wanted:
        edit(project, "run.seed", seed)
        wall = repro(project, "leaderboard")["wall"]
        board = json.loads((project / "data/judging/leaderboard/leaderboard.json").read_text())
        print(f"seed {seed} ({wall / 60:.1f} min): right on test, percent")
        for row in sorted(board["rows"], key=lambda row: -row["right"]):
            print(f"  {row['model']:<20} {row['right']:5.1f}  [{row['right_low']:.1f}, {row['right_high']:.1f}]")
        for line in board["comparisons"]:
            verdict = "above" if line["low"] > 0 else "NOT above"
            interval = f"[{line['low']:.1f}, {line['high']:.1f}]"
            print(f"  {line['model']} - {line['against']}: {line['difference']:.1f} {interval} {verdict}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", choices=["budget", "identity", "seeds"])
    parser.add_argument("--folder", type=Path, help="where to clone to (default: a temporary folder)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="trainyard-"))
    if arguments.bench == "seeds":
        seeds(folder, arguments.seeds)
    else:
        {"budget": budget, "identity": identity}[arguments.bench](folder)


if __name__ == "__main__":
    main()
