"""Tracking a stage while it runs: a run from its start on, and whatever is killed, no point lost or doubled."""

import json
import os
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stages.base.closure import code_digest
from stages.base.files import sha256_file, write_json, write_jsonl
from stages.base.followers import ACTIVE, STEPS
from stages.publishing.tracking import shipping, store, track
from stages.publishing.tracking.curves import Tail, logs_of
from stages.publishing.tracking.shipper import Shipper

STAGE = "alignment.dpo"
BEGAN = 1_700_000_000.0
ROWS = [{"step": step, "loss": 1 / (1 + step), "lr": 0.1, "grad_norm": 2.0} for step in range(2500)]
SAID: dict[str, Any] = {"alignment.dpo": {"lr": 0.1}}


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow takes seconds to make a database: once."""
    from mlflow.tracking import MlflowClient

    path = tmp_path_factory.mktemp("schema") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def project(tmp_path: Path, schema: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    database = tmp_path / ".trainyard" / "mlflow.db"
    database.parent.mkdir()
    shutil.copy(schema, database)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    monkeypatch.setattr(store, "_is_stage", lambda pid: True)
    monkeypatch.setattr(shipping, "pipeline_fingerprint", lambda code: "f" * 64)
    (tmp_path / "params.yaml").write_text("alignment: {dpo: {lr: 0.1}}\nrun: {seed: 1}\n")
    return tmp_path


def begin(stage: str = STAGE, began: float = BEGAN) -> Path:
    """A stage that is running; the log of its training."""
    ACTIVE.mkdir(parents=True, exist_ok=True)
    (ACTIVE / "77").write_text(json.dumps({"stage": stage, "item": None, "started": began}))
    log = STEPS / stage / f"{stage}.jsonl"
    shutil.rmtree(log.parent, ignore_errors=True)
    log.parent.mkdir(parents=True)
    return log


def grow(log: Path, rows: list[dict], began: float = BEGAN) -> None:
    with log.open("a") as file:
        file.writelines(json.dumps({**row, "time": round(1000 * (began + 1 + row["step"]))}) + "\n" for row in rows)


def finish(rows: list[dict]) -> None:
    """The stage's record and its curve, with a number that the log hadn't."""
    folder = Path("data/alignment/dpo")
    write_jsonl(folder / "steps.jsonl", [{**row, "beta": 0.1} for row in rows])
    write_json(folder / "metrics.json", {"validation_exact_right": 0.8})
    outputs = {f"{folder}/{name}": sha256_file(folder / name) for name in ("steps.jsonl", "metrics.json")}
    record = {"stage": STAGE, "item": None, "params": SAID, "seed": 3, "code": code_digest(f"stages.{STAGE}")}
    write_json(folder / "record.json", {**record, "inputs": {}, "outputs": outputs, "rows": None, "notes": {}})
    (ACTIVE / "77").unlink()


def query(words: str) -> list[tuple]:
    with sqlite3.connect(".trainyard/mlflow.db") as database:
        return database.execute(words).fetchall()


def the_whole_curve_once(rows: list[dict]) -> None:
    points = query(f"select key, step, value, timestamp from metrics where run_uuid in ({RUN}) and key like 'curve/%'")
    wanted = [(f"curve/{name}", row["step"], value) for row in rows for name, value in row.items() if name != "step"]
    wanted += [("curve/beta", row["step"], 0.1) for row in rows]
    assert Counter(point[:3] for point in points) == Counter(wanted)
    times = {step: stamp for key, step, _, stamp in points if key == "curve/loss"}
    assert times == {row["step"]: round(1000 * (BEGAN + 1 + row["step"])) for row in rows}, "when each step was made"


RUN = f"select run_uuid from runs where name = '{STAGE}'"


def test_a_run_is_there_while_its_stage_is(project: Path) -> None:
    log, shipper = begin(), Shipper()
    track.ship_all(shipper)
    assert query(f"select status, start_time from runs where name = '{STAGE}'") == [("RUNNING", 1000 * BEGAN)]
    assert query("select status from runs where name != 'alignment.dpo'") == [("RUNNING",)], "the pipeline"
    grow(log, ROWS[:10])
    track.grow(shipper)
    with log.open("a") as file:
        file.write('{"step": 10, "lo')  # half a line
    track.grow(shipper)
    assert query("select count(*) from metrics where key = 'curve/loss'") == [(10,)]


def test_whoever_is_killed_no_point_is_lost_or_doubled(project: Path) -> None:
    """Each Shipper is one life of the follower; what it knew dies with it."""
    log = begin()
    for start in range(0, 2000, 500):
        grow(log, ROWS[start : start + 500])
        track.ship_all(Shipper())
    grow(log, ROWS[2000:])
    finish(ROWS)
    track.ship_all(Shipper())
    the_whole_curve_once(ROWS)
    assert track.ship_all(Shipper()) == 0
    the_whole_curve_once(ROWS)
    status, began, ended = query(f"select status, start_time, end_time from runs where name = '{STAGE}'")[0]
    assert (status, began) == ("FINISHED", 1000 * BEGAN) and ended > began
    assert query("select value from latest_metrics where key = 'validation_exact_right'") == [(0.8,)]
    assert query("select status from runs where name != 'alignment.dpo'") == [("FINISHED",)]


@pytest.mark.parametrize("arrives", [False, True], ids=["the call is lost", "the reply is lost"])
def test_a_server_that_drops_calls(project: Path, arrives: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every eleventh call fails, before or after the server has done what it was asked."""
    from mlflow.tracking import MlflowClient

    calls = 0

    def flaky(real: Callable) -> Callable:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls % 11 == 0:
                if arrives:
                    real(*arguments, **named)
                raise ConnectionError("gone")
            return real(*arguments, **named)

        return call

    log = begin()
    grow(log, ROWS[:1500])
    for name in ("log_batch", "create_run", "set_terminated", "set_tag", "log_inputs", "update_run"):
        monkeypatch.setattr(MlflowClient, name, flaky(getattr(MlflowClient, name)))
    finished = False
    for _ in range(60):
        try:
            track.ship_all(Shipper())
        except ConnectionError:
            continue
        if finished:
            break
        grow(log, ROWS[1500:])
        finish(ROWS)
        finished = True
    else:
        pytest.fail("it never got through")
    the_whole_curve_once(ROWS)
    assert query(f"select status from runs where name = '{STAGE}'") == [("FINISHED",)]


def test_a_stage_that_fails_and_one_that_is_made_again(project: Path) -> None:
    grow(begin(), ROWS[:5])
    shipper = Shipper()
    track.ship_all(shipper)
    (ACTIVE / "77").unlink()
    track.ship_all(shipper)
    assert query(f"select status from runs where name = '{STAGE}'") == [("FAILED",)]
    assert query("select status from runs where name != 'alignment.dpo'") == [("FAILED",)], "the pipeline too"
    log = begin(began=BEGAN + 100)
    track.ship_all(shipper)
    assert query("select status from runs where name != 'alignment.dpo'") == [("RUNNING",)]
    grow(log, ROWS[:50])
    finish(ROWS[:50])
    track.ship_all(shipper)
    found = query(f"select status, start_time from runs where name = '{STAGE}' order by start_time")
    assert found == [("FAILED", 1000 * BEGAN), ("FINISHED", 1000 * (BEGAN + 100))]
    assert query("select status from runs where name != 'alignment.dpo'") == [("FINISHED",)]
    begin(began=BEGAN + 200)
    track.ship_all(shipper)
    os.utime("data/alignment/dpo/record.json")  # the same result again
    (ACTIVE / "77").unlink()
    track.ship_all(shipper)
    assert query(f"select count(*) from runs where name = '{STAGE}' and status = 'FINISHED'") == [(2,)]
    assert len(query("select value from tags where key = 'repeats'")) == 1


def test_points_of_a_ladder_are_runs_of_their_own(project: Path) -> None:
    log = begin("scaling.ladder").with_name("scaling.ladder@w24.jsonl")
    grow(log, ROWS[:3])
    track.ship_all(Shipper())
    assert {name for (name,) in query("select name from runs where status = 'RUNNING'")} >= {
        "scaling.ladder",
        "scaling.ladder@w24",
    }
    assert query("select value from tags where key = 'item'") == [("w24",)]


def test_training_again_by_one_name_counts_steps_on(project: Path) -> None:
    """As DPO's steps.jsonl does over its betas; and a phase that begins at a later step stays where it is."""
    log = begin()
    grow(log, [{"step": step, "loss": 1.0} for step in (0, 1, 2, 0, 1, 2)])
    tail = Tail(log)
    assert [row["step"] for row in tail.read()] == [0, 1, 2, 3, 4, 5] and tail.read() == []
    phases = begin("pretraining.pretrain")
    grow(phases.with_name("pretraining.pretrain@cooldown.jsonl"), [{"step": 4, "loss": 1.0}], BEGAN + 9)
    grow(phases.with_name("pretraining.pretrain@trunk.jsonl"), [{"step": 3, "loss": 1.0}])
    found = [row["step"] for one in logs_of("pretraining.pretrain") for row in Tail(one).read()]
    assert found == [3, 4]


def test_without_its_log_a_curve_is_spread_over_the_stages_time(project: Path) -> None:
    begin()
    shutil.rmtree(STEPS)
    finish(ROWS[:4])
    write_json(Path(".trainyard/timings/alignment.dpo.json"), {"wall_seconds": 8.0, "finished": BEGAN + 8})
    os.utime("data/alignment/dpo/record.json", (BEGAN + 8, BEGAN + 8))
    track.ship_all(Shipper())
    times = query("select timestamp from metrics where key = 'curve/loss' order by step")
    assert times == [(1000 * (BEGAN + second),) for second in (2, 4, 6, 8)]
    assert query(f"select end_time - start_time from runs where name = '{STAGE}'") == [(8000,)]


def test_a_pipeline_edited_in_the_middle_is_over(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, shipper = begin(), Shipper()
    track.ship_all(shipper)
    monkeypatch.setattr(shipping, "pipeline_fingerprint", lambda code: "e" * 64)
    grow(log, ROWS[:5])
    finish(ROWS[:5])
    track.ship_all(shipper)
    assert query("select status from runs") == [("FINISHED",)] * 3
    assert query(f"select count(*) from runs where name = '{STAGE}'") == [(1,)]
