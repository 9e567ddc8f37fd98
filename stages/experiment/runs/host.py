"""A warm process that runs stage instances: it has imported what stages import, and forks one child an instance.

`python host.py FD ROOT` stands in ROOT, whose code it runs, and talks over the socket FD: a JSON message starts an
instance (with a file descriptor that holds the instance's lock, as long as the child lives), a JSON message says how it
ended. It needs nothing but Python, as it serves old revisions too. When the socket closes, or this process is killed,
the children are killed. Linux only.

A stage's module is imported before it is run, so it must do its work in `if __name__ == "__main__":` only. What a child
had to import beyond that, the host imports before the next one.
"""

import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
import threading
import time
import traceback
from typing import Any

DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG
LIMIT = 1 << 20  # bytes of a message


def main() -> None:
    channel, root = socket.socket(fileno=int(sys.argv[1])), sys.argv[2]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: the runner decides
    os.chdir(root)
    sys.path[0] = root
    children: dict[int, tuple[int, dict, float]] = {}  # descriptor of a process → pid, message, start
    while True:
        watched: list[Any] = [channel, *children]
        ready = select.select(watched, [], [])[0]
        for descriptor in [one for one in ready if one is not channel]:
            pid, message, start = children.pop(descriptor)
            os.close(descriptor)
            _tell_end(channel, pid, message, start)
            _learn(message)
        if channel in ready:
            data, passed, _, _ = socket.recv_fds(channel, LIMIT, 4)
            if not data:
                break
            message = json.loads(data)
            _warm(message["module"])
            start, here = time.monotonic(), os.getpid()
            pid = os.fork()
            if pid == 0:
                channel.close()
                for descriptor in children:
                    os.close(descriptor)
                _live(message, here)
            for descriptor in passed:
                os.close(descriptor)
            children[os.pidfd_open(pid)] = (pid, message, start)
    for pid, _, _ in children.values():
        _kill(pid)
    for pid, _, _ in children.values():
        os.waitpid(pid, 0)


def _kill(pid: int) -> None:
    for kill in (os.killpg, os.kill):  # its own children too, if it has come so far as to lead a group
        with contextlib.suppress(ProcessLookupError):
            kill(pid, signal.SIGKILL)


def _warm(module: str) -> None:
    """Import a stage's module, and let it prepare what forks of it would each do again."""
    if module in sys.modules:
        return
    try:
        warm = getattr(importlib.import_module(module), "warm", None)
        if warm is not None:
            warm()
    except BaseException:  # the child will meet it and tell
        return
    gc.collect()
    gc.freeze()  # else the collector touches, and so copies, pages that children share


def _learn(message: dict) -> None:
    """Import what the child had to import beyond what was here."""
    try:
        with open(message["modules"], encoding="utf-8") as handle:
            names = json.load(handle)
    except (OSError, ValueError):
        return
    for name in names:
        if name not in sys.modules:
            with contextlib.suppress(BaseException):
                importlib.import_module(name)
    gc.freeze()


def _tell_end(channel: socket.socket, pid: int, message: dict, start: float) -> None:
    _, status, usage = os.wait4(pid, 0)
    end = {
        "id": message["id"],
        "status": os.waitstatus_to_exitcode(status),
        "cpu": usage.ru_utime + usage.ru_stime,
        "wall": time.monotonic() - start,
        "rss": usage.ru_maxrss / 1024,
    }
    with contextlib.suppress(OSError):  # the runner has gone: the next select says so
        channel.send(json.dumps(end).encode())


def _live(message: dict, parent: int) -> None:
    """The child: the module as `python -m` runs it, in the instance's folder. Doesn't return."""
    status = 1
    try:
        ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        os.setpgid(0, 0)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for stream, place, flags in (
            (0, os.devnull, os.O_RDONLY),
            (1, message["stdout"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
            (2, message["stderr"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        ):
            descriptor = os.open(place, flags, 0o644)
            os.dup2(descriptor, stream)
            os.close(descriptor)
        os.environ.update(message["env"])
        os.chdir(message["folder"])
        status = _run(message)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _run(message: dict) -> int:
    before = set(sys.modules)
    sys.modules.pop(message["module"], None)  # else runpy warns that it is there already
    sys.argv = [message["module"], *message["arguments"]]
    status = 0
    try:
        runpy.run_module(message["module"], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if isinstance(end.code, int):
            status = end.code
        elif end.code is not None:
            print(end.code, file=sys.stderr)
            status = 1
    except BaseException:
        traceback.print_exc()
        status = 1
    threading._shutdown()  # type: ignore[attr-defined]  # as the interpreter's end does: first threads, then exit hooks
    atexit._run_exitfuncs()
    new = [name for name, one in sys.modules.items() if name not in before and getattr(one, "__spec__", None)]
    with open(message["modules"], "w", encoding="utf-8") as handle:
        json.dump(new, handle)
    return status


if __name__ == "__main__":
    main()
