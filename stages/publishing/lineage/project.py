"""What a project says of itself beside its records: params.yaml, dvc.yaml, dvc.lock and the digests of its code."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from stages.base.errors import InputError, ParamError, TrainyardError
from stages.base.files import read_json
from stages.base.pipeline import Declared, read_pipeline
from stages.base.plain_yaml import parse_yaml, read_nodes, values_of
from stages.publishing.lineage.files import Files
from stages.publishing.lineage.records import Record

CHECK, CODE = "check", "data/check/code"


@dataclass(frozen=True)
class Locked:
    """A stage instance as DVC last ran it: md5 of what it read and wrote, its params by section."""

    label: str
    cmd: str
    deps: dict[str, str]
    params: dict[str, Any]
    outs: dict[str, str]


class Project:
    """The folder of a project. Its files are read when they are asked for; what isn't there is None.

    `sealed`: a stranger's, of which no path may lead out.
    """

    def __init__(self, root: Path = Path("."), sealed: bool = False) -> None:
        self.root = root
        self.sealed = sealed

    @cached_property
    def files(self) -> Files:
        try:
            locked = self.lock or {}
        except TrainyardError:  # told where the lock itself is asked for
            locked = {}
        outs = {path: digest for one in locked.values() for path, digest in one.outs.items()}
        return Files(self.root, outs, self.sealed)

    @cached_property
    def params(self) -> dict[str, Any] | None:
        """The whole of params.yaml. Raises InputError where it isn't readable."""
        return _mapping(self.root / "params.yaml")

    @cached_property
    def lock(self) -> dict[str, Locked] | None:
        """dvc.lock by label. Raises InputError where it isn't what DVC writes."""
        path = self.root / "dvc.lock"
        values = _mapping(path)
        return None if values is None else _entries(str(path), values)

    @cached_property
    def pipeline(self) -> list[Declared]:
        """The declared stage instances; none without dvc.yaml. Raises InputError where that isn't a pipeline."""
        path = self.root / "dvc.yaml"
        if self.params is None or _mapping(path) is None:  # read with bounds first: it may be a stranger's
            return []
        try:
            return read_pipeline(self.root, self.params)
        except (ParamError, AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
            told = f": {error}" if isinstance(error, ParamError) else ""
            raise InputError(f"{path}: not a pipeline for this params.yaml{told}; restore it from git") from None

    @cached_property
    def _labels(self) -> dict[tuple[str, str | None], Declared]:
        return {(one.name, one.item): one for one in self.pipeline}

    def declared(self, record: Record) -> Declared | None:
        """The instance that a record is of; a part of a stage, as a point of the ladder, is of the stage."""
        return self._labels.get((record.stage, record.item)) or self._labels.get((record.stage, None))

    def code(self, stage: str) -> dict[str, str] | None:
        """File → digest of a stage's code, as `check` wrote it."""
        path = self.root / CODE / f"{stage}.json"
        if not path.is_file():
            return None
        found = read_json(path)
        if not isinstance(found, dict):
            raise InputError(f"{path}: not the digests of a stage's code; rerun `check`")
        return {str(name): str(digest) for name, digest in found.items()}


def _mapping(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    node = read_nodes(path)
    values = values_of(node, path) if node is not None else None
    if not isinstance(values, dict):
        raise InputError(f"{path}: must be a mapping of keys")
    return values


def read_lock(name: str, text: str) -> dict[str, Locked]:
    """dvc.lock by label, of a text of git's. Raises InputError naming it where it isn't one."""
    return _entries(name, parse_yaml(text, name))


def _entries(name: str, values: Any) -> dict[str, Locked]:
    try:
        return {str(label): _locked(str(label), body) for label, body in values["stages"].items()}
    except (AttributeError, KeyError, TypeError):
        raise InputError(f"{name}: not a lock of DVC; restore it (`git checkout dvc.lock`)") from None


def _locked(label: str, body: dict[str, Any]) -> Locked:
    def digests(name: str) -> dict[str, str]:
        return {str(one["path"]): str(one["md5"]) for one in body.get(name, [])}

    params = {str(name): value for found in body.get("params", {}).values() for name, value in found.items()}
    return Locked(label, str(body["cmd"]), digests("deps"), params, digests("outs"))
