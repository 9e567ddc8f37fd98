"""Where the tracker's database is: outside DVC's outs, and the same one for all work trees of a clone."""

import os
import subprocess
from pathlib import Path

SIDE = Path(".trainyard")


def store() -> Path:
    """`.trainyard` of the main work tree, so that experiment workspaces of one clone share the database."""
    command = ["git", "rev-parse", "--path-format=absolute", "--git-common-dir"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    common = Path(found.stdout.strip()) if found.returncode == 0 and found.stdout.strip() else None
    root = common.parent if common is not None and common.name == ".git" else Path.cwd()
    return root / SIDE


def tracking_uri() -> str:
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(store() / 'mlflow.db').as_posix()}"


def open_line() -> str:
    """How to look at what was shipped."""
    return f"MLflow: mlflow ui --backend-store-uri {tracking_uri()}   then open http://127.0.0.1:5000"
