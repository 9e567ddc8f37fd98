"""Reading and writing files so that nothing is ever half-written and equal content means equal bytes."""

import hashlib
import json
import math
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from stages.base.compressed import read_whole
from stages.base.errors import InputError

WRITTEN = "trainyard.written"
"""Audit event (`sys.audit`) of a file that is whole under its temporary name. With those that Python raises of itself
(open, os.rename, os.remove, os.mkdir, …) every write is an event, whoever writes: that of pyarrow, safetensors or torch
too. `tests/faults/inject.py` listens, to fail or to crash there; where nobody listens an event costs nothing."""


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary sibling to write to; fsynced and renamed over `path` on success, removed on failure."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        yield temporary
        sys.audit(WRITTEN, str(temporary))
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def sync_tree(folder: Path) -> None:
    """Wait until all files below a folder, and their names, are on the disk: what a loss of power leaves whole."""
    for path in [*folder.rglob("*"), folder]:
        if not path.is_symlink():
            sync(path)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def sha256_file(path: str | Path) -> str:
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sha256_path(path: str | Path) -> str:
    """sha256 of a file, or of a folder's sorted (relative path, file hash) list, `record.json` left out."""
    return digest_of(path, sha256_files(path))


def sha256_files(path: str | Path) -> dict[str, str]:
    """sha256 of a file, or of each in a folder, `record.json` left out, by path."""
    root = Path(path)
    if root.is_file():
        return {root.as_posix(): sha256_file(root)}
    found = sorted(p for p in root.rglob("*") if p.is_file() and p.name != "record.json")
    return {file.as_posix(): sha256_file(file) for file in found}


def digest_of(path: str | Path, digests: Mapping[str, str]) -> str:
    """`sha256_path` of a path whose `sha256_files` are known."""
    root = Path(path)
    return digests[root.as_posix()] if root.is_file() else folder_digest(root.as_posix(), digests)


def folder_digest(folder: str, digests: Mapping[str, str]) -> str:
    """`sha256_path` of a folder, here or not, from the sha256 of its files by path."""
    digest = hashlib.sha256()
    for file, found in sorted((PurePosixPath(name), found) for name, found in digests.items()):
        if file.name != "record.json":
            digest.update(f"{file.relative_to(folder).as_posix()}\0{found}\n".encode())
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    """JSON has no NaN or infinity: they are written as null, so that any reader can parse the file."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "item") and not isinstance(value, str | bytes):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: str | Path, value: Any) -> None:
    """Sorted keys, two-space indent, a final newline; non-finite numbers become null."""
    text = json.dumps(_plain(value), sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: str | Path) -> Any:
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: not found; run the stage that writes it (`dvc repro`)") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON: {error}") from None


def write_jsonl(path: str | Path, rows: Iterable[dict[str, Any]]) -> None:
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as handle:
        for row in rows:
            handle.write(json.dumps(_plain(row), sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def json_lines(path: str | Path) -> Iterator[tuple[int, Any]]:
    """(Number of the line, from 1, its value) of a JSON Lines file, compressed or not, blank lines left out. Only a
    newline ends a line: U+2028, U+2029 and U+0085 may stand in strings as they are. A name that stands twice in an
    object is refused, as one value would be lost. Raises InputError naming file and line.
    """
    for number, line in enumerate(read_whole(Path(path)).split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line.decode("utf-8"), object_pairs_hook=unique_names)
        except UnicodeDecodeError as error:
            raise InputError(
                f"{path}:{number}: not a readable UTF-8 file (byte {line[error.start]:#04x}, as in Latin-1); "
                "save it as UTF-8"
            ) from None
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}:{number}: not valid JSON: {error}") from None


def unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of an object of JSON (`object_pairs_hook`). Raises ValueError for a name that stands twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        doubled = next(name for place, (name, _) in enumerate(pairs) if name in dict(pairs[:place]))
        raise ValueError(f"the name {doubled!r} stands twice in one object")
    return found


def read_jsonl(path: str | Path) -> list[Any]:
    """The values of a JSON Lines file."""
    return [value for _, value in json_lines(path)]
