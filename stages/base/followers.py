"""Processes beside a run: the first stage starts those that pyproject.toml names (the tracker); none stops a run.

A follower stands in the project's folder. That of an experiment workspace goes away with its run: there it stands in a
copy of what followers read, in the store that stays.
"""

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stages.base.store import SIDE, project_store, workspace

COPIES = "workspaces"  # below the store
ORIGIN = SIDE / "origin"  # in a copy: the workspace's folder, and what DVC calls the experiment
READ = ("params.yaml", "scales/*", "stages/**/*.py", "data/*/**/*.json", "data/*/**/*.jsonl", "reports/*")
UNREAD = Path("data", "models")
ACTIVE, STEPS = SIDE / "active", SIDE / "steps"
GROWING = "TRAINYARD_STEPS"  # environment of a followed stage: where its training loops write their steps as they go


@dataclass(frozen=True)
class Active:
    """A stage that is running, or was when its process was killed."""

    stage: str
    item: str | None
    started: float
    """Seconds since 1970."""
    process: int

    @property
    def label(self) -> str:
        return f"{self.stage}@{self.item}" if self.item else self.stage


@contextmanager
def followed(stage: str, item: str | None = None) -> Iterator[None]:
    """The run of a stage: followers see that it is active, its curves as they grow, and what it has written."""
    stand = _stand()
    active = Active(stage, item, time.time(), os.getpid())
    told, steps = stand / ACTIVE / str(active.process), (stand / STEPS / active.label).absolute()
    told.parent.mkdir(parents=True, exist_ok=True)
    told.write_text(json.dumps({"stage": stage, "item": item, "started": active.started}))
    try:
        if os.environ.get("TRAINYARD_TRACK", "on") != "off":
            shutil.rmtree(steps, ignore_errors=True)
            steps.mkdir(parents=True)
            os.environ[GROWING] = str(steps)
        _copy(stand)
        _start(stand)
        yield
        _copy(stand)
    finally:
        os.environ.pop(GROWING, None)
        told.unlink(missing_ok=True)


def read_active(path: Path) -> Active | None:
    """What a file of `ACTIVE` says; None where it is half-written or gone."""
    try:
        told = json.loads(path.read_text())
        return Active(told["stage"], told["item"], told["started"], int(path.name))
    except (OSError, ValueError, KeyError, TypeError):
        return None


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
