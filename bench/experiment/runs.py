"""What running claims costs beside their stages, and what kills do: `python bench/experiment/runs.py suite|late|kills`.

Each works on a clone of the last commit in a folder of its own, at the tiny scale. `suite`: 24 arms × 3 seeds that
change only DPO, from nothing; counts what was executed, and the CPU time of the whole command over that of its
instances. `late`: one arm more, all else known: what it takes beside its stages. `kills`: kill -9 of the runner 20
times, each when it has made some progress, at a moment drawn at random; the claim's verdict and outcomes have the bytes
of a run that was left alone.
"""

import argparse
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CLAIM = """\
claim: A rate of learning of DPO gives better answers.
metric: dpo/score
scale: [tiny]
arms:
  baseline: {{}}
{arms}
seeds: {seeds}
rule: a1 > baseline
"""
SUITE, SMALL = "suite", "small"


def clone(folder: Path, source: Path = ROOT) -> Path:
    """The last commit, with the claims."""
    subprocess.run(["git", "clone", "-q", str(source), str(folder)], check=True)
    claims = folder / "claims"
    claims.mkdir()
    for name, arms, seeds in ((SUITE, 23, 3), (SMALL, 1, 2)):
        lines = [f"  a{n}: {{alignment.dpo.lr: {n}.5e-5}}" for n in range(1, arms + 1)]
        (claims / f"{name}.yaml").write_text(CLAIM.format(arms="\n".join(lines), seeds=seeds))
    return folder


def start(project: Path, name: str) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "PYTHONPATH": str(project), "TRAINYARD_TRACK": "off"}
    command = [sys.executable, "-m", "stages.cli", "experiment", "run", f"claims/{name}.yaml"]
    return subprocess.Popen(command, cwd=project, env=environment, start_new_session=True)


def folder_of(project: Path, name: str) -> Path:
    return project / ".trainyard" / "experiments" / "claims" / name


def run(project: Path, name: str) -> tuple[float, float]:
    """CPU and wall seconds of the command with all its processes."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    status = start(project, name).wait()
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - begin
    if status not in (0, 2):  # 2: one seed is refused
        sys.exit(f"the claim `{name}` ended with exit status {status}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def finished(project: Path) -> int:
    """Instances with a result."""
    return sum(1 for _ in (project / ".trainyard" / "experiments" / "instances").glob("*/*.json"))


def suite(project: Path) -> None:
    cpu, wall = run(project, SUITE)
    cost = json.loads((folder_of(project, SUITE) / "cost.json").read_text())
    counts = Counter(row["label"] for row in cost["executed"])
    alone = cost["cpu_seconds"]
    print("executed:", ", ".join(f"{label} {count}" for label, count in counts.most_common()))
    print(f"72 runs, {sum(counts.values())} instances: {cpu:.0f} CPU s, {alone:.0f} of them the stages' own")
    print(f"ratio {cpu / alone:.3f} (bar: 1.2); {wall:.0f} s on {os.cpu_count()} cores")
    cpu, wall = run(project, SUITE)
    print(f"again, all known: {wall:.1f} s")


def late(project: Path) -> None:
    run(project, SMALL)
    name = f"late{time.time():.0f}"
    arm = f"  a1: {{alignment.dpo.lr: 3.{name[-4:]}e-4}}"
    (project / "claims" / f"{name}.yaml").write_text(CLAIM.format(arms=arm, seeds=2))
    cpu, wall = run(project, name)
    rows = json.loads((folder_of(project, name) / "cost.json").read_text())["executed"]
    late = [row for row in rows if row["label"] != "check"]
    own = sum(row["cpu_seconds"] for row in late)
    print(f"one arm more: {', '.join(row['label'] for row in late)}: {wall:.1f} s on {os.cpu_count()} cores")
    print(f"CPU: {own:.1f} s of these stages, {cpu - own:.1f} s of all else")


def kills(project: Path, count: int, whole: Path) -> None:
    """`whole`: a clone in which the claim has run without a kill."""
    draw = random.Random(1)
    killed = 0
    while killed < count:
        runner, until = start(project, SMALL), finished(project) + draw.randint(1, 3)
        while runner.poll() is None and finished(project) < until:
            time.sleep(0.05)
        try:
            runner.wait(draw.uniform(0, 2))
            break
        except subprocess.TimeoutExpired:
            runner.kill()
            runner.wait()
            killed += 1
            print(f"kill {killed} after {finished(project)} instances", flush=True)
    run(project, SMALL)
    run(whole, SMALL)
    same = {
        name: (folder_of(project, SMALL) / name).read_bytes() == (folder_of(whole, SMALL) / name).read_bytes()
        for name in ("outcomes.parquet", "verdict.json", "declaration.yaml")
    }
    print(f"{killed} kills; same bytes: {same}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=["suite", "late", "kills"])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--folder", type=Path, help="where the clones stay; default: a temporary one")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="trainyard-bench-"))
    try:
        project = folder / "project" if (folder / "project").exists() else clone(folder / "project")
        if options.what == "suite":
            suite(project)
        elif options.what == "late":
            late(project)
        else:
            other = folder / "other"
            kills(other if other.exists() else clone(other, project), options.kills, project)
    finally:
        if options.folder is None:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
