"""Hostile inputs by the hundred thousand to every reader of something from outside: `python bench/fuzz.py`.

Inputs are bent from whole ones (tests/faults/fuzzing.py), each a function of the target's name and a number. A target
runs in a forked process: one that is killed, or that works on an input for longer than PATIENCE, costs that input and
is a fault like an error that isn't the target's own. Progress is kept in a file, and a later call goes on from there.

    python bench/fuzz.py --minutes 5            # for each target, in turns
    python bench/fuzz.py --only WARC,HTML --inputs 100000
    python bench/fuzz.py --again "WARC" 4711    # one input, with its traceback
    python bench/fuzz.py --minutes 0            # the table of what has run
"""

import argparse
import json
import mmap
import os
import resource
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from stages.base.files import write_json  # noqa: E402
from tests.faults.fuzzing import TARGETS, Target, input_of, inputs  # noqa: E402

PATIENCE = 10.0  # CPU seconds of an input
STUCK = 60.0  # seconds of wall clock without an input done, in C code that no alarm interrupts
TURN = 15.0  # seconds of a target before the next has its turn
MEMORY = 6 << 30
Counts = dict[str, Any]


class Hang(BaseException):
    """An input took longer than PATIENCE."""


def work(name: str, target: Target, start: int, seconds: float, most: int, place: mmap.mmap, told: int) -> None:
    """The forked process: where it is stands in `place`, what it found goes to `told`, a line for each finding."""

    def stop(number: int, frame: object) -> None:
        raise Hang

    def tell(**found: object) -> None:
        os.write(told, (json.dumps(found) + "\n").encode())

    signal.signal(signal.SIGPROF, stop)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    end, read, refused, slowest = time.monotonic() + seconds, 0, 0, (0.0, start)
    for number, data in inputs(name, target, start):
        if time.monotonic() > end or read + refused >= most:
            break
        place[:8] = number.to_bytes(8, "little")
        begun = time.process_time()
        try:
            signal.setitimer(signal.ITIMER_PROF, PATIENCE)
            target.read(data)
            signal.setitimer(signal.ITIMER_PROF, 0)
            read += 1
        except Hang:
            tell(number=number, fault="hang")
        except BaseException as error:
            signal.setitimer(signal.ITIMER_PROF, 0)
            refused += 1
            if not target.expected(error):
                tell(number=number, fault=f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
        slowest = max(slowest, (time.process_time() - begun, number))
    tell(next=number, read=read, refused=refused, slowest=slowest)


def turn(name: str, target: Target, counts: Counts, seconds: float, most: int) -> None:
    """One target for some seconds, in a fork; `counts` is brought up to date."""
    place = mmap.mmap(-1, 8)
    place[:8] = counts["next"].to_bytes(8, "little")
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ours)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        try:
            work(name, target, counts["next"], seconds, most, place, theirs)
        finally:
            os._exit(0)
    os.close(theirs)
    text, at, since, stuck = b"", -1, time.monotonic(), False
    os.set_blocking(ours, False)
    while True:
        try:
            piece = os.read(ours, 1 << 16)
            text += piece
            if not piece:
                break
        except BlockingIOError:
            time.sleep(0.05)
        here = int.from_bytes(place[:8], "little")
        if here != at:
            at, since = here, time.monotonic()
        elif time.monotonic() - since > STUCK and not stuck:
            stuck = True
            os.kill(child, signal.SIGKILL)
    os.close(ours)
    status = os.waitpid(child, 0)[1]
    whole = False
    for line in text.splitlines():
        found = json.loads(line)
        if "fault" in found:
            counts["faults"].append([found["number"], found["fault"]])
        else:
            whole = True
            counts["read"] += found["read"]
            counts["refused"] += found["refused"]
            counts["inputs"] += found["next"] - counts["next"]
            counts["next"] = found["next"]
            counts["slowest"] = max(counts["slowest"], found["slowest"])
    if not whole:
        last = int.from_bytes(place[:8], "little")
        counts["faults"].append([last, "hang in C" if stuck else f"killed by signal {os.WTERMSIG(status)}"])
        counts["inputs"] += last + 1 - counts["next"]
        counts["next"] = last + 1


def table(state: dict[str, Counts]) -> str:
    lines = [
        "| target | inputs | read | refused in a line | uncaught | hangs | slowest, s |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, one in [*state.items(), ("all", total(state))]:
        hangs = sum(fault.startswith("hang") for _, fault in one["faults"])
        lines.append(
            f"| {name} | {one['inputs']:,} | {one['read']:,} | {one['refused']:,} | {len(one['faults']) - hangs} | "
            f"{hangs} | {one['slowest'][0]:.2f} |"
        )
    for name, one in state.items():
        kinds: dict[str, list[int]] = {}
        for number, fault in one["faults"]:
            kinds.setdefault(fault[:120], []).append(number)
        lines += [f"{name}: {kind} ({len(found)}, as of input {found[0]})" for kind, found in kinds.items()]
    return "\n".join(lines)


def total(state: dict[str, Counts]) -> Counts:
    sums: Counts = {key: sum(one[key] for one in state.values()) for key in ("inputs", "read", "refused")}
    sums["faults"] = [fault for one in state.values() for fault in one["faults"]]
    sums["slowest"] = max((one["slowest"] for one in state.values()), default=[0.0, 0])
    return sums


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0, help="of each target, those of earlier calls not counted")
    parser.add_argument("--inputs", type=int, default=1 << 60, help="of each target, those of earlier calls counted")
    parser.add_argument("--only", help=f"some of: {', '.join(TARGETS)}")
    parser.add_argument("--again", nargs=2, metavar=("TARGET", "NUMBER"), help="read one input, with its traceback")
    parser.add_argument("--state", type=Path, default=ROOT / ".trainyard" / "fuzz.json", help="where progress is kept")
    options = parser.parse_args()
    os.chdir(ROOT)
    if options.again:
        name, number = options.again
        data = input_of(name, target := TARGETS[name](), int(number))
        print(repr(data[:2000]))
        print(target.read(data))
        return
    state: dict[str, Counts] = json.loads(options.state.read_text()) if options.state.exists() else {}
    names = options.only.split(",") if options.only else list(TARGETS)
    targets = {name: TARGETS[name]() for name in names} if options.minutes else {}
    for target in targets.values():  # what is loaded once is loaded before the forks
        with suppress(Exception):
            target.read(target.seeds[0])
    spent = dict.fromkeys(targets, 0.0)
    while open_ones := [
        name
        for name in targets
        if spent[name] < 60 * options.minutes and state.get(name, {"inputs": 0})["inputs"] < options.inputs
    ]:
        for name in open_ones:
            empty = {"inputs": 0, "next": 0, "read": 0, "refused": 0, "faults": [], "slowest": [0.0, 0]}
            counts = state.setdefault(name, empty)
            seconds = min(TURN, 60 * options.minutes - spent[name])
            begun = time.monotonic()
            turn(name, targets[name], counts, seconds, options.inputs - counts["inputs"])
            spent[name] += time.monotonic() - begun
            write_json(options.state, state)
    print(table(state))


if __name__ == "__main__":
    main()
