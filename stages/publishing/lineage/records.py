"""The graph of records: which stage wrote the very bytes that another one read.

Edges are content hashes, not names or dates: an input belongs to a producer only if the producer's record lists the
same path with the same sha256. A folder's hash is computed from the producer's file hashes as `base.files` does it.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.base.errors import InputError, TrainyardError
from stages.base.files import folder_digest, read_json


class LineageError(TrainyardError):
    """The chain of records is broken: a file is gone, was changed, or was written by another run than the one read."""


@dataclass(frozen=True)
class Record:
    """One finished stage instance as its `record.json` tells it."""

    stage: str
    item: str | None
    params: dict[str, Any]
    seed: int | None
    code: str
    inputs: dict[str, str]
    outputs: dict[str, str]
    rows: dict[str, Any] | None
    notes: dict[str, Any]
    path: Path

    @property
    def label(self) -> str:
        return f"{self.stage}@{self.item}" if self.item else self.stage

    @property
    def fingerprint(self) -> str:
        """sha256 over what the stage read and wrote and with which params and code."""
        parts = [self.label, self.code, repr(self.seed), repr(sorted(_flat(self.params)))]
        parts += [f"{path}\0{digest}" for path, digest in sorted({**self.inputs, **self.outputs}.items())]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, dict):
            yield from _flat(value, name)
        else:
            yield name, repr(value)


def read_record(path: Path) -> Record:
    """Raises InputError where the file isn't a record."""
    value = read_json(path)
    try:
        found = Record(
            stage=value["stage"],
            item=value["item"],
            params=value["params"],
            seed=value["seed"],
            code=value["code"],
            inputs=value["inputs"],
            outputs=value["outputs"],
            rows=value["rows"],
            notes=value["notes"],
            path=path,
        )
        if _is_record(found):
            return found
    except (KeyError, TypeError):
        pass
    raise InputError(f"{path}: not a stage's record; rerun the stage (`dvc repro`)")


def _is_record(found: Record) -> bool:
    texts = all(isinstance(one, str) for one in (found.stage, found.code, found.item or ""))
    parts = all(isinstance(one, dict) for one in (found.params, found.inputs, found.outputs, found.notes))
    counts = found.rows is None or (
        isinstance(found.rows, dict)
        and all(isinstance(found.rows.get(name), int) for name in ("in", "out"))
        and isinstance(found.rows.get("dropped"), dict)
        and all(isinstance(count, int) for count in found.rows["dropped"].values())
    )
    return (
        texts
        and parts
        and counts
        and (found.seed is None or isinstance(found.seed, int))
        and all(isinstance(digest, str) for digest in [*found.inputs.values(), *found.outputs.values()])
    )


def record_paths(root: Path = Path("data")) -> list[Path]:
    """Where records lie below `data/`, sorted; half-written (hidden) folders are left out."""
    found = sorted(path for depth in ("*", "*/*", "*/*/*") for path in root.glob(f"{depth}/record.json"))
    return [path for path in found if not any(part.startswith(".") for part in path.relative_to(root).parts)]


def read_records(root: Path = Path("data")) -> list[Record]:
    """Every record below `data/`, in path order. Raises InputError for one that isn't."""
    return [read_record(path) for path in record_paths(root)]


class Graph:
    """Looks up who wrote an input. One producer a path: folders of stages never overlap."""

    def __init__(self, records: Iterable[Record]) -> None:
        self.records = sorted(records, key=lambda record: record.label)
        self._writer = {path: record for record in self.records for path in record.outputs}
        self._record = {_place(record): record for record in self.records}

    def find(self, label: str) -> Record:
        for record in self.records:
            if record.label == label:
                return record
        raise InputError(f"no record of `{label}` below data/; run the pipeline (`dvc repro`)")

    def written(self, path: str) -> tuple[list[Record], str | None]:
        """The records that wrote this input, several of a folder of many stages, and the sha256 that they say it has;
        none of a file from outside. A record that was read itself has no sha256 in any record."""
        if path in self._record:
            return [self._record[path]], None
        writers = {path: self._writer[path]} if path in self._writer else self._inside(path)
        if not writers:
            return [], None
        outputs = {out: record.outputs[out] for out, record in writers.items()}
        digest = outputs[path] if path in outputs else folder_digest(path, outputs)
        return list({record.label: record for _, record in sorted(writers.items())}.values()), digest

    def producers(self, path: str, digest: str) -> list[Record]:
        """The records that wrote this input. Raises LineageError where they name other bytes than the reader's."""
        writers, found = self.written(path)
        if found is not None and found != digest:
            labels = " and ".join(sorted(record.label for record in writers))
            raise LineageError(
                f"{path}: read with sha256 {digest[:12]}, but {labels} last wrote {found[:12]}; "
                "the pipeline was not rerun to the end: `dvc repro`"
            )
        return writers

    def files_of(self, folder: str) -> list[str]:
        """What stages wrote in a folder, by their records."""
        return [*self._inside(folder), *(path for path in self._record if path.startswith(f"{folder}/"))]

    def _inside(self, folder: str) -> dict[str, Record]:
        return {out: record for out, record in self._writer.items() if out.startswith(f"{folder}/")}


def _place(record: Record) -> str:
    """Where a record lies in its project, by its stage."""
    return "/".join(["data", *record.stage.split("."), *([record.item] if record.item else []), "record.json"])
