"""The folders that a stage writes: hidden until all is there, swapped in as one, and held by one process at a time."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stages.base.errors import ResourceError
from stages.base.files import sync, sync_tree
from stages.base.store import SIDE

LOCKS = SIDE / "locks"
PARTIAL, OLD = "partial", "old"


@contextmanager
def held(label: str) -> Iterator[None]:
    """Nobody else runs this stage while the block does: a stage that has outlived its `dvc repro` would put what old
    params gave in place of newer results.

    Raises ResourceError naming the process that holds it. The lock goes with its process, however that ends.
    """
    LOCKS.mkdir(parents=True, exist_ok=True)
    with (LOCKS / f"{label}.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise ResourceError(
                f"process {lock.read().strip() or '?'} is running this very stage, maybe left behind by a `dvc repro` "
                "that was killed; wait for it, or end it, and run again"
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


def hidden(folder: Path) -> Path:
    """Where a folder is written before it appears."""
    return _beside(folder, PARTIAL)


def swap(written: Path, folder: Path) -> None:
    """Put what was written in the folder's place, on the disk when this returns: what led to it may be removed then.
    Until then the old one stands; it is removed last."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    sync_tree(written)
    aside = _beside(folder, OLD)
    if folder.exists():
        folder.replace(aside)
    written.replace(folder)
    sync(folder.parent)
    shutil.rmtree(aside, ignore_errors=True)


def remove_leftovers(parent: Path) -> None:
    """Of runs that were killed: files and folders that they were writing go; the old folder comes back if none stands
    in its place."""
    for leftover in [*parent.glob(f".*.*.{PARTIAL}"), *parent.glob(f".*.*.{OLD}")]:
        name, process, kind = leftover.name[1:].rsplit(".", 2)
        if process != str(os.getpid()) and process.isdecimal() and _alive(int(process)):
            continue
        if kind == OLD and not (parent / name).exists():
            leftover.replace(parent / name)
        elif leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        pass
    return True


def _beside(folder: Path, kind: str) -> Path:
    return folder.with_name(f".{folder.name}.{os.getpid()}.{kind}")
