"""Runs either side of the engine's benches in a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
PEERS = os.environ.get("TRAINYARD_PEERS_PYTHON") or str(HERE.parents[1] / ".venv-peers" / "bin" / "python")
ALONE = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TRAINYARD_WORKERS": "1", "TRAINYARD_TRACK": "off"}


class Run(NamedTuple):
    ready: float  # seconds from the start of the process to its first score
    ready_cpu: float
    seconds: float
    cpu: float
    answers: list[dict[str, Any]]


def run(side: str, folder: str, requests: Sequence[dict[str, Any]], batch: int = 8) -> Run:
    """`side`: ours or harness, on one thread; the harness in batches of `batch`."""
    command = [sys.executable, str(HERE / "ours_side.py"), folder]
    if side == "harness":
        command = [PEERS, str(HERE / "harness_side.py"), folder, str(batch)]
    lines = "".join(json.dumps(request) + "\n" for request in requests)
    done = subprocess.run(
        command, input=lines, capture_output=True, text=True, env=os.environ | ALONE, cwd=HERE.parents[1]
    )
    if done.returncode:
        sys.exit(f"{side} failed:\n{done.stderr[-2000:]}")
    first, *answers, last = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return Run(first["ready"], first["cpu"], last["seconds"], last["cpu"], answers)
