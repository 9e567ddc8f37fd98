"""Faults at write points: where a process opens, makes, renames or removes a file of its project, it can be made to
crash, to find the disk full, or to leave half a file.

The points are Python's audit events (`sys.addaudithook`), which nothing that runs in the process gets around, and
`base.files.WRITTEN`, which stands for what libraries write by themselves. Only tests and benchmarks install the hook;
nothing in `stages/` reads a variable for it. A hook can't be taken out again, so install it in a process of its own.
"""

import errno
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from stages.base.files import WRITTEN

Kind = Literal["list", "crash", "torn", "full"]
PATHS = {  # event → which of its arguments the file is that is written
    "open": 0, WRITTEN: 0, "os.mkdir": 0, "os.rename": 1, "os.remove": 0, "os.rmdir": 0, "os.link": 1, "os.symlink": 1,
    "os.truncate": 0, "sqlite3.connect": 0,
}  # fmt: skip
GROWING = {"open", WRITTEN, "os.mkdir", "os.link", "os.symlink", "sqlite3.connect"}  # what a full disk refuses
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def install(kind: Kind, at: int, root: Path, told: Path | None = None) -> None:
    """From now on point `at` (from 0) is where this process is killed (`crash`), is killed with half of the file that
    it was writing on the disk (`torn`), or finds no more space, then and later (`full`). `list` writes every point to
    `told`, one a line: event, path.

    root: the folder whose files count.
    """
    sys.addaudithook(_Points(kind, at, root, told))


class _Points:
    def __init__(self, kind: Kind, at: int, root: Path, told: Path | None) -> None:
        self.kind, self.at, self.root = kind, at, f"{root.resolve()}{os.sep}"
        self.process, self.count, self.written = os.getpid(), 0, ""
        self.told = -1 if told is None else os.open(told, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        self.busy = False

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        place = PATHS.get(event)
        if place is None or self.busy or os.getpid() != self.process:  # a fork's writes are points of its own
            return
        path = self._path(arguments[place])
        if not path.startswith(self.root) or "__pycache__" in path or (event == "open" and not _writes(arguments)):
            return
        number, self.count = self.count, self.count + 1
        self.busy = True
        try:
            self._meet(number, event, path)
        finally:
            self.busy = False
        if event in ("open", WRITTEN):
            self.written = path

    def _path(self, name: Any) -> str:
        try:
            found = os.fsdecode(name)
        except TypeError:  # a descriptor
            return ""
        return found if os.path.isabs(found) else os.path.join(os.getcwd(), found)

    def _meet(self, number: int, event: str, path: str) -> None:
        if self.kind == "list":
            os.write(self.told, f"{event}\t{os.path.relpath(path, self.root)}\n".encode())
        elif self.kind == "full" and number >= self.at and event in GROWING:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        elif self.kind in ("crash", "torn") and number == self.at:
            half = path if event == WRITTEN else self.written
            if self.kind == "torn" and os.path.isfile(half):
                os.truncate(half, os.path.getsize(half) // 2)
            os.kill(self.process, signal.SIGKILL)


def _writes(arguments: tuple[Any, ...]) -> bool:
    return isinstance(arguments[2], int) and bool(arguments[2] & WRITING)


def forked(work: Callable[[], object], output: Path) -> int:
    """Start a child that does `work` and ends; its pid. It leads a group of its own, ends with this process, and what
    it prints goes to `output`. Its exit status is that of the same work in a process that Python has started.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        import atexit
        import threading
        import traceback

        from stages.base.workers import die_with_parent

        die_with_parent()
        os.setpgid(0, 0)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)  # not a test's
        try:
            work()
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            traceback.print_exc()
        threading._shutdown()  # type: ignore[attr-defined]  # as the interpreter's end does
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)
