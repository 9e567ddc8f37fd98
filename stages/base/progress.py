"""A progress line on stderr with rate and time left; silent work over a few seconds is a defect."""

import sys
import time
from types import TracebackType

from stages.base.workers import is_follower


class Progress:
    """`with Progress(total, "tokenizing", unit="docs") as bar: bar.advance(1, loss=2.3)`.

    `total` is None where nobody can know it: then no time left is shown. The unit `bytes` is shown in megabytes.
    On a terminal the line is redrawn; in a log it is printed at most every 15 seconds. Of several processes that train
    together, one speaks. Of an `alone` one the parts of the work show no line of their own.
    """

    _alone: "Progress | None" = None

    def __init__(
        self, total: int | None, label: str, unit: str = "items", silent: bool = False, alone: bool = False
    ) -> None:
        self.silent = silent or is_follower()
        self.alone = alone
        self.total, self.label, self.unit = total, label, unit
        self.done = 0
        self._values: dict[str, float] = {}
        self._terminal = sys.stderr.isatty()
        self._interval = 0.2 if self._terminal else 15.0

    def __enter__(self) -> "Progress":
        self._start = self._shown = time.monotonic()
        self._first = self.done
        if self.alone:
            Progress._alone = self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.alone:
            Progress._alone = None
        if kind is None and time.monotonic() - self._start > 2:
            self._show(last=True)

    def start_at(self, done: int) -> None:
        """Work that a resumed run finds already done; it doesn't count towards the rate."""
        self.done = self._first = done

    def advance(self, count: int = 1, **values: float) -> None:
        self.done += count
        self._values = values
        if time.monotonic() - self._shown >= self._interval:
            self._show()

    def _show(self, last: bool = False) -> None:
        self._shown = time.monotonic()
        if self.silent or Progress._alone not in (None, self):
            return
        elapsed = self._shown - self._start
        rate = (self.done - self._first) / elapsed if elapsed > 0 else 0.0
        known = self.total is not None and rate > 0 and not last
        left = f", {_clock((self.total - self.done) / rate)} left" if known else ""  # type: ignore[operator]
        values = "".join(f", {name} {value:.4g}" for name, value in self._values.items())
        line = f"{self.label}: {self._amount()}, {self._rate(rate)}{values}, {_clock(elapsed)}{left}"
        end = "\n" if last or not self._terminal else ""
        sys.stderr.write(("\r\x1b[2K" if self._terminal else "") + line + end)
        sys.stderr.flush()

    def _amount(self) -> str:
        numbers = [self.done] if self.total is None else [self.done, self.total]
        if self.unit == "bytes":
            return "/".join(f"{number / 1e6:,.1f}" for number in numbers) + " MB"
        return "/".join(f"{number:,}" for number in numbers) + f" {self.unit}"

    def _rate(self, rate: float) -> str:
        if self.unit == "bytes":
            return f"{rate / 1e6:,.1f} MB/s"
        return f"{1 / rate:.1f} s each" if 0 < rate < 1 else f"{rate:,.0f}/s"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s"
