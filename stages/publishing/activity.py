"""Which stages are running in this work tree: `base.record` leaves a file named by the process."""

import os
from pathlib import Path

from stages.publishing.place import SIDE


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
