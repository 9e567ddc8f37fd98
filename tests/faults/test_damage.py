"""Damaged files: each is named before it is used, of whatever kind (`bench/faults_damage.py` tries more)."""

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from bench import faults_damage as damaged
from stages.base import record
from stages.base.params import Section
from stages.base.record import stage
from stages.commands import doctor
from stages.lm import checkpoint

WRITERS: dict[str, Callable[[Path], object]] = {
    "rows.parquet": lambda path: pq.write_table(pa.table({"text": ["a page", "another"] * 50}), path),
    "train.bin": lambda path: path.write_bytes(np.arange(300, dtype="<u2").tobytes()),
    "offsets.npy": lambda path: np.save(path, np.arange(30)),
    "model.safetensors": lambda path: save_file({"w": torch.arange(40.0)}, path),
    "tokenizer.json": lambda path: path.write_text(json.dumps({"model": {"vocab": {"a": 0, "b": 1}}})),
    "rows.jsonl": lambda path: path.write_text('{"n": 1}\n{"n": 2}\n'),
}


class Toy(Section):
    n: int


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(record, "code_files", lambda module: {})
    (tmp_path / "params.yaml").write_text("toy:\n  step: {n: 1}\n  next: {n: 1}\n")


@pytest.mark.parametrize("name", WRITERS)
def test_every_kind_of_file_is_named_before_a_stage_reads_it(name: str, capsys: pytest.CaptureFixture) -> None:
    with stage("toy.step", Toy) as run:
        WRITERS[name](run.output(name))
    path = Path("data/toy/step", name)
    whole = path.read_bytes()
    for count in range(20):
        path.write_bytes(damaged.damage(whole, name, count))
        with pytest.raises(SystemExit) as ended, stage("toy.next", Toy) as run:
            run.input(path)
            pytest.fail("it was taken for whole")
        told = capsys.readouterr().err.strip()
        assert ended.value.code == 2 and "\n" not in told and f"{path}: not what toy.step wrote" in told
    path.write_bytes(whole)
    with stage("toy.next", Toy) as run:
        assert run.input(path).read_bytes() == whole


@pytest.mark.parametrize("kind", ["record.json", "judge cache", "training checkpoint"])
def test_records_paid_replies_and_states_are_never_read_with_a_fault(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "CHECKPOINTS", tmp_path)  # and as it was afterwards

    def tried(count: int) -> str:
        return damaged.OTHERS[kind](lambda whole: damaged.damage(whole, kind, count), tmp_path)

    outcomes = set(map(tried, range(12)))
    assert "found" in outcomes and outcomes <= {"found", "harmless"}


def test_a_damaged_database_of_runs_is_told_by_doctor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    path = Path(".trainyard/mlflow.db")
    assert [found.ok for found in doctor._mlflow()] == [None]
    path.parent.mkdir()
    with sqlite3.connect(path) as database:
        database.execute("create table runs (id integer primary key, name text)")
        database.executemany("insert into runs values (?, ?)", [(one, f"run {one}" * 20) for one in range(200)])
    assert [found.ok for found in doctor._mlflow()] == [True]
    whole = path.read_bytes()
    for broken in (whole[: len(whole) // 2], b"\0" * 100 + whole[100:], whole[:4096] + b"\xff" * 64 + whole[4160:]):
        path.write_bytes(broken)
        (found,) = doctor._mlflow()
        assert found.ok is False and "mlflow.db" in found.words and "move it away" in found.words
        assert "\n" not in str(found)
