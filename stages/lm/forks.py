"""Parts of a computation in forked processes, which have the parent's memory and need no start: the same results in any
number of them."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from stages.base.errors import ResourceError
from stages.base.workers import die_with_parent, worker_count
from stages.lm.device import set_threads
from stages.lm.shards import possible_processes

T = TypeVar("T")


def in_forks(compute: Callable[[int], T], parts: int) -> Iterator[tuple[int, T]]:
    """(part, compute(part)) of parts 0 .. parts - 1, those of this process first, by it and forks of it: as many as
    there are workers.

    On a CPU each part is computed in one thread. Raises what `compute` raises; ResourceError where a fork was killed.
    """
    set_threads()  # a fork of several has none of OpenMP's threads, but waits for them
    processes = possible_processes(min(worker_count(), parts))
    context = multiprocessing.get_context("fork")
    helpers = []
    for number in range(1, processes):
        mine, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_help, args=(compute, range(number, parts, processes), theirs), daemon=True)
        process.start()
        theirs.close()
        helpers.append((process, mine))
    try:
        for part in range(0, parts, max(processes, 1)):
            yield part, compute(part)
        for number, (process, connection) in enumerate(helpers, 1):
            yield from zip(range(number, parts, processes), _results(process, connection), strict=True)
    finally:
        for process, connection in helpers:
            connection.close()
            process.terminate()
            process.join()


def _help(compute: Callable[[int], Any], parts: range, connection: Connection) -> None:
    """A fork's life. It says what it found at the end, as a full pipe would hold it up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's to handle
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    die_with_parent()
    results: Any
    try:
        results = [compute(part) for part in parts]
    except Exception as error:  # said by the parent, whatever it is
        results = error
    connection.send(results)
    os._exit(0)  # nothing of the parent's is to be cleaned up here


def _results(process: Any, connection: Connection) -> list[Any]:
    try:
        results = connection.recv()
    except EOFError:
        process.join(1.0)
        raise ResourceError(
            f"a process that helped has ended (exit status {process.exitcode}; -9 may be a lack of memory); run the "
            "same command again, with TRAINYARD_WORKERS=1 if memory is short"
        ) from None
    if isinstance(results, Exception):
        raise results
    return results
