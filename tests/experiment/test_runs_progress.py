"""The page of progress: one line in a log, redrawn on a terminal."""

import io

import pytest

from stages.experiment.runs import progress
from stages.experiment.runs.plan import Plan, Planned
from stages.experiment.runs.progress import ProgressPage, clock
from stages.experiment.runs.results import Result
from stages.experiment.runs.scheduler import Tally


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def planned(key: str, known: bool, seconds: float | None) -> Planned:
    return Planned(key, key, f"phase.{key}", known, seconds, seconds, ("a",))


@pytest.fixture
def tally() -> Tally:
    done = Result("ran", "check", {})
    return Tally({"first": [1, 6], "second": [0, 2]}, executed=[done], running=[("dpo", 0.0), ("sft", 40.0)])


def page(out: io.StringIO, plan: Plan, monkeypatch: pytest.MonkeyPatch, times: list[float]) -> ProgressPage:
    clocks = iter(times)
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clocks))
    return ProgressPage(lambda: plan, 2, out)


def test_a_log_has_a_line_every_ten_seconds(tally: Tally, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan([planned("ran", True, 1.0), planned("old", True, 1.0), planned("dpo", False, 100.0)], 8, 1)
    out = io.StringIO()
    shown = page(out, plan, monkeypatch, [0.0, 5.0, 12.0, 15.0])
    for _ in range(3):
        shown.show(tally)
    assert out.getvalue() == (
        "experiments: 1 of 8 runs; stages: 1 run, 1 reused, 1 left; 0m12s, 0m50s left; now dpo, sft\n"
    )


def test_a_time_that_nobody_knows_is_told_of(tally: Tally, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan([planned("dpo", False, 100.0), planned("new", False, None)])
    out = io.StringIO()
    page(out, plan, monkeypatch, [0.0, 12.0]).show(tally)
    assert "more than 0m50s left" in out.getvalue()


def test_a_terminal_is_redrawn(tally: Tally, monkeypatch: pytest.MonkeyPatch) -> None:
    out = Terminal()
    shown = page(out, Plan([planned("dpo", False, 100.0)]), monkeypatch, [0.0, 60.0, 61.0])
    shown.show(tally)
    first = out.getvalue()
    assert [line.removeprefix("\x1b[2K").split()[0] for line in first.splitlines()] == [
        "experiments:", "dpo", "sft", "first", "second",
    ]  # fmt: skip
    assert "1 of 6" in first and "0m20s" in first
    shown.show(tally)
    assert out.getvalue()[len(first) :].startswith("\x1b[5F")


def test_clock() -> None:
    assert [clock(0.4), clock(61), clock(7262)] == ["0m00s", "1m01s", "2h01m"]
