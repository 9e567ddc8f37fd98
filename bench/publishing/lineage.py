"""What trace, verify and bundle cost on a finished run, and whether they find one flipped bit in every kind of file.

python bench/publishing/lineage.py RUN [--row ROW]    RUN: a finished project; it is copied by links, never written to
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SKIPPED = shutil.ignore_patterns(".venv", ".venv-peers", ".trainyard", ".git", "__pycache__", "cache")
KINDS = (
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
    "params.yaml",
    "dvc.lock",
)


def run(*arguments: str, folder: Path) -> tuple[int, float, float]:
    """Exit status, seconds and CPU seconds of a command."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    command = [sys.executable, "-P", "-m", "stages.cli", *arguments]  # -P: this code, not the run's
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in (0, 1):
        print(done.stderr.strip())
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return done.returncode, time.monotonic() - start, cpu


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
            status, wall, cpu = run(*arguments, folder=folder)
            print(f"{name}: exit {status}, {wall:.1f} s, {cpu:.1f} CPU s", flush=True)
        for pattern in KINDS:
            path = project / pattern.format(row=options.row)
            kept = path.read_bytes()
            flip(path)
            found = [run(*arguments, folder=project)[0] for arguments in (("trace", options.row), ("verify",))]
            path.write_bytes(kept)
            print(f"{path.relative_to(project)}: trace {found[0]}, verify {found[1]}", flush=True)


if __name__ == "__main__":
    main()
