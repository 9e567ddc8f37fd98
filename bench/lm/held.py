"""Steps that stand still between two commands.

A contender reads lines from standard input, each a number of steps to take, and answers each with one line of JSON:
what the steps before it took.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def resident_mib() -> float:
    """The largest resident set of this process so far."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024


class Held:
    """clock: now, in seconds; answer: what is said of the seconds since the last command."""

    def __init__(self, clock: Callable[[], float], answer: Callable[[float], dict[str, Any]], first: int = 1) -> None:
        self.clock, self.answer, self.left = clock, answer, first
        self.began = clock()

    def next(self) -> int:
        """Answers, and waits for the next command; ends the process where there is none."""
        print(json.dumps(self.answer(self.clock() - self.began)), flush=True)
        line = sys.stdin.readline()
        if not line:
            os._exit(0)
        self.began = self.clock()
        return int(line)

    def on_step(self, _: int) -> None:
        """For `stages.lm.loop.train`: holds it after its `first` steps, then after as many as each command says."""
        self.left -= 1
        if self.left == 0:
            self.left = self.next()
