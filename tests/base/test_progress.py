"""What the progress line says of fast and of slow work."""

import pytest

from stages.base import progress
from stages.base.progress import Progress


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(30.0, "30.0 s each, loss 2.5, kl 0.125, 0m30s, 4m30s left"), (0.05, "20/s, loss 2.5, kl 0.125")],
)
def test_a_rate_below_one_is_said_as_seconds(
    seconds: float, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with Progress(10, "training", unit="steps") as bar:
        while not (shown := capsys.readouterr().err):
            now[0] += seconds
            bar.advance(1, loss=2.5, kl=0.125)
    assert said in shown
