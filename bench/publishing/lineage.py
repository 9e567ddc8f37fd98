"""What trace, verify and bundle cost on a finished run, and whether they find one flipped bit in every kind of file.

python bench/publishing/lineage.py RUN [--row ROW] [--small]

RUN: a finished project; it is copied by links, never written to. --small: what they cost, nothing flipped.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SKIPPED = shutil.ignore_patterns(".venv", ".venv-peers", ".trainyard", ".git", "__pycache__", "cache")
KINDS = (  # beside one file of every other suffix that a stage wrote
    "data/corpus/mix/train.parquet",
    "data/tokens/pack/train.bin",
    "data/models/{row}/model.safetensors",
    "data/models/{row}/tokenizer.json",
    "data/alignment/sft/steps.jsonl",
    "data/judging/judge/{row}/annotations.parquet",
    "data/judging/judge/{row}/record.json",
    "data/judging/leaderboard/leaderboard.json",
    "data/check/code/alignment.sft.json",
    "reports/leaderboard.html",
    "reports/leaderboard.csv",
    "reports/leaderboard.md",
    "params.yaml",
    "dvc.lock",
)


def run(*arguments: str, folder: Path) -> tuple[subprocess.CompletedProcess[str], float, float]:
    """The finished process, seconds and CPU seconds of a command."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    command = [sys.executable, "-P", "-m", "stages.cli", *arguments]  # -P: this code, not the run's
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in (0, 1):
        print(done.stderr.strip())
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return done, time.monotonic() - start, cpu


def wrong(*arguments: str, folder: Path) -> set[str]:
    """The contradictions that a command tells."""
    done, _, _ = run(*arguments, "--json", folder=folder)
    if done.returncode and not done.stdout:  # a chain without one of its records
        return {done.stderr}
    return {str(one) for one in json.loads(done.stdout)["wrong"]}


def kinds(project: Path, row: str) -> list[Path]:
    named = [Path(pattern.format(row=row)) for pattern in KINDS]
    suffixes = {path.suffix for path in named}
    written = [path.relative_to(project) for room in ("data", "reports") for path in (project / room).rglob("*")]
    others: dict[str, Path] = {}
    for path in sorted(written):
        if path.suffix and path.suffix not in suffixes and (project / path).is_file():
            others.setdefault(path.suffix, path)
    return [*named, *others.values()]


def flip(path: Path) -> None:
    """One bit in the middle, in a file of its own: the copy's files are links."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()
    path.write_bytes(content)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--row", default="dpo")
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.run.resolve().parent) as scratch:
        project, bundle = Path(scratch, "project"), Path(scratch, "row.bundle")
        shutil.copytree(options.run, project, copy_function=os.link, ignore=SKIPPED, symlinks=True)
        for name, arguments, folder in (
            ("trace", ("trace", options.row), project),
            ("verify", ("verify",), project),
            ("bundle", ("bundle", options.row, "-o", str(bundle)), project),
            ("verify bundle", ("verify", str(bundle)), project),
        ):
            done, wall, cpu = run(*arguments, folder=folder)
            print(f"{name}: exit {done.returncode}, {wall:.1f} s, {cpu:.1f} CPU s", flush=True)
        if options.small:
            return
        commands = (("trace", options.row), ("verify",))
        before = [wrong(*arguments, folder=project) for arguments in commands]
        for path in kinds(project, options.row):
            place = project / path
            kept = place.read_bytes()
            flip(place)
            after = [wrong(*arguments, folder=project) for arguments in commands]
            place.write_bytes(kept)
            told = ["found" if now - then else "-" for now, then in zip(after, before, strict=True)]
            print(f"{path}: trace {told[0]}, verify {told[1]}", flush=True)


if __name__ == "__main__":
    main()
