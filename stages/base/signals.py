"""Signals that ask a process to end: nothing is left half-written, and training leaves a checkpoint first."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

Handler = Callable[[int, FrameType | None], None]


class Stopped(BaseException):
    """A signal has asked the process to end. No Exception: nothing may take it for a failure and go on."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number


@contextmanager
def stoppable() -> Iterator[None]:
    """SIGTERM raises `Stopped` while the block runs, as SIGINT raises KeyboardInterrupt: what is being written is then
    removed, and what is held let go."""
    with _handled(_stop, signal.SIGTERM):
        yield


@contextmanager
def held_back() -> Iterator[Callable[[], int | None]]:
    """SIGTERM and SIGINT wait until the block asks: it gets a function that says which came. A second one ends the
    process at once, by `Stopped`."""
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)
        if len(came) > 1:
            _stop(number, frame)

    with _handled(note, signal.SIGTERM, signal.SIGINT):
        yield lambda: came[0] if came else None


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stopped(number)


@contextmanager
def _handled(handler: Handler, *numbers: int) -> Iterator[None]:
    """Only the main thread may handle signals; one that is ignored stays so (of a job in the background: SIGINT)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: found for number in numbers if (found := signal.getsignal(number)) != signal.SIG_IGN}
    for number in before:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, found in before.items():
            signal.signal(number, found)
