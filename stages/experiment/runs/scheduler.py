"""Runs brought to their end: every instance that is missing is executed once, however many runs and runners want it.

An instance is claimed by a lock on a file, which lasts as long as its process: of two runners at once one executes it,
the other waits for the result. Whatever is killed, a result is either whole or not there, and the next runner goes on.
"""

import fcntl
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stages.base.errors import InputError, TrainyardError
from stages.experiment.runs.graph import Graph, Place, Run, resolve, shape_of_place
from stages.experiment.runs.objects import MissingObject
from stages.experiment.runs.results import PARAMS, Result, Store
from stages.experiment.runs.sandbox import collect, discard, last_words, prepare
from stages.experiment.runs.workers import Ended, Job, Workers

GLANCE = 0.5  # seconds between looks at what another runner works on


@dataclass
class Finished:
    """What became of a run."""

    run: Run
    keys: dict[str, str]
    """Label of an instance → its key, as far as they are known."""
    failed: str = ""
    """The label of the instance that failed; "" for a run that has all it wants."""
    reason: str = ""


@dataclass
class Task:
    """An instance that some runs wait for."""

    key: str
    run: Run
    place: Place
    urgency: float
    """Seconds from its start to the end of the longest path behind it."""
    waiting: dict[Run, None] = field(default_factory=dict)
    job: Job | None = None
    lock: int | None = None
    started: float = 0.0
    retry: float = 0.0
    """When to look again whether another runner has made it."""


@dataclass
class Tally:
    """What the progress page shows."""

    runs: dict[str, list[int]] = field(default_factory=dict)
    """Claim → runs that have ended, runs in all."""
    failed: list[Finished] = field(default_factory=list)
    executed: list[Result] = field(default_factory=list)
    running: list[tuple[str, float]] = field(default_factory=list)
    """Label, and when it started (monotonic seconds)."""
    elsewhere: int = 0


class Scheduler:
    """Executes what some runs need, on some workers."""

    def __init__(self, runs: Sequence[Run], store: Store, workers: Workers) -> None:
        self._store, self._workers = store, workers
        self._open: dict[Run, None] = dict.fromkeys(runs)
        self._tasks: dict[str, Task] = {}
        self._running: dict[str, Task] = {}
        self._failures: dict[str, tuple[str, str]] = {}  # key → label, reason
        self._ended: dict[Run, Finished] = {}
        self._tails: dict[tuple[int, tuple[str, ...]], list[float]] = {}
        self.tally = Tally()
        for run in runs:
            self.tally.runs.setdefault(run.claim, [0, 0])[1] += 1

    @property
    def open_runs(self) -> list[Run]:
        return list(self._open)

    def run(self, done: Callable[[Finished], None], glance: Callable[[Tally], None]) -> list[Finished]:
        """Until every run has ended; `done` hears of each, `glance` is called a few times a second."""
        order = list(self._open)
        try:
            for run in order:
                self._advance(run, done)
            while self._open:
                self._start(done)
                self.tally.running = [(task.place.instance.label, time.monotonic()) for task in self._running.values()]
                glance(self.tally)
                for ended in self._workers.wait(GLANCE if self._running else GLANCE / 5):
                    self._finish(ended, done)
        finally:
            self._workers.close()
            for task in self._tasks.values():
                _release(task)
        return [self._ended[run] for run in order]

    def _advance(self, run: Run, done: Callable[[Finished], None]) -> None:
        """Find out what a run waits for now."""
        try:
            resolved = resolve(run, self._store)
        except InputError as error:
            self._end(Finished(run, {}, "dvc.yaml", str(error)), done)
            return
        keys = {place.instance.label: place.key for place in resolved.places if place.key}
        if resolved.done:
            self._end(Finished(run, keys), done)
            return
        if not resolved.ready:
            raise RuntimeError(f"{run.name}: nothing can run, and {len(resolved.needed)} instances have to")
        for index in resolved.ready:
            place = resolved.places[index]
            assert place.key is not None
            if failure := self._failures.get(place.key):
                self._end(Finished(run, keys, *failure), done)
                return
        for index in resolved.ready:
            place = resolved.places[index]
            assert place.key is not None
            task = self._tasks.get(place.key)
            if task is None:
                tail = self._tail(run.graph, run.scale)[index]
                task = self._tasks[place.key] = Task(place.key, run, place, tail)
            task.waiting[run] = None

    def _end(self, finished: Finished, done: Callable[[Finished], None]) -> None:
        run = finished.run
        del self._open[run]
        self._ended[run] = finished
        for task in list(self._tasks.values()):
            task.waiting.pop(run, None)
            if not task.waiting and task.key not in self._running:
                del self._tasks[task.key]
        self.tally.runs[run.claim][0] += 1
        if finished.failed:
            self.tally.failed.append(finished)
        done(finished)

    def _tail(self, graph: Graph, scale: tuple[str, ...]) -> list[float]:
        """Of each instance, the seconds until all that stands on it has run one after another."""
        key = (id(graph), scale)
        if key not in self._tails:
            behind = [0.0] * len(graph.instances)
            for index in reversed(range(len(graph.instances))):
                one = graph.instances[index]
                behind[index] += (self._store.seconds(one.label, one.cmd, scale) or (1.0, 1.0))[1]
                for source in graph.sources[index]:
                    for maker, _, _ in source.makers:
                        behind[maker] = max(behind[maker], behind[index])
            self._tails[key] = behind
        return self._tails[key]

    def _start(self, done: Callable[[Finished], None]) -> None:
        now = time.monotonic()
        for task in self._in_turn(now):
            if len(self._running) >= self._workers.count:
                break
            if task.key not in self._tasks:  # a run that failed a moment ago was the last to want it
                continue
            task.lock = claim(self._store.folder / "locks" / task.key)
            if task.lock is None:
                task.retry = now + GLANCE
                continue
            if self._made(task):
                self._settle(task, done)
                continue
            try:
                task.job = prepare(task.run, task.place, self._store)
            except MissingObject:  # the cache was emptied since: what wrote it is to run again
                self._store.objects.forget()
                self._settle(task, done)
                continue
            except TrainyardError as error:
                self._fail(task, str(error), done)
                continue
            task.started = time.monotonic()
            self._running[task.key] = task
            self._workers.start(task.job, task.lock)
        self.tally.elsewhere = sum(task.retry > now for task in self._tasks.values())

    def _in_turn(self, now: float) -> list[Task]:
        """Those that may start. First what would be the last to end, however soon it starts: the longest path. All else
        by what is nearest to its end, so that runs end one after another and not all in the last minute."""
        idle = [task for task in self._tasks.values() if task.key not in self._running and task.retry <= now]
        share = sum(task.urgency for task in self._tasks.values()) / self._workers.count
        late = sorted((task for task in idle if task.urgency >= share), key=lambda task: -task.urgency)
        return late + sorted((task for task in idle if task.urgency < share), key=lambda task: task.urgency)

    def _made(self, task: Task) -> bool:
        """Whether another runner has made it in the meantime."""
        result = self._store.look_again(task.key)
        cached = [md5 for out, md5 in result.outs.items() if out not in result.uncached] if result else []
        return result is not None and all(self._store.objects.has(md5) for md5 in cached)

    def _finish(self, ended: Ended, done: Callable[[Finished], None]) -> None:
        task = self._running.pop(ended.key)
        assert task.job is not None
        if ended.status != 0:
            self._fail(task, last_words(task.job, ended.status), done)
            return
        try:
            outs = collect(task.job, task.place, self._store)
        except InputError as error:
            self._fail(task, str(error), done)
            return
        one = task.place.instance
        sizes = {out: self._store.objects.size(md5) for out, md5 in outs.items()}
        result = Result(
            task.key,
            one.label,
            outs,
            one.uncached,
            sizes,
            ended.cpu_seconds,
            ended.wall_seconds,
            ended.peak_rss_mib,
            first_claim=task.run.claim,
        )
        facts = {
            "name": one.name,
            "cmd": one.cmd,
            "deps": task.place.deps,
            "params": list(one.params),
            "scale": list(task.run.scale),
            "first_run": {"arm": task.run.arm, "seed": dict(task.run.seed)},
        }
        self._store.put(result, facts)
        if PARAMS in task.place.deps:
            self._store.put_shape(shape_of_place(task.run, task.place), outs)
        self._store.note_timing(one.label, one.cmd, task.run.scale, ended.cpu_seconds, ended.wall_seconds)
        self.tally.executed.append(result)
        discard(task.job)
        self._settle(task, done)

    def _fail(self, task: Task, reason: str, done: Callable[[Finished], None]) -> None:
        self._failures[task.key] = (task.place.instance.label, reason)
        self._settle(task, done)

    def _settle(self, task: Task, done: Callable[[Finished], None]) -> None:
        """The instance has ended, one way or the other: the runs that waited for it go on."""
        _release(task)
        self._tasks.pop(task.key, None)
        for run in list(task.waiting):
            if run in self._open:
                self._advance(run, done)


def claim(path: Path) -> int | None:
    """A descriptor that holds the lock of this file; None where somebody else does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _release(task: Task) -> None:
    if task.lock is not None:
        os.close(task.lock)
        task.lock = None
