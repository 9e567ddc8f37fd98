"""Processes that are killed: what they started ends with them, and what they left is named."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stages.commands import doctor

ROOT = Path(__file__).resolve().parents[2]
RANK = """
import os, sys, time
from pathlib import Path
from stages.lm import distributed
with distributed.processes():
    Path(f"rank{os.environ['RANK']}").write_text(str(os.getpid()))
    time.sleep(120)
"""


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="of Linux's kernel")
def test_no_process_outlives_the_launcher_that_started_it(tmp_path: Path) -> None:
    (tmp_path / "rank.py").write_text(RANK)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "rank.py"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    told = [tmp_path / "rank0", tmp_path / "rank1"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL) as launcher:
        give_up = time.monotonic() + 120
        while not all(path.exists() and path.read_text() for path in told) and time.monotonic() < give_up:
            assert launcher.poll() is None
            time.sleep(0.05)
        ranks = [int(path.read_text()) for path in told]
        assert all(map(alive, ranks))
        launcher.send_signal(signal.SIGKILL)
    give_up = time.monotonic() + 20
    while any(map(alive, ranks)) and time.monotonic() < give_up:
        time.sleep(0.05)
    assert not any(map(alive, ranks))


@pytest.mark.parametrize(("text", "whole"), [("", False), ('{"a": {"re', False), (json.dumps({"data/x": {}}), True)])
def test_a_lock_of_dvc_that_a_kill_left_empty_is_named(
    text: str, whole: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert not list(doctor._dvc_lock())
    Path(".dvc/tmp").mkdir(parents=True)
    Path(".dvc/tmp/rwlock").write_text(text)
    found = list(doctor._dvc_lock())
    assert whole == (not found)
    assert whole or (found[0].ok is False and "`rm .dvc/tmp/rwlock`" in found[0].words)
