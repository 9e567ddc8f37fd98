"""The same bytes wherever and however often: hash seed, locale, time zone, umask, workers, a moved folder; and two at
once on one folder."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from stages.base.files import sha256_file

ROOT = Path(__file__).resolve().parents[2]
DVC = [sys.executable, "-m", "dvc"]
STAGE = """
import json, os, sys, time
from pathlib import Path
from stages.base import record
from stages.base.params import Section
from stages.base.record import stage
record.code_files = lambda module: {}
class Toy(Section):
    n: int
with stage("toy.step", Toy, seed="seed") as run:
    words = set("aä bİ cı dß e1 f2 g3 ğş".split())
    rows = sorted(words) + [word.upper().casefold() for word in sorted(words)]
    run.write_json("words.json", {"rows": rows, "seed": run.seed, "n": run.params.n})
    run.write_jsonl("rows.jsonl", ({"word": word} for word in rows))
    Path("started").write_text("")
    time.sleep(float(os.environ.get("SLEEP", "0")))
"""
ELSEWHERE: dict[str, dict[str, str]] = {
    "hash seed 1": {"PYTHONHASHSEED": "1"},
    "hash seed 2, C locale": {"PYTHONHASHSEED": "2", "LC_ALL": "C", "PYTHONUTF8": "0"},
    "another zone, 7 workers": {"TZ": "Pacific/Kiritimati", "TRAINYARD_WORKERS": "7", "LC_ALL": "tr_TR.UTF-8"},
}


def project(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "params.yaml").write_text("seed: 3\ntoy:\n  step: {n: 1}\n")
    (folder / "step.py").write_text(STAGE)
    return folder


def environment(**more: str) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "TRAINYARD_TRACK": "off"} | more


def digests(folder: Path) -> dict[str, str]:
    found = [path for path in (folder / "data").rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in sorted(found)}


def test_a_stage_writes_the_same_bytes_everywhere(tmp_path: Path) -> None:
    seen = []
    for number, (name, more) in enumerate(ELSEWHERE.items()):
        folder = project(tmp_path / f"{number} in a folder with spaces")
        command = [sys.executable, "step.py"]
        umask = 0o077 if number else 0o022
        subprocess.run(command, cwd=folder, env=environment(**more), check=True, umask=umask, timeout=120)
        moved = folder.rename(tmp_path / f"moved {number}")
        subprocess.run(command, cwd=moved, env=environment(**more), check=True, umask=umask, timeout=120)
        seen.append(digests(moved))
        assert seen[-1] == seen[0], name
    assert len(seen[0]) == 3


def test_of_two_dvc_at_once_one_is_refused_or_waits_and_none_is_lost(tmp_path: Path) -> None:
    folder = project(tmp_path / "project")
    (folder / "dvc.yaml").write_text(
        "stages:\n  step:\n    cmd: "
        + f"{sys.executable} step.py\n"
        + "    params: [toy.step]\n    outs: [data/toy/step]\n"
    )
    subprocess.run([*DVC, "init", "--no-scm", "-q"], cwd=folder, env=environment(), check=True, timeout=120)

    def repro(_: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*DVC, "repro"], cwd=folder, env=environment(SLEEP="3"), capture_output=True, text=True,
                              check=False, timeout=180)  # fmt: skip

    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(repro, range(2))
    refused = [one for one in (first, second) if one.returncode]
    assert len(refused) <= 1, first.stderr + second.stderr
    assert all("lock" in one.stderr.lower() or "is running" in one.stderr for one in refused), refused
    record = json.loads((folder / "data/toy/step/record.json").read_text())
    assert record["outputs"].items() <= digests(folder).items() and len(record["outputs"]) == 2
    again = subprocess.run([*DVC, "repro"], cwd=folder, env=environment(), capture_output=True, text=True, check=True)
    assert "didn't change" in again.stdout + again.stderr
    assert not [path for path in (folder / "data/toy").iterdir() if path.name.startswith(".")]


def test_two_trackers_at_once_lose_no_run(tmp_path: Path) -> None:
    """Each makes the experiment, 5 runs and their numbers, in a database that isn't there yet."""
    script = """
import sys
from stages.publishing.tracking.client import Tracker
tracker = Tracker()
home = tracker.experiment("trainyard", {})
for number in range(5):
    run = tracker.start(home, f"{sys.argv[1]} {number}", {"by": sys.argv[1]}, 1.7e9)
    tracker.log_points(run, [[("loss", 1.0, 1, 0)]])
    tracker.close(run, "FINISHED", 1.8e9)
if sys.argv[1] == "last":
    found = tracker.search(home, "attributes.status = 'FINISHED'")
    whole = sum(run.data.metrics == {"loss": 1.0} for run in found)
    print(len({run.info.run_name for run in found}), len(found), whole)
"""
    more = {"GIT_CEILING_DIRECTORIES": str(tmp_path.parent)}
    plain = {name: value for name, value in environment(**more).items() if name != "MLFLOW_TRACKING_URI"}

    def track(name: str) -> str:
        command = [sys.executable, "-c", script, name]
        return subprocess.run(command, cwd=tmp_path, env=plain, stdout=subprocess.PIPE, text=True, check=True,
                              timeout=180).stdout  # fmt: skip

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(track, ("one", "other")))
    assert track("last").split() == ["15", "15", "15"]
