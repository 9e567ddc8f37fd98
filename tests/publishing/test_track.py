"""Tracking: everything arrives, nothing twice, stale work stays out, and a dead server costs seconds, not a run."""

import json
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stages.base.closure import code_digest
from stages.base.files import sha256_file, write_json, write_jsonl
from stages.publishing.lineage.records import read_record
from stages.publishing.tracking import shipping

ROOT = Path(__file__).resolve().parents[2]
MODULE = "publishing.board"  # any real module: the digest of its closure goes into the record


def finished_stage(root: Path, lr: float = 0.1, loss: float = 2.5) -> Path:
    (root / "params.yaml").write_text(f"publishing:\n  board: {{lr: {lr}, deep: {{words: [a, b]}}}}\n")
    folder = root / "data" / "publishing" / "board"
    write_json(folder / "metrics.json", {"loss": loss, "odd@name(%)": 1, "undefined": None})
    write_jsonl(folder / "steps.jsonl", [{"step": i, "loss": 3 - i / 1000} for i in range(1200)])
    outputs = {f"data/publishing/board/{name}": sha256_file(folder / name) for name in ("metrics.json", "steps.jsonl")}
    write_json(
        folder / "record.json",
        {
            "stage": MODULE,
            "item": None,
            "params": {MODULE: {"lr": lr, "deep": {"words": ["a", "b"]}}},
            "seed": 3,
            "code": code_digest(f"stages.{MODULE}"),
            "inputs": {},
            "outputs": outputs,
            "rows": {"in": 9, "out": 8, "dropped": {"too short": 1}},
            "notes": {},
        },
    )
    return folder


def track(root: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stages.publishing.tracking.track", *arguments],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(ROOT), "GIT_CEILING_DIRECTORIES": str(root.parent), **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def rows(root: Path, query: str) -> list[tuple]:
    with sqlite3.connect(root / ".trainyard" / "mlflow.db") as database:
        return database.execute(query).fetchall()


def test_runs_arrive_once_under_their_pipeline(tmp_path: Path) -> None:
    finished_stage(tmp_path)
    first, second = track(tmp_path), track(tmp_path)
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert "shipped 1 stage" in first.stdout and "mlflow ui --backend-store-uri sqlite:///" in first.stdout
    assert "shipped 0 stage" in second.stdout
    names = dict(rows(tmp_path, "select name, run_uuid from runs"))
    assert len(names) == 2 and MODULE in names
    (parent,) = rows(
        tmp_path, f"select value from tags where key = 'mlflow.parentRunId' and run_uuid = '{names[MODULE]}'"
    )
    assert parent[0] in names.values()
    assert rows(tmp_path, "select count(*) from metrics where key = 'curve/loss'") == [(1200,)]
    assert dict(rows(tmp_path, "select key, value from metrics where key in ('loss', 'rows.dropped.too short')")) == {
        "loss": 2.5,
        "rows.dropped.too short": 1.0,
    }
    params = dict(rows(tmp_path, "select key, value from params"))
    assert params["publishing.board.deep.words"] == '["a", "b"]' and params["seed"] == "3"
    finished_stage(tmp_path, lr=0.2, loss=2.0)
    assert "shipped 1 stage" in track(tmp_path).stdout
    assert rows(tmp_path, "select count(*) from runs") == [(4,)], "a new pipeline has a parent and a child of its own"


def test_the_follower_ends_by_itself_and_a_second_one_at_once(tmp_path: Path) -> None:
    finished_stage(tmp_path)
    script = "from stages.publishing.tracking import track; track.QUIET_SECONDS = 3.0; track.follow()"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "GIT_CEILING_DIRECTORIES": str(tmp_path.parent)}
    first = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, env=environment)
    for _ in range(100):
        if (tmp_path / ".trainyard" / "track.lock").exists():
            break
        time.sleep(0.1)
    start = time.monotonic()
    assert track(tmp_path, "--follow").returncode == 0
    assert time.monotonic() - start < 5
    assert first.wait(timeout=240) == 0
    assert rows(tmp_path, f"select status from runs where name = '{MODULE}'") == [("FINISHED",)]


def test_a_dead_server_fails_soon_and_in_one_line(tmp_path: Path) -> None:
    finished_stage(tmp_path)
    start = time.monotonic()
    done = track(tmp_path, MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert done.returncode == 1 and "127.0.0.1:9" in done.stderr.splitlines()[-1]
    assert time.monotonic() - start < 20, "MLflow's own client would wait for minutes"


def test_stale_records_are_not_current(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = finished_stage(tmp_path)
    code = ROOT / "stages"
    assert [record.label for record in shipping.current_records(code)] == [MODULE]
    record = json.loads((folder / "record.json").read_text())
    write_json(folder / "record.json", {**record, "code": "0" * 64})
    assert shipping.current_records(code) == [], "the code has changed"
    write_json(folder / "record.json", record)
    (tmp_path / "params.yaml").write_text("publishing:\n  board: {lr: 0.3, deep: {words: [a, b]}}\n")
    assert shipping.current_records(code) == [], "the params have changed"


def test_what_reads_a_stale_record_is_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = finished_stage(tmp_path)
    upstream = json.loads((folder / "record.json").read_text())
    below = tmp_path / "data" / "publishing" / "report"
    code = code_digest("stages.publishing.report")
    reader = {**upstream, "stage": "publishing.report", "params": {}, "outputs": {}, "code": code}
    path = "data/publishing/board/metrics.json"
    write_json(below / "record.json", {**reader, "inputs": {path: upstream["outputs"][path]}})
    assert len(shipping.current_records(ROOT / "stages")) == 2
    write_json(below / "record.json", {**reader, "inputs": {path: "f" * 64}})
    assert [record.label for record in shipping.current_records(ROOT / "stages")] == [MODULE]


@pytest.mark.parametrize(
    ("file", "counts"),
    [
        ("lm/chat.py", True),
        ("corpus/commands/rules.py", True),
        ("scaling/tracking.py", True),
        ("commands/chat.py", False),
        ("publishing/tracking/track.py", False),
    ],
)
def test_only_commands_and_the_tracker_itself_change_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, counts: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("run: {seed: 0}\n")
    path = tmp_path / "stages" / file
    path.parent.mkdir(parents=True)
    path.write_text("ONE = 1\n")
    before = shipping.pipeline_fingerprint(tmp_path / "stages")
    path.write_text("ONE = 2\n")
    assert (shipping.pipeline_fingerprint(tmp_path / "stages") != before) == counts


def test_the_fingerprint_depends_on_content_only(tmp_path: Path) -> None:
    folder = finished_stage(tmp_path)
    first = read_record(folder / "record.json").fingerprint
    os.utime(folder / "record.json", (1, 1))
    assert read_record(folder / "record.json").fingerprint == first
    finished_stage(tmp_path, loss=2.4)
    assert read_record(folder / "record.json").fingerprint != first
