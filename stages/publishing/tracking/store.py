"""Where the tracker's database is: outside DVC's outs, and the same one for all work trees of a clone."""

import os
import shlex
from pathlib import Path

from stages.base.store import SIDE, project_store


def tracking_uri() -> str:
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(project_store() / 'mlflow.db').as_posix()}"


def open_line() -> str:
    """How to look at what was shipped."""
    uri = tracking_uri()
    if uri.startswith(("http://", "https://")):
        return f"MLflow: open {uri}"
    return f"MLflow: mlflow ui --backend-store-uri {shlex.quote(uri)}   then open http://127.0.0.1:5000"


def is_active() -> bool:
    """Whether a stage is running here: its file names a live process."""
    for path in (SIDE / "active").glob("*"):
        if _is_stage(path.name):
            return True
        path.unlink(missing_ok=True)
    return False


def _is_stage(pid: str) -> bool:
    """Whether a process lives and, where /proc can tell, runs a stage: a killed one's number is given to another."""
    try:
        os.kill(int(pid), 0)
        return not Path("/proc/self/cmdline").exists() or b"stages." in Path(f"/proc/{pid}/cmdline").read_bytes()
    except PermissionError:
        return True
    except (ValueError, OSError):
        return False
