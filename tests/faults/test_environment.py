"""A machine that refuses: a stage ends in one line, what stood there stands, and without the fault it runs through."""

import json
import os
import resource
import sys
import tempfile
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from bench.faults_machine import clock_goes_back, read_only
from stages.base import record
from stages.base.params import Section
from stages.base.record import stage
from stages.base.workers import Child
from tests.faults import inject

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits as Linux keeps them")
SCHEMA = pa.schema([("n", pa.int64()), ("text", pa.string())])


class Toy(Section):
    n: int


def fill(pipe: "Connection", amount: int) -> None:
    """A worker that needs memory, and a file for a moment."""
    with tempfile.TemporaryFile() as file:
        file.write(b"x" * 10)
    pipe.send(int(np.ones(amount, dtype=np.uint8).sum()))


def work(rows: int = 20_000, amount: int = 1 << 20) -> None:
    """A stage that writes a table, a JSON and a model, with what a worker has told it."""
    with stage("toy.step", Toy) as run:
        worker = Child("worker", fill, amount, fork=True)
        told = worker.receive()
        worker.close()
        texts = [f"{number * 7919 % 10_007}" for number in range(rows)]
        run.write_table("rows.parquet", pa.table({"n": list(range(rows)), "text": texts}, SCHEMA), SCHEMA)
        (run.model_folder("mine") / "model.safetensors").write_bytes(bytes(range(256)) * 400)
        run.write_json("told.json", told)


def files() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(Path("data").rglob("*")) if path.is_file()}


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(record, "code_files", lambda module: {})
    (tmp_path / "params.yaml").write_text("toy:\n  step: {n: 1}\n")
    work()
    return tmp_path


def ended(task: Callable[[], object], output: Path) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(inject.forked(task, output), 0)[1])


def limit(kind: int, value: int) -> Callable[[], object]:
    return lambda: resource.setrlimit(kind, (value, value))


def no_more_memory() -> None:
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + (32 << 20), now + (32 << 20)))


FAULTS: dict[str, tuple[Callable[[], object], str]] = {
    "files of 4 KiB at most": (limit(resource.RLIMIT_FSIZE, 4 << 10), "the disk is full"),
    "files of 64 KiB at most": (limit(resource.RLIMIT_FSIZE, 64 << 10), "the disk is full"),
    "no descriptor": (limit(resource.RLIMIT_NOFILE, 4), "too many files"),
    "no memory in a worker": (no_more_memory, "memory is short"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_the_machine_refuses_is_one_line_and_nothing_is_lost(fault: str, tmp_path: Path) -> None:
    before, said = files(), tmp_path / "said.txt"
    refuse, words = FAULTS[fault]

    def task() -> None:
        refuse()
        work(amount=256 << 20 if "memory" in fault else 1 << 20)

    assert ended(task, said) == 2
    lines = [line for line in said.read_text().splitlines() if line.startswith("trainyard: ")]  # pytest's own beside
    assert len(lines) == 1 and lines[0].startswith("trainyard: toy.step: ") and words in lines[0], said.read_text()
    assert files() == before
    assert ended(work, said) == 0 and files() == before


@pytest.mark.parametrize("folder", ["data", ".trainyard"])
def test_a_folder_that_cannot_be_written_is_named(folder: str, tmp_path: Path) -> None:
    before, said = files(), tmp_path / "said.txt"

    def task() -> None:
        try:
            read_only(folder)()
        except OSError:
            sys.exit(77)  # this user may not mount
        work()

    if (status := ended(task, said)) == 77:
        pytest.skip("this user may not mount")
    lines = said.read_text().strip().splitlines()
    assert status == 2 and len(lines) == 1 and folder in lines[0] and "read-only" in lines[0], lines
    assert files() == before


def test_a_clock_that_goes_back_changes_no_byte(tmp_path: Path) -> None:
    before = files()

    def task() -> None:
        clock_goes_back()
        work()

    assert ended(task, tmp_path / "said.txt") == 0, (tmp_path / "said.txt").read_text()
    assert files() == before
    json.loads(Path(".trainyard/timings/toy.step.json").read_text())
