"""How many processes to use: from the environment, and never part of a result's identity."""

import os

from stages.base.errors import ParamError


def worker_count() -> int:
    """Worker processes: TRAINYARD_WORKERS, else the CPUs that this process may use."""
    value = os.environ.get("TRAINYARD_WORKERS")
    if value is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not value.isdigit() or int(value) < 1:
        raise ParamError(f"environment variable TRAINYARD_WORKERS must be a positive integer, got {value!r}")
    return int(value)


def process_count() -> int:
    """Processes that train one model together, as torchrun tells each of them; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_follower() -> bool:
    """Whether another of these processes (rank 0) writes the results, the records and the progress line."""
    return int(os.environ.get("RANK", "0")) > 0
