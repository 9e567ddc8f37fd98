"""A stage's run: checked params in, hashed files in and out, counted rows, one record; all or nothing.

`record.json` holds what `trainyard trace` follows from a leaderboard row back to source documents.
"""

import contextlib
import fcntl
import hashlib
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

import pyarrow as pa

from stages.base import files, tables
from stages.base.closure import code_digest
from stages.base.errors import DataLossError, InputError, ParamError, ResourceError, TrainyardError
from stages.base.params import Section, lookup, parse, read_params
from stages.base.seeds import derive
from stages.base.workers import is_follower, process_count

P = TypeVar("P", bound=Section)
Q = TypeVar("Q", bound=Section)
DATA = Path("data")
SIDE = Path(".trainyard")


class StageRun(Generic[P]):
    """What a stage's wiring talks to; see docs/architecture.md for the contract."""

    def __init__(self, name: str, item: str | None, model: type[P], seed: str | None, staging: Path) -> None:
        self.name, self.item, self._staging = name, item, staging
        self._values = read_params()
        self._sections: dict[str, Any] = {}
        self._inputs: dict[str, str] = {}
        self._published: dict[Path, str] = {}
        self._rows: dict[str, Any] | None = None
        self._notes: dict[str, Any] = {}
        self.params: P = self.section(name, model)
        self._root_seed = self.root_seed(seed) if seed else None

    def root_seed(self, path: str) -> int:
        """The value of `corpus.seed` or `run.seed`; recorded."""
        value = lookup(self._values, path)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise ParamError(f"params.yaml: `{path}` must be a non-negative integer, got {value!r}")
        self._sections[path] = value
        return value

    @property
    def seed(self) -> int:
        """sha256(root seed, stage, item), 63 bits."""
        if self._root_seed is None:
            raise RuntimeError(f"{self.name} was declared without a seed")
        return derive(self._root_seed, self.name, self.item or "")

    def section(self, name: str, model: type[Q]) -> Q:
        """Another checked section of params.yaml; it must stand in the stage's DVC `params:`."""
        value = lookup(self._values, name)
        self._sections[name] = value
        return parse(name, value, model)

    def input(self, path: str | Path) -> Path:
        """Register a file or folder as an input of this run."""
        if not Path(path).exists():
            raise InputError(f"{path}: not found; run the stage that writes it (`dvc repro`)")
        name = Path(path).as_posix()
        if name not in self._inputs:
            self._inputs[name] = files.sha256_path(path)
        return Path(path)

    def read_table(self, path: str | Path, schema: pa.Schema) -> pa.Table:
        return tables.read_table(self.input(path), schema)

    def batches(self, path: str | Path, schema: pa.Schema, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """The rows of a table in order, a batch at a time (`tables.read_batches`)."""
        return tables.read_batches(self.input(path), schema, columns)

    def count_rows(self, path: str | Path, schema: pa.Schema) -> int:
        return tables.count_rows(self.input(path), schema)

    def read_json(self, path: str | Path) -> Any:
        return files.read_json(self.input(path))

    def output(self, name: str) -> Path:
        """A path to write below the stage's folder; it appears there only when the stage has succeeded."""
        path = self._staging / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def write_table(self, name: str, table: pa.Table, schema: pa.Schema) -> None:
        tables.write_table(self.output(name), table, schema)

    def table(self, name: str, schema: pa.Schema) -> AbstractContextManager[tables.TableWriter]:
        """A writer that takes batches of rows: `with run.table(…) as table: table.write(batch)`."""
        return tables.table_writer(self.output(name), schema)

    def write_json(self, name: str, value: Any) -> None:
        files.write_json(self.output(name), value)

    def write_jsonl(self, name: str, rows: Iterable[dict[str, Any]]) -> None:
        files.write_jsonl(self.output(name), rows)

    def publish(self, path: str | Path, text: str) -> None:
        """A text to stand outside the stage's folder (`reports/`): written when the stage has succeeded."""
        self._published[Path(path)] = text

    def write_published(self) -> None:
        for path, text in self._published.items():
            with files.atomic_path(path) as temporary:
                temporary.write_text(text, encoding="utf-8")

    def rows(self, rows_in: int, rows_out: int, dropped: Mapping[str, int], max_drop: float) -> None:
        """Account for every row. Raises DataLossError if counts don't add up or too large a share was dropped."""
        lost = sum(dropped.values())
        if rows_in - lost != rows_out:
            raise DataLossError(f"{self.name}: {rows_in} rows in, {lost} dropped with a reason, but {rows_out} out")
        if rows_out == 0:
            raise DataLossError(f"{self.name}: nothing is left of {rows_in} rows; drops: {dict(dropped)}")
        if lost > max_drop * rows_in:
            raise DataLossError(
                f"{self.name}: dropped {lost} of {rows_in} rows ({lost / rows_in:.1%}), more than "
                f"its bound in params.yaml, {max_drop:.1%}, allows; drops: {dict(dropped)}"
            )
        self._rows = {"in": rows_in, "out": rows_out, "dropped": dict(sorted(dropped.items()))}

    def note(self, key: str, value: Any) -> None:
        self._notes[key] = value

    def record(self, code: str, folder: Path) -> dict[str, Any]:
        written = sorted(path for path in self._staging.rglob("*") if path.is_file())
        outputs = {(folder / path.relative_to(self._staging)).as_posix(): files.sha256_file(path) for path in written}
        published = {
            path.as_posix(): hashlib.sha256(text.encode()).hexdigest() for path, text in self._published.items()
        }
        return {
            "stage": self.name,
            "item": self.item,
            "params": self._sections,
            "seed": None if self._root_seed is None else self.seed,
            "code": code,
            "inputs": self._inputs,
            "outputs": outputs | published,
            "rows": self._rows,
            "notes": self._notes,
        }


@contextmanager
def stage(
    name: str, model: type[P], *, item: str | None = None, seed: str | None = None, parallel: bool = False
) -> Iterator[StageRun[P]]:
    """Run a stage: outputs appear under `data/<phase>/<stage>[/<item>]/`, with a record, or not at all.

    A `parallel` stage may run in several processes at once (torchrun): rank 0 is the stage, and what the others write
    is thrown away. A TrainyardError becomes one line on stderr and exit status 2.
    """
    folder = DATA.joinpath(*name.split("."), *([item] if item else []))
    staging = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    start = time.monotonic()
    active = SIDE / "active" / str(os.getpid())
    try:
        if process_count() > 1 and not parallel:
            raise ResourceError("runs in one process; start it without torchrun")
        if is_follower():
            with tempfile.TemporaryDirectory(prefix="trainyard-") as scratch:
                yield StageRun(name, item, model, seed, Path(scratch))
            return
        _remove_leftovers(folder)
        staging.mkdir(parents=True)
        active.parent.mkdir(parents=True, exist_ok=True)
        active.write_text(name)
        run: StageRun[P] = StageRun(name, item, model, seed, staging)
        _start_tracker()
        yield run
        files.write_json(staging / "record.json", run.record(code_digest(_module_of(name)), folder))
        run.write_published()
        if folder.exists():
            shutil.rmtree(folder)
        staging.replace(folder)
        _write_timing(name, item, time.monotonic() - start)
    except TrainyardError as error:
        print(f"trainyard: {name}{f'@{item}' if item else ''}: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.errno not in (28, 122):  # ENOSPC, EDQUOT
            raise
        print(f"trainyard: {name}: the disk is full ({error.filename}); free some space and rerun", file=sys.stderr)
        sys.exit(2)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        active.unlink(missing_ok=True)


def _remove_leftovers(folder: Path) -> None:
    """Staging folders of runs that were killed."""
    for leftover in folder.parent.glob(f".{folder.name}.*.partial"):
        process = leftover.name.split(".")[-2]
        if process == str(os.getpid()) or not Path("/proc", process).exists():
            shutil.rmtree(leftover, ignore_errors=True)


def _module_of(name: str) -> str:
    return f"stages.{name}"


def _write_timing(name: str, item: str | None, wall: float) -> None:
    """Clocks and memory, beside the data: nothing depends on them."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    files.write_json(
        SIDE / "timings" / f"{name}{f'@{item}' if item else ''}.json",
        {
            "wall_seconds": wall,
            "cpu_seconds": own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime,
            "peak_rss_mib": max(own.ru_maxrss, children.ru_maxrss) / 1024,
            "finished": time.time(),
        },
    )


def _start_tracker() -> None:
    """Launch the follower that ships to MLflow, unless one holds the lock."""
    if os.environ.get("TRAINYARD_TRACK", "on") == "off":
        return
    with (
        contextlib.suppress(OSError),  # held by a follower, or no locks here: the tracker never stops a run
        (SIDE / "track.lock").open("ab") as lock,
        (SIDE / "track.log").open("ab") as log,
    ):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(lock, fcntl.LOCK_UN)
        subprocess.Popen(
            [sys.executable, "-m", "stages.publishing.tracking.track", "--follow"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
