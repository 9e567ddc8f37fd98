"""Where stage instances run: in forks of a warm process (`host.py`), one such process a code root, or as Ray tasks.

`TRAINYARD_ENGINE` says which, as for the stages themselves (`base.engine`). An instance has one thread and one worker:
the scheduler runs as many at once as there are workers.
"""

import json
import logging
import os
import resource
import selectors
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from stages.base.errors import ParamError, ResourceError
from stages.base.workers import can_fork, worker_count

HOST = Path(__file__).with_name("host.py")
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "RAYON_NUM_THREADS"), "1"
)
QUIET = {"TRAINYARD_TRACK": "off", "TRAINYARD_WORKERS": "1", "TRAINYARD_ENGINE": "processes"}


@dataclass(frozen=True)
class Job:
    """An instance to run."""

    key: str
    label: str
    module: str
    arguments: tuple[str, ...]
    root: Path
    """Whose code."""
    folder: Path
    """Where it stands: its sandbox."""
    logs: Path
    """Folder of `stdout` and `stderr`."""

    @property
    def environment(self) -> dict[str, str]:
        path = os.pathsep.join([str(self.root), *filter(None, [os.environ.get("PYTHONPATH")])])
        return {**ONE_THREAD, **QUIET, "DVC_STAGE": self.label, "PYTHONPATH": path}


@dataclass(frozen=True)
class Ended:
    key: str
    status: int
    """Exit status; minus the signal that killed it."""
    cpu_seconds: float
    wall_seconds: float
    peak_rss_mib: float


class Workers(Protocol):
    """As many instances at once as `count`."""

    count: int

    def start(self, job: Job, lock: int) -> None:
        """lock: a file descriptor whose lock lasts as long as the instance runs."""

    def wait(self, seconds: float) -> list[Ended]:
        """Those that ended; [] if none does within this time."""

    def close(self) -> None:
        """Kill what runs."""


def workers() -> Workers:
    """Raises ParamError for an unknown engine, ResourceError where forking isn't safe."""
    engine = os.environ.get("TRAINYARD_ENGINE", "processes")
    if engine == "ray":
        return Rays()
    if engine != "processes":
        raise ParamError(f"environment variable TRAINYARD_ENGINE must be `processes` or `ray`, got {engine!r}")
    if not can_fork():
        raise ResourceError("experiments fork their stages, which only Linux can; here set TRAINYARD_ENGINE=ray")
    return Forks(worker_count())


class Forks:
    """Forks of warm hosts."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._hosts: dict[Path, tuple[subprocess.Popen[bytes], socket.socket]] = {}
        self._running: dict[str, tuple[Path, float]] = {}
        self._selector = selectors.DefaultSelector()

    def start(self, job: Job, lock: int) -> None:
        if job.root not in self._hosts:
            self._open(job.root)
        message = {
            "id": job.key,
            "module": job.module,
            "arguments": job.arguments,
            "folder": str(job.folder),
            "env": job.environment,
            **{name: str(job.logs / name) for name in ("stdout", "stderr", "modules")},
        }
        self._running[job.key] = (job.root, time.monotonic())
        try:
            socket.send_fds(self._hosts[job.root][1], [json.dumps(message).encode()], [lock])
        except OSError:  # killed: `wait` reads that from the socket
            return

    def _open(self, root: Path) -> None:
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for name in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            here.setsockopt(socket.SOL_SOCKET, name, 1 << 20)
        with there:
            process = subprocess.Popen(
                [sys.executable, str(HOST), str(there.fileno()), str(root)],
                pass_fds=[there.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **ONE_THREAD, **QUIET},
            )
        self._hosts[root] = (process, here)
        self._selector.register(here, selectors.EVENT_READ, root)

    def wait(self, seconds: float) -> list[Ended]:
        ended: list[Ended] = []
        for key, _ in self._selector.select(seconds):
            data = self._hosts[key.data][1].recv(1 << 20)
            if data:
                told = json.loads(data)
                self._running.pop(told["id"], None)
                ended.append(Ended(told["id"], told["status"], told["cpu"], told["wall"], told["rss"]))
            else:
                ended += self._lost(key.data)
        return ended

    def _lost(self, root: Path) -> list[Ended]:
        """A host was killed, and its children with it."""
        process, channel = self._hosts.pop(root)
        self._selector.unregister(channel)
        channel.close()
        process.wait()
        lost = [key for key, (place, _) in self._running.items() if place == root]
        return [Ended(key, -signal.SIGKILL, 0.0, time.monotonic() - self._running.pop(key)[1], 0.0) for key in lost]

    def close(self) -> None:
        for process, channel in self._hosts.values():
            channel.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._hosts.clear()
        self._selector.close()


class Rays:
    """Ray tasks; the project's folder is one that all nodes see."""

    def __init__(self) -> None:
        import ray

        if not ray.is_initialized():
            ray.init(log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
        self._ray = ray
        self.count = max(1, int(ray.cluster_resources().get("CPU", 1)))
        self._running: dict[Any, str] = {}

    def start(self, job: Job, lock: int) -> None:
        self._running[self._ray.remote(num_cpus=1, max_retries=0)(_on_ray).remote(job)] = job.key

    def wait(self, seconds: float) -> list[Ended]:
        if not self._running:
            time.sleep(seconds)
            return []
        done, _ = self._ray.wait(list(self._running), num_returns=1, timeout=seconds)
        ended = []
        for reference in done:
            key = self._running.pop(reference)
            try:
                ended.append(self._ray.get(reference))
            except self._ray.exceptions.RayError:
                ended.append(Ended(key, -signal.SIGKILL, 0.0, 0.0, 0.0))
        return ended

    def close(self) -> None:
        for reference in self._running:
            self._ray.cancel(reference, force=True)


def end_with_parent() -> None:
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _on_ray(job: Job) -> Ended:
    start = time.monotonic()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with (job.logs / "stdout").open("wb") as out, (job.logs / "stderr").open("wb") as errors:
        process = subprocess.run(
            [sys.executable, "-m", job.module, *job.arguments],
            cwd=job.folder,
            env={**os.environ, **job.environment},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=errors,
            preexec_fn=end_with_parent if can_fork() else None,
        )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Ended(job.key, process.returncode, cpu, time.monotonic() - start, after.ru_maxrss / 1024)
