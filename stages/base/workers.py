"""How many processes to use, from the environment and never part of a result's identity; and a process to talk to."""

import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from stages.base.errors import ParamError, ResourceError, TrainyardError
from stages.base.signals import Stopped

if TYPE_CHECKING:
    from multiprocessing.connection import Connection


def worker_count() -> int:
    """Worker processes: TRAINYARD_WORKERS, else the CPUs that this process may use."""
    value = os.environ.get("TRAINYARD_WORKERS")
    if value is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not value.isdigit() or int(value) < 1:
        raise ParamError(f"environment variable TRAINYARD_WORKERS must be a positive integer, got {value!r}")
    return int(value)


def process_count() -> int:
    """Processes that train one model together, as torchrun tells each of them; 1 without it. ParamError where it tells
    a part only: a process that took itself for one of several would end in silence, with nothing written."""
    told = {name: os.environ.get(name) for name in ("RANK", "WORLD_SIZE")}
    if told == {"RANK": None, "WORLD_SIZE": None}:
        return 1
    rank, world = (value if value is not None and value.isdecimal() else None for value in told.values())
    if rank is None or world is None or int(rank) >= int(world):
        raise ParamError(
            "environment variables RANK and WORLD_SIZE are torchrun's, from 0 and both: unset them, or start with "
            f"torchrun (RANK={told['RANK']!r}, WORLD_SIZE={told['WORLD_SIZE']!r})"
        )
    return int(world)


def is_follower() -> bool:
    """Whether another of these processes (rank 0) writes the results, the records and the progress line."""
    return process_count() > 1 and int(os.environ["RANK"]) > 0


class Child:
    """A process that runs target(pipe, *arguments), and the other end of its pipe.

    fork: it shares this process's memory as it is, and starts at once; for code that uses no CUDA, on Linux. It ends
    when the pipe is closed, or with this process, at the latest when it next reads or writes.
    """

    def __init__(
        self, name: str, target: Callable[..., None], *arguments: Any, fork: bool, siblings: Iterable["Child"] = ()
    ) -> None:
        import multiprocessing

        context: Any = multiprocessing.get_context("fork" if fork else "spawn")
        self.name = name
        self.pipe, theirs = context.Pipe()
        inherited = [self.pipe, *(other.pipe for other in siblings)] if fork else []
        self.process = context.Process(target=_live, args=(target, arguments, theirs, inherited), daemon=True)
        self.process.start()
        theirs.close()

    def send(self, value: Any) -> None:
        try:
            self.pipe.send(value)
        except OSError:
            raise self._lost() from None

    def receive(self) -> Any:
        """What it has sent. Raises what it has failed with; ResourceError where it has died."""
        try:
            value = self.pipe.recv()
        except (EOFError, OSError):
            raise self._lost() from None
        if isinstance(value, Exception):
            raise value
        return value

    def close(self, kill: bool = False) -> None:
        if kill:
            self.process.terminate()
        self.pipe.close()
        self.process.join()

    def _lost(self) -> ResourceError:
        self.process.join()
        return ResourceError(
            f"{self.name} has ended (exit status {self.process.exitcode}; -9 may be a lack of memory); run the same "
            "command again, with TRAINYARD_WORKERS=1 if memory is short"
        )


def can_fork() -> bool:
    return sys.platform == "linux"


def die_with_parent() -> None:
    """On Linux: this process is killed when the thread that started it ends, in the midst of its work too. What it has
    inherited, as the lock of a stage that was killed, is free at once then."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _live(
    target: Callable[..., None], arguments: tuple[Any, ...], pipe: "Connection", inherited: "list[Connection]"
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the other process's to handle
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    die_with_parent()
    for other in inherited:  # while a copy is open here, nobody sees that the other process has gone
        other.close()
    try:
        target(pipe, *arguments)
    except (EOFError, BrokenPipeError, Stopped):
        return
    except Exception as error:
        if not isinstance(error, TrainyardError):
            traceback.print_exc()
        pipe.send(error)
