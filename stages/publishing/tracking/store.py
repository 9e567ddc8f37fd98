"""Where the tracker's database is: outside DVC's outs, and the same one for all work trees of a clone.

MLflow writes absolute addresses of artifacts into its database. A project that was copied or moved takes its database
along; `settle_in` points it to the artifacts beside it, so that nothing is read from or written to the old place.
"""

import fcntl
import os
import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from stages.base.errors import InputError
from stages.base.files import read_json, write_json
from stages.base.followers import ACTIVE, Active, read_active
from stages.base.redaction import for_the_eye, without_user
from stages.base.store import SIDE, project_store

LINK = SIDE / "mlflow_run.json"  # of this work tree: which run its pipeline is, so that `where` needs no tracker
ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
TRAINING = "workflowType=machine_learning"  # MLflow's pages of training: it opens on those of GenAI applications
PORT = "http://127.0.0.1:5000"  # where `mlflow ui` listens


def tracking_uri() -> str:
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{_database().as_posix()}"


def shown_uri() -> str:
    """`tracking_uri` without the password that it may hold."""
    uri = tracking_uri()
    return without_user(uri) if uri.startswith(("http://", "https://")) else for_the_eye(uri)


def artifact_root() -> Path:
    return project_store() / "mlflow-artifacts"


def _database() -> Path:
    return project_store() / "mlflow.db"


def settle_in() -> None:
    """Point a database that came with a copied project to the artifacts that came with it."""
    if not _database().exists():
        return
    with suppress(sqlite3.Error), closing(sqlite3.connect(_database(), timeout=10)) as database, database:
        here = artifact_root().as_uri()
        for (old,) in database.execute("select distinct artifact_location from experiments").fetchall():
            if old and old != here and old.startswith("file:") and old.endswith(f"/{SIDE}/{artifact_root().name}"):
                for table, column in ADDRESSES:
                    database.execute(
                        f"update {table} set {column} = ? || substr({column}, ?) where {column} = ? or {column} like ?",
                        (here, len(old) + 1, old, f"{old}/%"),
                    )


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One writer a database: work trees share it, and creating MLflow's schema twice at once fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def remember_run(experiment: str, run: str, fingerprint: str) -> None:
    write_json(LINK, {"experiment": experiment, "run": run, "fingerprint": fingerprint})


def open_line(fingerprint: str | None = None) -> str:
    """How to look at what was shipped, and, where it is known, the address of the pipeline of this fingerprint."""
    uri = shown_uri()
    if served := uri.startswith(("http://", "https://")):
        lines = [f"MLflow: open {uri}"]
    else:
        lines = [f"MLflow: mlflow ui --backend-store-uri {shlex.quote(uri)}   then open {PORT}"]
    try:
        told = read_json(LINK)
        root = f"{uri.rstrip('/') if served else PORT}/#/experiments/{told['experiment']}"
        lines.append(f"all pipelines: {root}/runs?viewStateShareKey=pipelines&{TRAINING}")
        if told["fingerprint"] == fingerprint:
            lines.append(f"this pipeline: {root}/runs/{told['run']}?{TRAINING}")
    except (InputError, KeyError, TypeError):
        pass
    return "\n".join(lines)


def active_stages() -> list[Active]:
    """The stages that run here: their files name live processes. Those of killed ones are removed."""
    found = []
    for path in ACTIVE.glob("*"):
        if not _is_stage(path.name):
            path.unlink(missing_ok=True)
        elif (active := read_active(path)) is not None:
            found.append(active)
    return sorted(found, key=lambda active: active.started)


def _is_stage(pid: str) -> bool:
    """Whether a process lives and, where /proc can tell, runs a stage: a killed one's number is given to another."""
    try:
        os.kill(int(pid), 0)
        return not Path("/proc/self/cmdline").exists() or b"stages." in Path(f"/proc/{pid}/cmdline").read_bytes()
    except PermissionError:
        return True
    except (ValueError, OSError):
        return False
