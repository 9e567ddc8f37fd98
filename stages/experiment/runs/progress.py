"""One page of what is going on: runs of each claim, instances run, reused and left, what runs now, the time left."""

import sys
import time
from collections.abc import Callable
from typing import TextIO

from stages.experiment.runs.plan import Plan
from stages.experiment.runs.scheduler import Tally

ROWS = 24  # of claims on the page; the others are counted


class ProgressPage:
    """On a terminal the page is redrawn; in a log it is a line at most every 10 seconds."""

    def __init__(self, forecast: Callable[[], Plan], workers: int, out: TextIO | None = None) -> None:
        """forecast: what is left to run now; asked seldom enough to cost nothing that matters."""
        self._forecast, self._workers, self._out = forecast, workers, out or sys.stderr
        self._terminal = self._out.isatty()
        self._interval = 0.5 if self._terminal else 10.0
        self._start = time.monotonic()
        self._shown = self._start if not self._terminal else 0.0
        self._drawn = 0
        self._asked = self._pause = 0.0
        self._plan = Plan()
        self._executed_then = 0

    def show(self, tally: Tally) -> None:
        now = time.monotonic()
        if now - self._shown < self._interval:
            return
        self._shown = now
        if now - self._asked > self._pause:
            begin = time.perf_counter()
            self._plan = self._forecast()
            self._pause = max(5.0, 40 * (time.perf_counter() - begin))
            self._asked, self._executed_then = now, len(tally.executed)
        lines = self._lines(tally, now)
        if self._terminal:
            up = f"\x1b[{self._drawn}F" if self._drawn else ""
            self._out.write(up + "".join(f"\x1b[2K{line}\n" for line in lines))
            if self._drawn > len(lines):
                self._out.write("\x1b[0J")
            self._drawn = len(lines)
        else:
            self._out.write(lines[0] + "\n")
        self._out.flush()

    def _lines(self, tally: Tally, now: float) -> list[str]:
        runs, ended = sum(total for _, total in tally.runs.values()), sum(done for done, _ in tally.runs.values())
        since = tally.executed[self._executed_then :]
        left = max(0, len(self._plan.to_run) - len(since))
        own = {one.key for one in tally.executed}
        reused = sum(one.key not in own for one in self._plan.reused)
        expected = sum(one.wall_seconds or 0.0 for one in self._plan.to_run)
        seconds = expected - sum(one.wall_seconds or 0.0 for one in since)
        untimed = any(one.wall_seconds is None for one in self._plan.to_run)
        eta = f", {'more than ' * untimed}{clock(seconds / self._workers)} left" if left and seconds > 0 else ""
        failed = f", {len(tally.failed)} failed" if tally.failed else ""
        running = ", ".join(label for label, _ in tally.running)
        lines = [
            f"experiments: {ended} of {runs} runs{failed}; stages: {len(tally.executed)} run, "
            f"{reused} reused, {left} left; {clock(now - self._start)}{eta}"
            + (f"; now {running}" if running and not self._terminal else "")
        ]
        if not self._terminal:
            return lines
        for label, start in tally.running:
            lines.append(f"  {label}  {clock(now - start)}")
        if tally.elsewhere:
            lines.append(f"  {tally.elsewhere} more in another runner")
        width = max(map(len, tally.runs), default=0)
        for name, (done, total) in list(tally.runs.items())[:ROWS]:
            bar = "█" * round(20 * done / total)
            lines.append(f"{name:{width}}  {bar:20}  {done} of {total}")
        if len(tally.runs) > ROWS:
            lines.append(f"and {len(tally.runs) - ROWS} more claims")
        return lines


def clock(seconds: float) -> str:
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s"
