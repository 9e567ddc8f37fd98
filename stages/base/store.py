"""The folder of a project that outlives its runs: MLflow's database and the replies that were paid for.

Work trees and DVC's experiment workspaces share it: what a thrown-away workspace recorded stays.
"""

import subprocess
from pathlib import Path

SIDE = Path(".trainyard")
WORKSPACES = Path(".dvc", "tmp", "exps")  # below a project's root: clones in which `dvc exp run --temp` and queues run


def project_store() -> Path:
    """`.trainyard` of the main work tree; of the working folder where it is no repository of its own."""
    here, inside = Path.cwd(), workspace()
    if store := next((parent for parent in here.parents if parent.name == SIDE.name), None):
        return store  # a follower of a workspace stands in it
    if inside is not None:
        here = here.parents[len(inside.parts) + len(WORKSPACES.parts) - 1]
    # A second line would be the path from a repository's root to here: the project lies inside somebody else's.
    found = git("rev-parse", "--path-format=absolute", "--git-common-dir", "--show-prefix", folder=here).splitlines()
    common = Path(found[0]) if len(found) == 1 else None
    return (common.parent if common is not None and common.name == ".git" else here) / SIDE


def workspace() -> Path | None:
    """The experiment workspace that this process works in, below DVC's folder of them; None in the project itself."""
    here = Path.cwd()
    for parent in here.parents:
        if here.is_relative_to(parent / WORKSPACES):
            return here.relative_to(parent / WORKSPACES)
    return None


def git(*arguments: str, folder: Path | None = None) -> str:
    """What git prints; empty outside a repository, or where there is no git."""
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
