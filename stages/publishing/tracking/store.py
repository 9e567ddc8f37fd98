"""Where the tracker's database is: outside DVC's outs, and the same one for all work trees of a clone."""

import os
import shlex
import subprocess
from pathlib import Path

SIDE = Path(".trainyard")


def store() -> Path:
    """`.trainyard` of the main work tree, so that experiment workspaces of one clone share the database."""
    # A second line would be the path from a repository's root to here: the project lies inside somebody else's.
    found = git("rev-parse", "--path-format=absolute", "--git-common-dir", "--show-prefix").splitlines()
    common = Path(found[0]) if len(found) == 1 else None
    root = common.parent if common is not None and common.name == ".git" else Path.cwd()
    return root / SIDE


def git(*arguments: str) -> str:
    """What git prints; empty outside a repository, or where there is no git."""
    try:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def tracking_uri() -> str:
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(store() / 'mlflow.db').as_posix()}"


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
