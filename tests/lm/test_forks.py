"""Forked processes: the same results in any number, and what happens to one isn't hidden."""

import os
import select
import signal
import time

import pytest

from stages.base.errors import InputError, ResourceError
from stages.lm.forks import in_forks


@pytest.mark.parametrize("workers", ["1", "2", "5"])
def test_every_part_once_with_its_own_result(workers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINYARD_WORKERS", workers)
    found = list(in_forks(lambda part: (part * part, os.getpid()), 7))
    assert sorted((part, square) for part, (square, _) in found) == [(part, part * part) for part in range(7)]
    assert len({process for _, (_, process) in found}) == int(workers)
    assert list(in_forks(lambda part: part, 0)) == []


def test_a_fork_s_error_is_raised_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINYARD_WORKERS", "2")

    def compute(part: int) -> int:
        if part == 1:
            raise InputError("part 1 is bad")
        return part

    with pytest.raises(InputError, match="part 1"):
        list(in_forks(compute, 2))


def test_a_killed_fork_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINYARD_WORKERS", "2")
    with pytest.raises(ResourceError, match="exit status -9"):
        list(in_forks(lambda part: os.kill(os.getpid(), 9) if part else 0, 2))


def test_a_fork_dies_with_its_parent_in_the_midst_of_its_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would hold what it has inherited, as the lock of a stage, for as long as a part takes."""
    monkeypatch.setenv("TRAINYARD_WORKERS", "2")
    held, inherited = os.pipe()
    parent = os.fork()
    if parent == 0:
        os.close(held)

        def compute(part: int) -> int:
            if part == 0:
                time.sleep(0.5)
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(600)
            return part

        list(in_forks(compute, 2))
    os.close(inherited)
    os.waitpid(parent, 0)
    assert select.select([held], [], [], 60)[0] and os.read(held, 1) == b""  # no process has the other end
    os.close(held)
