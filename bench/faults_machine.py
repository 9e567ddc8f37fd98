"""A machine that refuses: `python bench/faults_machine.py FOLDER [--only ROW …]`.

FOLDER is a copy of a finished pipeline that may be written to. Stages run as forks of this process, each under one
limit; each must end with status 0 and the bytes that stand there, or with status 2, one line and no file changed, and
without the limit give the same bytes again. One line a row:

limits    address space, largest file, file descriptors, folder for temporary files, /dev/shm, a clock that goes back
readonly  data/ or .trainyard/ on a file system that can't be written (needs leave to mount)
signals   SIGTERM and SIGINT while pretraining runs: seconds until it has ended, and whether it goes on from its state
same      hash seed, locale, time zone, umask, 1, 2 and 7 workers: the bytes that stand there
"""

import argparse
import collections
import ctypes
import json
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.faults.campaign import ALONE, Campaign  # noqa: E402  (the path is the project's root)

QUICK = ["ingest", "screen", "dedup", "heuristics", "quality", "domains", "decontaminate", "pack", "plan", "fit",
         "judge@sft", "agreement", "leaderboard", "training_report"]  # fmt: skip
MIB = 1 << 20
NEW_MOUNTS, PRIVATE, READ_ONLY, REMOUNT, BIND = 0x20000, 0x44000, 1, 32, 4096  # of Linux's sched.h and mount.h


def limit(kind: int, value: int) -> Callable[[], object]:
    return lambda: resource.setrlimit(kind, (value, value))


def more_memory(amount: int) -> Callable[[], object]:
    def work() -> None:
        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + amount, now + amount))

    return work


def clock_goes_back() -> None:
    """Each look at the clock an hour before the last."""
    start, looks = time.time(), iter(range(10**9))
    time.time = lambda: start - 3600.0 * next(looks)  # type: ignore[assignment]
    time.time_ns = lambda: int(1e9 * time.time())  # type: ignore[assignment]


def mount(*arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    encoded = [one.encode() if isinstance(one, str) else one for one in arguments]
    if libc.mount(*encoded) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(arguments[1]))


def own_mounts() -> None:
    """What this process mounts from now on, no other sees, and it ends with it."""
    if ctypes.CDLL(None, use_errno=True).unshare(NEW_MOUNTS) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    mount("none", "/", None, PRIVATE, None)


def without_shared_memory() -> None:
    own_mounts()
    mount("none", "/dev/shm", "tmpfs", READ_ONLY, None)


def read_only(folder: str) -> Callable[[], object]:
    def work() -> None:
        own_mounts()
        mount(folder, folder, None, BIND, None)
        mount(folder, folder, None, BIND | REMOUNT | READ_ONLY, None)

    return work


def elsewhere() -> None:
    time.tzset()
    os.umask(0o077)


LIMITS: dict[str, Callable[[], object]] = {
    **{f"{mib} MiB of memory more": more_memory(mib * MIB) for mib in (1, 16, 64)},
    **{f"files of {kib} KiB at most": limit(resource.RLIMIT_FSIZE, kib << 10) for kib in (0, 1, 8, 64)},
    **{f"{count} descriptors": limit(resource.RLIMIT_NOFILE, count) for count in (6, 12)},
    "no folder for temporary files": lambda: os.environ.update(TMPDIR="/nonexistent"),
    "no /dev/shm": without_shared_memory,
    "a clock that goes back": clock_goes_back,
}
ENVIRONMENTS: dict[str, tuple[dict[str, str], Callable[[], object]]] = {
    "C locale, UTC+14, umask 077": (
        {"LC_ALL": "C", "TZ": "Pacific/Kiritimati"},
        elsewhere,
    ),
    "1 worker": ({"TRAINYARD_WORKERS": "1"}, lambda: None),
    "2 workers": ({"TRAINYARD_WORKERS": "2"}, lambda: None),
    "7 workers": ({"TRAINYARD_WORKERS": "7"}, lambda: None),
    "one core": ({"TRAINYARD_WORKERS": "2"}, lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})),
}


class Machine:
    def __init__(self, folder: Path, labels: list[str]) -> None:
        self.campaign = Campaign(folder)
        self.labels = labels
        for label in labels:  # under today's code, so that later runs differ by their limit only
            self.again(label)
        self.campaign.expected = self.campaign.files()

    def again(self, label: str) -> None:
        ended = self.campaign.run(label)
        if ended.status != 0:
            raise RuntimeError(f"{label}: {ended.status} {ended.said[-500:]}")

    def _try(self, label: str, before: Callable[[], object], environment: dict[str, str] | None = None) -> str:
        ended = self.campaign.run(label, before=before, environment=environment)
        if changed := self.campaign.differences():
            self.again(label)
            return f"wrong: {label} ended with {ended.status}, files changed: {changed[:3]}"
        if ended.status not in (0, 2) or (ended.status == 2 and not ended.line):
            return f"unclear: {label} ended with {ended.status} {ended.said[-400:]}"
        return "went through" if ended.status == 0 else "one line"

    def limits(self) -> Iterator[str]:
        for name, before in LIMITS.items():
            for label in self.labels:
                outcome = self._try(label, before)
                yield f"{outcome} ({name})" if ":" in outcome else outcome

    def readonly(self) -> Iterator[str]:
        for label in self.labels:
            for folder in ("data", ".trainyard"):
                yield self._try(label, read_only(folder))

    def signals(self, tries: int = 10) -> Iterator[str]:
        for count in range(tries):
            number = (signal.SIGTERM, signal.SIGINT)[count % 2]
            sent, said = 0.0, self.campaign.notes / "said.txt"

            def meanwhile(child: int, number: int = number, count: int = count, said: Path = said) -> None:
                nonlocal sent
                give_up = time.monotonic() + 120
                while "tok/s" not in said.read_text(errors="replace") and time.monotonic() < give_up:
                    time.sleep(0.1)
                time.sleep(random.Random(count).uniform(0.0, 3.0))
                sent = time.monotonic()
                os.kill(child, number)

            ended = self.campaign.run("pretrain", meanwhile=meanwhile)
            took = time.monotonic() - sent
            states = list((self.campaign.folder / ".trainyard/checkpoints").glob("pretraining.pretrain@*/*/state.bin"))
            if ended.status != 128 + number or not ended.line or took > 10 or not states:
                yield f"unclear: {ended.status} after {took:.1f} s, {len(states)} states; {ended.said[-300:]}"
            elif changed := self.campaign.differences():
                yield f"wrong: {changed[:3]}"
            else:
                yield f"stopped within {1 + int(took)} s, state kept"

    def same(self) -> Iterator[str]:
        for name, (environment, before) in ENVIRONMENTS.items():
            for label in self.labels:
                outcome = self._try(label, before, environment)
                yield f"{outcome} ({name})" if ":" in outcome else outcome


def main() -> None:
    rows = ["limits", "readonly", "signals", "same"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="+", default=rows, choices=rows, metavar="ROW")
    parser.add_argument("--stages", nargs="+", default=QUICK, metavar="LABEL")
    asked = parser.parse_args()
    os.environ.update(ALONE)
    machine = Machine(asked.folder.resolve(), asked.stages)
    for row in asked.only:
        start, told = time.monotonic(), []
        counts: collections.Counter[str] = collections.Counter()
        for outcome in getattr(machine, row)():
            counts[outcome.partition(":")[0]] += 1
            told += [outcome] if ":" in outcome else []
        print(json.dumps({"row": row, **counts, "seconds": round(time.monotonic() - start, 1)}), flush=True)
        for outcome in told:
            print("  " + " ".join(outcome.split())[:500], flush=True)


if __name__ == "__main__":
    main()
