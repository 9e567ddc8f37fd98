"""The engines give the same results in the same order, and the tables the same bytes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path

import pyarrow as pa
import pytest

from stages.base import engine
from stages.base.engine import map_batches
from stages.base.errors import InputError, ParamError, ResourceError
from stages.base.tables import ROWS, count_rows, read_batches, read_table, table_writer, write_table

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = pa.schema([("id", pa.string()), ("number", pa.int64())])


def rows(start: int, stop: int) -> pa.Table:
    return pa.table({"id": [f"row {n}" for n in range(start, stop)], "number": list(range(start, stop))}, schema=SCHEMA)


def scaled(batch: pa.Table, factor: int) -> list[int]:
    return [factor * number for number in batch["number"].to_pylist()]


def refuses(batch: pa.Table, limit: int) -> int:
    if batch["number"][0].as_py() >= limit:
        raise InputError(f"batch from {batch['number'][0].as_py()}")
    return batch.num_rows


def dies(batch: pa.Table, limit: int) -> int:
    if batch["number"][0].as_py() >= limit:
        os._exit(9)
    return batch.num_rows


def never_ends(batch: pa.Table, folder: Path) -> int:
    (folder / str(os.getpid())).touch()
    time.sleep(600)
    return batch.num_rows


@pytest.fixture(autouse=True)
def workers_for_any_number_of_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "FEW", 0)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_processes_keep_the_order_and_pass_errors_on(monkeypatch: pytest.MonkeyPatch, workers: str) -> None:
    monkeypatch.setenv("TRAINYARD_WORKERS", workers)
    batches = [rows(start, start + 3) for start in range(0, 30, 3)]
    assert [n for part in map_batches(scaled, batches, 7) for n in part] == [7 * n for n in range(30)]
    with pytest.raises(InputError, match="batch from 12"):
        list(map_batches(refuses, batches, 12))


def test_a_killed_worker_is_an_error_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINYARD_WORKERS", "2")
    with pytest.raises(ResourceError, match="TRAINYARD_WORKERS"):
        list(map_batches(dies, [rows(0, 3), rows(3, 6)], 3))


def test_the_killed_worker_of_a_stage_is_named_after_the_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    assert engine._name(dies) == __name__
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", ModuleSpec("stages.corpus.extract", None))
    monkeypatch.setattr(dies, "__module__", "__main__")
    assert engine._name(dies) == "stages.corpus.extract"


def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    pids, temporary = tmp_path / "pids", tmp_path / "temporary"
    pids.mkdir()
    temporary.mkdir()
    code = (
        "import sys; from pathlib import Path; from stages.base import engine; from tests.base import test_engine as t;"
        "engine.FEW = 0;"
        "list(engine.map_batches(t.never_ends, [t.rows(0, 1), t.rows(1, 2)], Path(sys.argv[1])))"
    )
    environment = os.environ | {"TRAINYARD_WORKERS": "2", "TMPDIR": str(temporary)}
    parent = subprocess.Popen([sys.executable, "-c", code, str(pids)], env=environment, cwd=ROOT)
    until(lambda: len(list(pids.iterdir())) == 2)
    assert list(temporary.glob("trainyard-*/*.pickle"))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    until(lambda: not any(Path("/proc", pid.name).exists() for pid in pids.iterdir()))
    assert not list(temporary.glob("trainyard-*"))


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_ray_gives_what_one_process_gives(ray_cluster: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINYARD_ENGINE", "ray")
    batches = [rows(start, start + 3) for start in range(0, 30, 3)]
    assert [n for part in map_batches(scaled, batches, 7) for n in part] == [7 * n for n in range(30)]
    with pytest.raises(InputError, match="batch from 12"):
        list(map_batches(refuses, batches, 12))


def test_few_batches_start_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "FEW", 3)
    monkeypatch.setenv("TRAINYARD_WORKERS", "2")
    monkeypatch.setattr(engine, "_in_processes", lambda *_: iter(["workers"]))
    assert list(map_batches(scaled, [rows(0, 1), rows(1, 2)], 1)) == [[0], [1]]
    assert list(map_batches(scaled, [rows(0, 1), rows(1, 2), rows(2, 3)], 1)) == ["workers"]


def test_an_unknown_engine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINYARD_ENGINE", "dask")
    with pytest.raises(ParamError, match="dask"):
        map_batches(scaled, [], 1)


def test_only_a_few_batches_are_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINYARD_WORKERS", "2")
    taken = 0

    def source() -> Iterator[pa.Table]:
        nonlocal taken
        for start in range(100):
            taken += 1
            yield rows(start, start + 1)

    results = map_batches(scaled, source(), 1)
    next(results)
    assert taken <= 5


@pytest.mark.parametrize("portion", [1, 7, ROWS, 1000])
def test_the_bytes_of_a_table_do_not_depend_on_the_portions(tmp_path, portion: int) -> None:
    write_table(tmp_path / "whole.parquet", rows(0, 1000), SCHEMA)
    with table_writer(tmp_path / "parts.parquet", SCHEMA) as table:
        for start in range(0, 1000, portion):
            table.write(rows(start, min(1000, start + portion)))
    assert (tmp_path / "parts.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert read_table(tmp_path / "parts.parquet", SCHEMA).equals(rows(0, 1000))
    assert [batch.num_rows for batch in read_batches(tmp_path / "parts.parquet", SCHEMA)] == [256, 256, 256, 232]
    assert count_rows(tmp_path / "parts.parquet", SCHEMA) == 1000


def test_a_table_whose_writing_failed_is_not_there(tmp_path) -> None:
    with pytest.raises(ZeroDivisionError), table_writer(tmp_path / "half.parquet", SCHEMA) as table:
        table.write(rows(0, 500))
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
