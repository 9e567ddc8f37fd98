"""The graph of records: which stage wrote the very bytes that another one read.

Edges are content hashes, not names or dates: an input belongs to a producer only if the producer's record lists the
same path with the same sha256. A folder's hash is computed from the producer's file hashes as `base.files` does it.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from stages.base.errors import InputError, TrainyardError
from stages.base.files import read_json, sha256_path


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
        return Record(
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
    except (KeyError, TypeError):
        raise InputError(f"{path}: not a stage's record; rerun the stage (`dvc repro`)") from None


def read_records(root: Path = Path("data")) -> list[Record]:
    """Every record below `data/`, in path order; half-written (hidden) folders are left out."""
    found = sorted(path for depth in ("*", "*/*", "*/*/*") for path in root.glob(f"{depth}/record.json"))
    return [read_record(path) for path in found if not any(part.startswith(".") for part in path.parts)]


class Graph:
    """Looks up who wrote an input. One producer a path: folders of stages never overlap."""

    def __init__(self, records: Iterable[Record]) -> None:
        self.records = sorted(records, key=lambda record: record.label)
        self._writer = {path: record for record in self.records for path in record.outputs}

    def find(self, label: str) -> Record:
        for record in self.records:
            if record.label == label:
                return record
        raise InputError(f"no record of `{label}` below data/; run the pipeline (`dvc repro`)")

    def producers(self, path: str, digest: str) -> list[Record]:
        """The records that wrote this input, several of a folder of many stages; none of a file from outside.

        Raises LineageError where the writers' records name other bytes than the reader's.
        """
        writers = {path: self._writer[path]} if path in self._writer else self._inside(path)
        if not writers:
            return []
        written = {out: record.outputs[out] for out, record in writers.items()}
        found = written[path] if path in written else folder_digest(path, written)
        if found != digest:
            labels = " and ".join(sorted({record.label for record in writers.values()}))
            raise LineageError(
                f"{path}: read with sha256 {digest[:12]}, but {labels} last wrote {found[:12]}; "
                "the pipeline was not rerun to the end: `dvc repro`"
            )
        return list({record.label: record for _, record in sorted(writers.items())}.values())

    def _inside(self, folder: str) -> dict[str, Record]:
        return {out: record for out, record in self._writer.items() if out.startswith(f"{folder}/")}

    def verify(self, path: str, digest: str) -> None:
        """Raises LineageError unless the bytes on disk are the recorded ones."""
        if not Path(path).exists():
            raise LineageError(f"{path}: gone from disk; restore it with `dvc checkout` or `dvc repro`")
        found = sha256_path(path)
        if found != digest:
            raise LineageError(
                f"{path}: on disk sha256 {found[:12]}, in the record {digest[:12]}: changed since it was recorded; "
                "restore it with `dvc checkout` or rerun with `dvc repro`"
            )


def folder_digest(folder: str, outputs: dict[str, str]) -> str:
    """`base.files.sha256_path` of a folder, from the hashes of its files."""
    digest = hashlib.sha256()
    for path in sorted(PurePosixPath(out) for out in outputs):
        if path.name != "record.json":
            digest.update(f"{path.relative_to(folder).as_posix()}\0{outputs[path.as_posix()]}\n".encode())
    return digest.hexdigest()
