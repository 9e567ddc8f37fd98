"""Processes beside a run: the first stage starts those that pyproject.toml names (the tracker); none stops a run.

A follower stands in the project's folder. That of an experiment workspace goes away with its run: there it stands in a
copy of what followers read, in the store that stays.
"""

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stages.base.store import SIDE, project_store, workspace

COPIES = "workspaces"  # below the store
ORIGIN = SIDE / "origin"  # in a copy: the workspace's folder, and what DVC calls the experiment
READ = ("params.yaml", "stages/**/*.py", "data/*/**/*.json", "data/*/**/*.jsonl", "reports/*")
UNREAD = Path("data", "models")


@contextmanager
def followed(name: str) -> Iterator[None]:
    """The run of a stage: followers see that it is active, and, in the end, what it has written."""
    stand = _stand()
    active = stand / SIDE / "active" / str(os.getpid())
    active.parent.mkdir(parents=True, exist_ok=True)
    active.write_text(name)
    try:
        _copy(stand)
        _start(stand)
        yield
        _copy(stand)
    finally:
        active.unlink(missing_ok=True)


def origin() -> tuple[Path, str] | None:
    """Where a follower stands in a copy: the workspace, and the name of its experiment."""
    if not ORIGIN.exists():
        return None
    folder, name = ORIGIN.read_text().split("\n")
    return Path(folder), name


def copies() -> list[Path]:
    """What finished experiment workspaces left for followers."""
    return sorted(path for path in (project_store() / COPIES).glob("*") if path.is_dir())


def _stand() -> Path:
    inside = workspace()
    return project_store() / COPIES / "_".join(inside.parts) if inside else Path()


def _copy(stand: Path) -> None:
    """Bring the copy up to date, if this is a workspace."""
    if stand == Path():
        return
    (stand / ORIGIN).write_text(f"{Path.cwd()}\n{os.environ.get('DVC_EXP_NAME', '')}")
    for path in (found for pattern in READ for found in Path().glob(pattern)):
        target, state = stand / path, path.stat()
        if path.is_relative_to(UNREAD) or not path.is_file() or any(part.startswith(".") for part in path.parts):
            continue
        if not target.exists() or target.stat().st_mtime_ns != state.st_mtime_ns:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target)


def _start(stand: Path) -> None:
    """Start each follower, unless it holds its lock."""
    if os.environ.get("TRAINYARD_TRACK", "on") == "off":
        return
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        followers = distribution("trainyard").entry_points.select(group="trainyard.followers")
    except PackageNotFoundError:  # a checkout that isn't installed
        return
    for follower in followers:
        with (
            contextlib.suppress(OSError),  # held by a follower, or no locks here
            (stand / SIDE / f"{follower.name}.lock").open("ab") as lock,
            (stand / SIDE / f"{follower.name}.log").open("ab") as log,
        ):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(lock, fcntl.LOCK_UN)
            subprocess.Popen(
                [sys.executable, "-m", follower.value, "--follow"],
                cwd=stand,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
