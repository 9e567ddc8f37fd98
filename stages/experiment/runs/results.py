"""What is known already: the stages of dvc.lock, and the instances that experiments have run."""

import contextlib
import hashlib
import json
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from stages.base.errors import InputError
from stages.base.files import atomic_path
from stages.base.plain_yaml import read_yaml
from stages.base.store import SIDE
from stages.experiment.runs.objects import Externals, MissingObject, Objects, cache_folder

FOLDER = "experiments"  # of the project's store
PARAMS = "params.yaml"


def key_of(cmd: str, deps: Mapping[str, str], params: Mapping[str, Any]) -> str:
    text = json.dumps([cmd, deps, params], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def shape_of(cmd: str, deps: Mapping[str, str], params: Mapping[str, Any], labels: Iterable[str]) -> str:
    rest = {path: md5 for path, md5 in deps.items() if path != PARAMS}
    return key_of(cmd, {**rest, "labels": json.dumps(sorted(labels))}, params)


@dataclass(frozen=True)
class Result:
    """What an instance wrote, and what it took."""

    key: str
    label: str
    outs: dict[str, str]
    """Path → digest."""
    uncached: tuple[str, ...] = ()
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Path of an out → bytes, files."""
    cpu_seconds: float | None = None
    wall_seconds: float | None = None
    peak_rss_mib: float | None = None
    first_claim: str = ""
    """The claim that it was run for; "" for the project's own run, from dvc.lock."""


class Store:
    """The results and contents of a project, read and written by every runner.

    Raises InputError for a dvc.lock that is none.
    """

    def __init__(self, root: Path, side: Path) -> None:
        """root: the project's work tree; side: its `.trainyard` (`base.store.project_store`)."""
        self.root, self.folder = root.resolve(), side / FOLDER
        self.objects = Objects(cache_folder(self.root))
        self._side = side
        self._externals: dict[Path, Externals] = {}
        self._results: dict[str, Result] = {}
        self._locked: dict[str, Result] = {}
        self._shapes: dict[str, dict[str, str]] = {}
        self._texts: dict[str, str] = {}
        self._expected: dict[tuple[str, tuple[str, ...]], tuple[float, float] | None] = {}
        self.read_lock(self.root)

    def instance_file(self, key: str) -> Path:
        return self.folder / "instances" / key[:2] / f"{key}.json"

    def externals(self, root: Path) -> Externals:
        if root not in self._externals:
            self._externals[root] = Externals(root, self.root, self.folder / "digests.json")
        return self._externals[root]

    def text_digest(self, text: str) -> str:
        if text not in self._texts:
            self._texts[text] = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
        return self._texts[text]

    def get(self, key: str) -> Result | None:
        """The result of this key; its contents may be gone (`objects.has`)."""
        if key not in self._results:
            result = self._locked.get(key) or self._read(key)
            if result is None:
                return None
            self._results[key] = result
        return self._results[key]

    def _read(self, key: str) -> Result | None:
        try:
            record = json.loads(self.instance_file(key).read_bytes())
            sizes = {path: (size, count) for path, (size, count) in record["sizes"].items()}
            known = {**record["result"], "sizes": sizes, "uncached": tuple(record["result"]["uncached"])}
            return Result(**known)
        except (FileNotFoundError, ValueError, KeyError, TypeError):  # none, or one of another version: run it again
            return None

    def put(self, result: Result, facts: Mapping[str, Any]) -> None:
        """Remember a result for good; facts: what else its record says."""
        told = {name: value for name, value in asdict(result).items() if name != "sizes"}
        record = {"result": told, "sizes": result.sizes, **facts}
        with atomic_path(self.instance_file(result.key)) as temporary:
            temporary.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        self._results[result.key] = result

    def look_again(self, key: str) -> Result | None:
        """What another runner may have put there."""
        self._results.pop(key, None)
        self.objects.forget()
        return self.get(key)

    def read_lock(self, root: Path) -> None:
        """Take the entries of `root/dvc.lock` for results."""
        path = root / "dvc.lock"
        try:
            stages = (read_yaml(path) or {}).get("stages", {})
        except FileNotFoundError:
            return
        except AttributeError as error:
            raise InputError(f"{path}: not a lock of DVC: {' '.join(str(error).split())}") from None
        for label, entry in stages.items():
            try:
                deps = {dep["path"]: dep["md5"] for dep in entry.get("deps", [])}
                outs = {out["path"]: out["md5"] for out in entry.get("outs", [])}
                sizes = {out["path"]: (out["size"], out.get("nfiles", 1)) for out in entry.get("outs", [])}
            except (KeyError, TypeError):  # hashed in another way: from a cloud, or by an older DVC
                continue
            params = entry.get("params", {}).get(PARAMS, {})
            key = key_of(entry["cmd"], deps, params)
            cpu, wall = self.timing_here(label, entry["cmd"])
            known = Result(key, label, outs, sizes=sizes, cpu_seconds=cpu, wall_seconds=wall)
            self._locked[key] = known
            if PARAMS in deps:
                self._shapes[shape_of(entry["cmd"], deps, params, stages)] = outs

    def expect(self, shape: str) -> dict[str, str] | None:
        """What an instance that reads the whole of params.yaml is likely to write: what one of this shape wrote."""
        if shape not in self._shapes:
            with contextlib.suppress(FileNotFoundError, ValueError):
                self._shapes[shape] = json.loads(self._shape_file(shape).read_bytes())
        outs = self._shapes.get(shape)
        return outs if outs and all(map(self._listed, outs.values())) else None

    def put_shape(self, shape: str, outs: dict[str, str]) -> None:
        if self._shapes.get(shape) != outs:
            self._shapes[shape] = outs
            with atomic_path(self._shape_file(shape)) as temporary:
                temporary.write_text(json.dumps(outs), encoding="utf-8")

    def _shape_file(self, shape: str) -> Path:
        return self.folder / "shapes" / f"{shape}.json"

    def _listed(self, md5: str) -> bool:
        try:
            return not md5.endswith(".dir") or self.objects.tree(md5) is not None
        except MissingObject:
            return False

    # ------------------------------------------------------------------------------------------ what stages take

    def timing_here(self, label: str, cmd: str) -> tuple[float | None, float | None]:
        """CPU and wall seconds of the project's own last run of a stage."""
        item = f"@{label.partition('@')[2]}" if "@" in label else ""
        name = cmd.split()[2].removeprefix("stages.") if cmd.startswith("python -m ") else label
        try:
            told = json.loads((self._side / "timings" / f"{name}{item}.json").read_bytes())
            return told["cpu_seconds"], told["wall_seconds"]
        except (FileNotFoundError, ValueError, KeyError):
            return None, None

    def note_timing(self, label: str, cmd: str, scale: Sequence[str], cpu: float, wall: float) -> None:
        """One line more of what instances took."""
        line = {"label": label, "cmd": cmd, "scale": list(scale), "cpu": cpu, "wall": wall, "at": time.time()}
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "timings.jsonl").open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(line) + "\n")
        self._timings.setdefault(label, []).append(line)
        self._expected.clear()

    @cached_property
    def _timings(self) -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = {}
        path = self.folder / "timings.jsonl"
        for text in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
            try:
                line = json.loads(text)
                found.setdefault(line["label"], []).append(line)
            except (ValueError, KeyError):  # the last line of a killed runner
                continue
        return found

    def seconds(self, label: str, cmd: str, scale: Sequence[str]) -> tuple[float, float] | None:
        """CPU and wall seconds to expect of an instance: the median of the last ten at this scale, else of this item
        at any, else of the stage's other items; None where it has never run."""
        key = (label, tuple(scale))
        if key not in self._expected:
            self._expected[key] = self._seconds(label, cmd, scale)
        return self._expected[key]

    def _seconds(self, label: str, cmd: str, scale: Sequence[str]) -> tuple[float, float] | None:
        stage = label.partition("@")[0]
        own = self._timings.get(label, [])
        others = [line for one, lines in self._timings.items() if one.partition("@")[0] == stage for line in lines]
        here = [line for line in own if line["scale"] == list(scale)]
        there = [line for line in others if line["scale"] == list(scale)]
        project = None if scale else self.timing_here(label, cmd)
        if not here and project and project[0] is not None:
            return project  # type: ignore[return-value]
        for lines in (here, there, own, others):
            if lines:
                last = lines[-10:]
                return statistics.median(line["cpu"] for line in last), statistics.median(line["wall"] for line in last)
        told = self.timing_here(label, cmd)
        return told if told[0] is not None else None  # type: ignore[return-value]


def open_store(root: Path = Path()) -> Store:
    """The store of the project in the working folder."""
    from stages.base.store import project_store

    return Store(root, project_store() if root.resolve() == Path.cwd() else root / SIDE)
