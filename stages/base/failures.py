"""What the machine refuses, in one line: a full disk, a folder that can't be written, no memory."""

import errno
import os
import shutil
from pathlib import Path

from stages.base.errors import ResourceError

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}
# safetensors and torch.save tell of a full disk in words only.
FULL_IN_WORDS = (
    "No space left on device",
    "Disk quota exceeded",
    "File too large",
    "os error 28",
    "os error 122",
    "failed writing file",
)


def explained(error: BaseException) -> ResourceError | None:
    """The line for an error of the operating system, or for one that came of it, as when torch.save can't close a file
    on a full disk; None for one that is a fault of ours."""
    found = _explained(error)
    cause = error.__cause__ or error.__context__
    return found if found is not None or cause is None else explained(cause)


def _explained(error: BaseException) -> ResourceError | None:
    if isinstance(error, MemoryError):
        return ResourceError("memory is short; set TRAINYARD_WORKERS=1, or lower the stage's batch or chunk sizes")
    if not isinstance(error, OSError):
        words = str(error)
        full = any(sign in words for sign in FULL_IN_WORDS) and type(error).__module__.partition(".")[0] != "stages"
        return _full(None) if full else None
    if error.errno in FULL:
        return _full(error.filename)
    if error.errno in REFUSED:
        what, reason = error.filename or "a file", os.strerror(error.errno or 0).lower()
        return ResourceError(f"{what}: {reason}; give this user the right to it and rerun")
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return ResourceError("too many files are open; raise the limit (`ulimit -n 4096`) and rerun")
    return None


def _full(path: str | None) -> ResourceError:
    here = Path(path).parent if path and Path(path).parent.is_dir() else Path()
    free = shutil.disk_usage(here).free / 2**20
    return ResourceError(
        f"{path or here.resolve()}: the disk is full, or a file would be larger than is allowed ({free:.0f} MiB free); "
        "free some space and rerun"
    )
