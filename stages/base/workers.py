"""How many processes and threads to use: from the environment, and never part of a result's identity.

Training is the exception: float sums depend on the thread count, so it enters the fingerprint of a training run.
"""

import os

from stages.base.errors import ParamError


def _from_environment(name: str) -> int:
    value = os.environ.get(name)
    if value is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not value.isdigit() or int(value) < 1:
        raise ParamError(f"environment variable {name} must be a positive integer, got {value!r}")
    return int(value)


def worker_count() -> int:
    """Worker processes: TRAINYARD_WORKERS, else the CPUs this process may use."""
    return _from_environment("TRAINYARD_WORKERS")


def thread_count() -> int:
    """Compute threads: TRAINYARD_THREADS, else this process's part of the CPUs that it may use."""
    threads = _from_environment("TRAINYARD_THREADS")
    shared = 1 if "TRAINYARD_THREADS" in os.environ else int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, threads // shared)


def process_count() -> int:
    """Processes that train one model together, as torchrun tells each of them; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_follower() -> bool:
    """Whether another of these processes (rank 0) writes the results, the records and the progress line."""
    return int(os.environ.get("RANK", "0")) > 0
