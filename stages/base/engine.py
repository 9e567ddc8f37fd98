"""Where batches are worked on: in this process, in worker processes, or on a Ray cluster; the same bytes on each.

A function of a batch and a context is all that a stage gives; nothing in it knows the engine. Results come back in the
order of the batches and only a few batches are under way at a time, so that memory holds batches, not the corpus.

`TRAINYARD_ENGINE` is `processes` (the default; with one worker nothing is started) or `ray`; `RAY_ADDRESS` names a
running cluster (Ray's own variable), without it Ray starts one on this machine.
"""

import atexit
import logging
import multiprocessing
import os
import pickle
import shutil
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from stages.base.errors import ParamError, ResourceError
from stages.base.workers import worker_count

B = TypeVar("B")
C = TypeVar("C")
R = TypeVar("R")
FEW = 32  # batches; where there are no more, starting workers takes longer than the work
MANY = 64 << 20  # bytes of batches that are reason enough to start workers
AHEAD = 2  # batches a worker may be given before its first result is taken


class Pool(NamedTuple):
    """Worker processes, and the folder where they find their contexts: gone with them, or with this process."""

    workers: int
    executor: ProcessPoolExecutor
    folder: Path


_pool: Pool | None = None  # kept from one map to the next: a stage maps several times


def map_batches(function: Callable[[B, C], R], batches: Iterable[B], context: C) -> Iterator[R]:
    """`function(batch, context)` of each batch, in order.

    `function` stands at the top of a module and, with `context` and its result, can be pickled; it is a pure function
    of its arguments. Raises what the function raises, ParamError for an unknown engine, ResourceError where a worker
    was killed.
    """
    engine = os.environ.get("TRAINYARD_ENGINE", "processes")
    if engine == "ray":
        return _on_ray(function, batches, context)
    if engine != "processes":
        raise ParamError(f"environment variable TRAINYARD_ENGINE must be `processes` or `ray`, got {engine!r}")
    workers, source = worker_count(), iter(batches)
    first: list[B] = []
    if workers > 1:
        held = 0
        while held <= MANY and len(first) < FEW and (batch := next(source, None)) is not None:
            first.append(batch)
            held += getattr(batch, "nbytes", 0)
    if workers > 1 and (len(first) == FEW or held > MANY):
        return _in_processes(function, chain(first, source), context, workers)
    return (function(batch, context) for batch in chain(first, source))


@lru_cache(maxsize=1)
def _read_context(path: Path) -> Any:
    with path.open("rb") as handle:
        return pickle.load(handle)  # written by the parent process a moment ago


def _work(function: Callable[[Any, Any], Any], batch: Any, context: Path) -> Any:
    return function(batch, _read_context(context))


def _end_with_parent(folder: Path) -> None:
    """In a worker: end when the parent does, however it does. A killed one tells nobody, and leaves its folder."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _workers(count: int) -> Pool:
    global _pool
    if _pool is None or _pool.workers != count:
        folder = Path(tempfile.mkdtemp(prefix="trainyard-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        # Spawned: forking a process that runs Arrow's threads may deadlock.
        executor = ProcessPoolExecutor(
            count,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_end_with_parent,
            initargs=(folder,),
        )
        _pool = Pool(count, executor, folder)
    return _pool


def _name(function: Callable[..., Any]) -> str:
    """The module of a function; of a stage that was started with `-m` its own name, not `__main__`."""
    spec = getattr(sys.modules.get(function.__module__), "__spec__", None)
    return spec.name if spec else function.__module__


def _in_processes(function: Callable[[B, C], R], batches: Iterable[B], context: C, workers: int) -> Iterator[R]:
    global _pool
    under_way: deque[Future[R]] = deque()
    # A context may be large (a model, an index): it goes through a file that each worker reads once.
    pool = _workers(workers)
    with tempfile.NamedTemporaryFile(dir=pool.folder, suffix=".pickle") as handle:
        pickle.dump(context, handle, pickle.HIGHEST_PROTOCOL)
        handle.flush()
        shared = Path(handle.name)
        try:
            for batch in batches:
                under_way.append(pool.executor.submit(_work, function, batch, shared))
                if len(under_way) >= workers * AHEAD:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        except BrokenProcessPool:
            _pool = None
            raise ResourceError(
                f"a worker process of {_name(function)} was killed, most likely for memory; set TRAINYARD_WORKERS lower"
            ) from None
        finally:
            for future in under_way:
                future.cancel()
            wait(under_way)  # none may still read the context


def _on_ray(function: Callable[[B, C], R], batches: Iterable[B], context: C) -> Iterator[R]:
    import ray

    if not ray.is_initialized():
        ray.init(log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    remote = ray.remote(max_retries=3)(function)
    shared = ray.put(context)
    limit = max(1, int(ray.cluster_resources().get("CPU", 1))) * AHEAD
    under_way: deque[Any] = deque()
    try:
        for batch in batches:
            under_way.append(remote.remote(batch, shared))
            if len(under_way) >= limit:
                yield ray.get(under_way.popleft())
        while under_way:
            yield ray.get(under_way.popleft())
    except ray.exceptions.RayTaskError as error:
        raise error.cause if isinstance(error.cause, Exception) else error from None
    except ray.exceptions.RayError as error:
        raise ResourceError(f"Ray could not finish a batch of {_name(function)}: {error}") from None
