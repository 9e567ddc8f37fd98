"""A stage's run: checked params in, hashed files in and out, counted rows, one record; all or nothing.

`record.json` holds what `trainyard trace` follows from a leaderboard row back to source documents.
"""

import hashlib
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar, overload

from pydantic import BaseModel, ValidationError

from stages.base import files
from stages.base.artifacts import MODELS
from stages.base.closure import code_files, digest_of
from stages.base.contracts import Contract
from stages.base.errors import DataLossError, InputError, ParamError, ResourceError, TrainyardError
from stages.base.failures import explained
from stages.base.followers import followed
from stages.base.outputs import held, hidden, remove_leftovers, swap
from stages.base.params import lookup, parse, read_params
from stages.base.producers import Producers
from stages.base.redaction import for_the_eye
from stages.base.seeds import derive
from stages.base.signals import Stopped, stoppable
from stages.base.store import SIDE
from stages.base.terminal import one_line
from stages.base.workers import is_follower, process_count

if TYPE_CHECKING:
    import pyarrow as pa

    from stages.base.tables import TableWriter

P = TypeVar("P", bound=BaseModel)
Q = TypeVar("Q", bound=BaseModel)
C = TypeVar("C", bound=Contract)
DATA = Path("data")
LONGEST = 4000  # characters of an error


class StageRun(Generic[P]):
    """What a stage's wiring talks to; see docs/architecture.md for the contract."""

    def __init__(
        self, name: str, item: str | None, model: type[P], seed: str | None, staging: Path, section: str | None = None
    ) -> None:
        self.name, self.item, self._staging = name, item, staging
        self._values = read_params()
        self._sections: dict[str, Any] = {}
        self._inputs: dict[str, str] = {}
        self._producers = Producers()
        self._published: dict[Path, str] = {}
        self._models: dict[str, Path] = {}
        self._rows: dict[str, Any] | None = None
        self._notes: dict[str, Any] = {}
        self._when_done: list[Callable[[], None]] = []
        self.params: P = self.section(section or name, model)
        self._root_seed = self.root_seed(seed) if seed else None

    def root_seed(self, path: str) -> int:
        """The value of `corpus.seed`, `run.seed`, or that of a stage that reads the whole of `run`; recorded."""
        self._sections[path] = value = lookup(self._values, path)
        if isinstance(value, dict):
            path, value = f"{path}.seed", value.get("seed")
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise ParamError(f"params.yaml: `{path}` must be a non-negative integer, got {value!r}")
        return value

    @property
    def seed(self) -> int:
        """sha256(root seed, stage, item), 63 bits."""
        if self._root_seed is None:
            raise RuntimeError(f"{self.name} was declared without a seed")
        return derive(self._root_seed, self.name, self.item or "")

    @overload
    def section(self, name: str, model: type[Q]) -> Q: ...
    @overload
    def section(self, name: str, model: Any) -> Any: ...
    def section(self, name: str, model: Any) -> Any:
        """Another checked section of params.yaml (or a single value: `run.section("alignment.base", str)`); it must
        stand in the stage's DVC `params:`."""
        value = lookup(self._values, name)
        self._sections[name] = value
        return parse(name, value, model)

    @property
    def inputs(self) -> dict[str, str]:
        """Path → sha256 of what was read so far."""
        return dict(self._inputs)

    def input(self, path: str | Path) -> Path:
        """Register a file or folder as an input of this run. Raises InputError where it is gone, or isn't what the
        record of the stage that wrote it says."""
        if not Path(path).exists():
            raise InputError(f"{path}: not found; run the stage that writes it (`dvc repro`)")
        name = Path(path).as_posix()
        if name not in self._inputs:
            digests = files.sha256_files(path)
            self._producers.check(digests)
            self._inputs[name] = files.digest_of(path, digests)
        return Path(path)

    def read_table(self, path: str | Path, schema: "pa.Schema") -> "pa.Table":
        from stages.base import tables

        return tables.read_table(self.input(path), schema)

    def batches(self, path: str | Path, schema: "pa.Schema", columns: list[str] | None = None) -> Iterator["pa.Table"]:
        """The rows of a table in order, a batch at a time (`tables.read_batches`)."""
        from stages.base import tables

        return tables.read_batches(self.input(path), schema, columns)

    def count_rows(self, path: str | Path, schema: "pa.Schema") -> int:
        from stages.base import tables

        return tables.count_rows(self.input(path), schema)

    def read_json(self, path: str | Path) -> Any:
        return files.read_json(self.input(path))

    def read_contract(self, path: str | Path, model: type[C]) -> C:
        """A JSON of another phase as its model. Raises InputError where it isn't one."""
        text = self.input(path).read_text(encoding="utf-8")
        try:
            return model.model_validate_json(text)
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(map(str, problem["loc"])) or "the file"
            raise InputError(f"{path}: `{where}`: {problem['msg']}; rerun the stage that writes it") from None

    def items(self, folder: str | Path) -> list[str]:
        """Keys of the items in the pipeline whose folders stand in `folder`, in the order of params.yaml."""
        path = Path(folder, "items.json")
        keys = self.read_json(path)
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise InputError(f"{path}: must be a list of keys; rerun `check`")
        return keys

    def output(self, name: str) -> Path:
        """A path to write below the stage's folder; it appears there only when the stage has succeeded."""
        path = self._staging / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def write_table(self, name: str, table: "pa.Table", schema: "pa.Schema") -> None:
        from stages.base import tables

        tables.write_table(self.output(name), table, schema)

    def table(self, name: str, schema: "pa.Schema") -> AbstractContextManager["TableWriter"]:
        """A writer that takes batches of rows: `with run.table(…) as table: table.write(batch)`."""
        from stages.base import tables

        return tables.table_writer(self.output(name), schema)

    def write_json(self, name: str, value: Any) -> None:
        files.write_json(self.output(name), value)

    def write_contract(self, name: str, value: Contract) -> None:
        files.write_json(self.output(name), value.model_dump(mode="json", by_alias=True))

    def model_folder(self, key: str) -> Path:
        """A folder to write that becomes `data/models/<key>/` together with the stage's own, all or nothing."""
        if key not in self._models:
            staging = self._staging / ".model" / key if is_follower() else hidden(Path(MODELS, key))
            staging.mkdir(parents=True, exist_ok=True)
            self._models[key] = staging
        return self._models[key]

    def write_jsonl(self, name: str, rows: Iterable[dict[str, Any]]) -> None:
        files.write_jsonl(self.output(name), rows)

    def publish(self, path: str | Path, text: str) -> None:
        """A text to stand outside the stage's folder (`reports/`): written when the stage has succeeded."""
        self._published[Path(path)] = text

    def rows(self, rows_in: int, rows_out: int, dropped: Mapping[str, int], max_drop: float) -> None:
        """Account for every row. Raises DataLossError if counts don't add up or too large a share was dropped."""
        lost = sum(dropped.values())
        if rows_in - lost != rows_out:
            raise DataLossError(f"{self.name}: {rows_in} rows in, {lost} dropped with a reason, but {rows_out} out")
        if rows_out == 0:
            raise DataLossError(f"{self.name}: nothing is left of {rows_in} rows; dropped: {_counted(dropped)}")
        if lost > max_drop * rows_in:
            raise DataLossError(
                f"{self.name}: dropped {lost} of {rows_in} rows ({lost / rows_in:.1%}), more than "
                f"its bound in params.yaml, {max_drop:.1%}, allows; dropped: {_counted(dropped)}"
            )
        self._rows = {"in": rows_in, "out": rows_out, "dropped": dict(sorted(dropped.items()))}

    def note(self, key: str, value: Any) -> None:
        self._notes[key] = value

    def when_done(self, action: Callable[[], None]) -> None:
        """What to do once the outputs are in their place, as to remove the checkpoints that led to them."""
        self._when_done.append(action)

    def facts(self) -> dict[str, Any]:
        """What this run's results are a function of, as far as it has read: params, seed, code, hashes of inputs."""
        return {
            "params": dict(self._sections),
            "seed": None if self._root_seed is None else self.seed,
            "code": digest_of(_code(self.name)),
            "inputs": dict(self._inputs),
        }

    def record(self, folder: Path) -> dict[str, Any]:
        outputs = self._hashes(self._staging, folder)
        for key, staging in self._models.items():
            outputs |= self._hashes(staging, Path(MODELS, key))
        published = {
            path.as_posix(): hashlib.sha256(text.encode()).hexdigest() for path, text in self._published.items()
        }
        return {
            "stage": self.name,
            "item": self.item,
            **self.facts(),
            "outputs": outputs | published,
            "rows": self._rows,
            "notes": self._notes,
        }

    @staticmethod
    def _hashes(staging: Path, folder: Path) -> dict[str, str]:
        written = sorted(path for path in staging.rglob("*") if path.is_file())
        return {(folder / path.relative_to(staging)).as_posix(): files.sha256_file(path) for path in written}

    def check_params(self) -> None:
        """Raises ParamError where params.yaml has changed since this stage read it: DVC would note down the new values
        beside what the old ones gave."""
        values = read_params()
        for name, value in self._sections.items():
            try:
                same = lookup(values, name) == value
            except ParamError:
                same = False
            if not same:
                raise ParamError(f"params.yaml: `{name}` was changed while this stage ran; run it again")

    def appear(self, folder: Path) -> None:
        """Put what was written in its place."""
        for parent in {path.parent for path in self._published}:
            remove_leftovers(parent)
        for path, text in self._published.items():
            with files.atomic_path(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
        for key, staging in self._models.items():
            swap(staging, Path(MODELS, key))
        swap(self._staging, folder)
        for action in self._when_done:
            action()

    def discard(self) -> None:
        for staging in [*self._models.values(), self._staging]:
            shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def stage(
    name: str,
    model: type[P],
    *,
    item: str | None = None,
    section: str | None = None,
    seed: str | None = None,
    parallel: bool = False,
) -> Iterator[StageRun[P]]:
    """Run a stage: outputs appear under `data/<phase>/<stage>[/<item>]/`, with a record, or not at all.

    Its params are the section `name` of params.yaml, or `section` (`evaluation.tasks.<key>`).
    A `parallel` stage may run in several processes at once (torchrun): rank 0 is the stage, and what the others write
    is thrown away. A TrainyardError becomes one line on stderr and exit status 2.
    """
    folder = DATA.joinpath(*name.split("."), *([item] if item else []))
    label = f"{name}@{item}" if item else name
    start = time.monotonic()
    run: StageRun[P] | None = None
    try:
        if process_count() > 1 and not parallel:
            raise ResourceError("runs in one process; start it without torchrun")
        if is_follower():
            with tempfile.TemporaryDirectory(prefix="trainyard-") as scratch:
                yield StageRun(name, item, model, seed, Path(scratch), section)
            return
        with stoppable(), held(label):
            for parent in (folder.parent, Path(MODELS)):
                remove_leftovers(parent)
            run = StageRun(name, item, model, seed, hidden(folder), section)
            with followed(name, item):
                yield run
                run.check_params()
                files.write_json(run.output("record.json"), run.record(folder))
                run.appear(folder)
        _write_timing(label, time.monotonic() - start)
    except TrainyardError as error:
        _end(label, error, 2)
    except (KeyboardInterrupt, Stopped) as error:
        status = error.status if isinstance(error, Stopped) else 130
        _end(label, "stopped by a signal; what was there before stands, run again to go on", status)
    except Exception as error:
        if (known := explained(error)) is None:
            raise
        _end(label, known, 2)
    finally:
        if run is not None:
            run.discard()


def _end(label: str, reason: object, status: int) -> NoReturn:
    """Reasons quote keys and ids from outside: what a terminal would obey is taken out of them."""
    told = one_line(for_the_eye(str(reason)).removeprefix(f"{label.partition('@')[0]}: "), LONGEST)
    print(f"trainyard: {label}: {told}", file=sys.stderr)
    sys.exit(status)


def _counted(dropped: Mapping[str, int]) -> str:
    most_first = sorted(dropped.items(), key=lambda one: -one[1])
    return ", ".join(f"{reason} {count}" for reason, count in most_first) or "none"


def _code(name: str) -> dict[str, str]:
    """What `check` has just written of the stage's code, under DVC: its imports take a third of a second to walk."""
    checked = DATA / "check" / "code" / f"{name}.json"
    if "DVC_STAGE" in os.environ and checked.is_file():
        return files.read_json(checked)
    return code_files(f"stages.{name}")


def _write_timing(label: str, wall: float) -> None:
    """Clocks and memory, beside the data: nothing depends on them."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    files.write_json(
        SIDE / "timings" / f"{label}.json",
        {
            "wall_seconds": wall,
            "cpu_seconds": own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime,
            "peak_rss_mib": max(own.ru_maxrss, children.ru_maxrss) / 1024,
            "finished": time.time(),
        },
    )
