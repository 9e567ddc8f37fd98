"""Finished parts of a stage, kept in the project's store: a rerun, or one that was killed, makes only what is missing.

A part is a folder with a `record.json` whose notes hold its fingerprint, the identity of all that it is a function of.
"""

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from stages.base.errors import InputError
from stages.base.files import read_json, sha256_file, sync_tree
from stages.base.outputs import hidden, remove_leftovers
from stages.base.store import project_store


def keep(folder: Path) -> bool:
    """Copy a finished part into the store, all or nothing. False where its files aren't those of its record."""
    record = _record_of(folder)
    if record is None:
        return False
    place = _place(record["stage"], record["notes"]["fingerprint"])
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(place.parent)
        partial = hidden(place)
        try:
            shutil.copytree(folder, partial)
            sync_tree(partial)
            with suppress(OSError):  # another process has kept the same part meanwhile
                partial.rename(place)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return place.exists()


def recall(stage: str, fingerprint: str, folder: Path) -> bool:
    """Fill `folder` with the kept part of this identity. False where there is none, or it was damaged."""
    place = _place(stage, fingerprint)
    if _record_of(place) is None:
        shutil.rmtree(place, ignore_errors=True)
        return False
    shutil.copytree(place, folder, dirs_exist_ok=True)
    return True


def adopt(folder: Path) -> int:
    """Keep the finished parts that stand in a stage's folder, as a clone finds them after `dvc pull`; their number."""
    return sum(keep(part) for part in sorted(folder.glob("*/")))


def _place(stage: str, fingerprint: str) -> Path:
    return project_store() / "kept" / stage / fingerprint


def _record_of(part: Path) -> dict[str, Any] | None:
    """The record of a part that is complete and as it was written."""
    try:
        record = read_json(part / "record.json")
        written = {Path(path).relative_to(_home(record)): sha256 for path, sha256 in record["outputs"].items()}
        whole = written and all(sha256_file(part / path) == sha256 for path, sha256 in written.items())
        return record if whole and record["notes"]["fingerprint"] else None
    except (InputError, OSError, ValueError, KeyError, TypeError, AttributeError):  # of a record cut or from elsewhere
        return None


def _home(record: dict[str, Any]) -> Path:
    return Path("data", *record["stage"].split("."), record["item"])
