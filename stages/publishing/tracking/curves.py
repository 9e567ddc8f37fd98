"""Curves of training: rows as they are written while a stage runs, and the finished `steps.jsonl` with their times.

A point is (metric, value, milliseconds since 1970, step). It is a function of the files alone: sent twice, it is the
same point, which MLflow's databases keep once.
"""

import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from stages.base.errors import InputError
from stages.base.files import read_json, read_jsonl
from stages.base.followers import STEPS
from stages.base.store import SIDE
from stages.publishing.lineage.records import Record

Row = dict[str, Any]
Point = tuple[str, float, int, int]
PREFIX = "curve/"
OF_PARTS = ("scaling.ladder",)  # stages whose parts have records, and so runs, of their own
CLOSE = 60.0  # seconds between a record and the timing of the same run


def label_of(log: Path, stage: str) -> str:
    """Whose curve a log is: that of a part, or of the stage whose folder it stands in."""
    return log.stem if stage in OF_PARTS else log.parent.name


class Tail:
    """Reads the rows that a growing log has gained. A stage that trains several times by one name starts anew at step
    0: its steps are counted on, as in its `steps.jsonl`."""

    def __init__(self, path: Path) -> None:
        self.path, self._offset, self._shift, self._last = path, 0, 0, -1

    def read(self) -> list[Row]:
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                text = file.read()
        except FileNotFoundError:
            return []
        whole = text[: text.rfind(b"\n") + 1]  # a line may be half-written
        self._offset += len(whole)
        return [self._counted_on(json.loads(line)) for line in whole.splitlines()]

    def _counted_on(self, row: Row) -> Row:
        if row["step"] + self._shift <= self._last:
            self._shift = self._last + 1
        self._last = row["step"] + self._shift
        return {**row, "step": self._last}


def logs_of(label: str) -> list[Path]:
    """The logs that a stage, or one part of it, wrote while it ran, the earliest first."""
    stage, _, item = label.partition("@")
    folder, pattern = (STEPS / stage, f"{stage}@{item}.jsonl") if stage in OF_PARTS else (STEPS / label, "*.jsonl")
    return sorted(folder.glob(pattern), key=_first_time)


def _first_time(log: Path) -> float:
    with log.open("rb") as file:
        try:
            return float(json.loads(file.readline())["time"])
        except (ValueError, KeyError):
            return math.inf


def points_of(row: Row, stamp: int, without: Iterable[str] = ()) -> list[Point]:
    """The finite numbers of a row."""
    known = {"step", "time", *without}
    return [
        (PREFIX + name, float(value), stamp, int(row["step"]))
        for name, value in sorted(row.items())
        if name not in known and isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    ]


def times_of(record: Record) -> tuple[float, float]:
    """When the stage began and ended, seconds since 1970; the end twice where nothing tells when it began."""
    end = record.path.stat().st_mtime
    for name, key in ((f"{record.label}.json", "wall_seconds"), (f"{record.label}.train.json", "seconds")):
        path = SIDE / "timings" / name
        try:
            timing = read_json(path)
            finished = timing.get("finished", path.stat().st_mtime)
            if abs(finished - end) < CLOSE:
                return finished - timing[key], finished
        except (InputError, OSError, KeyError, AttributeError):
            continue
    return end, end


def finished_rows(record: Record, start: float, end: float, sent: set[int]) -> Iterator[list[Point]]:
    """The points of `steps.jsonl`, row by row, without those that went while the stage ran.

    Each has the time at which its step was made, where the log of that run is there; else steps are spread evenly from
    `start` to `end`. sent: steps whose rows were read from the log.
    """
    path = record.path.with_name("steps.jsonl")
    if not path.exists():
        return
    rows = list(read_jsonl(path))
    logged = {row["step"]: row for log in logs_of(record.label) for row in Tail(log).read()}
    for number, row in enumerate(rows):
        live = logged.get(row["step"], {})
        if any(row.get(name) != value for name, value in live.items() if name != "time"):
            live = {}  # of another run
        stamp = live.get("time", round(1000 * (start + (number + 1) / len(rows) * (end - start))))
        if points := points_of(row, stamp, without=live if row["step"] in sent else ()):
            yield points


def batches(rows: Iterable[list[Point]], size: int) -> Iterator[list[Point]]:
    """Points in calls of at most `size`, a row never torn: what one call brought of a row is all of it."""
    waiting: list[Point] = []
    for row in rows:
        if waiting and len(waiting) + len(row) > size:
            yield waiting
            waiting = []
        waiting += row
    if waiting:
        yield waiting
