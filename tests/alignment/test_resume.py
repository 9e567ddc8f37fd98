"""Stages that are killed and run again write the bytes that an undisturbed run writes, in any number of processes."""

import fcntl
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from stages.alignment import dpo, grpo, ppo, reward, rft, sft
from stages.base.record import StageRun
from stages.lm import loop
from stages.lm.shards import ShardedGradient

STAGES: dict[str, Callable[[], None]] = {
    "sft": sft.main, "reward": reward.main, "dpo": dpo.main, "ppo": ppo.main, "grpo": grpo.main, "rft": rft.main,
}  # fmt: skip


class Killed(BaseException):
    """As a signal would: no code of the stage sees it."""


@contextmanager
def dying(updates: int | None, die: Callable[[], None]) -> Iterator[list[int]]:
    """`die()` is called in place of the update after so many; None: before metrics.json is written. Gives the updates
    made."""
    made: list[int] = []
    call, write = ShardedGradient.__call__, StageRun.write_json

    def update(self: ShardedGradient, step: int) -> dict[str, float]:
        if len(made) == updates:
            die()
        made.append(step)
        return call(self, step)

    def writing(self: StageRun[Any], name: str, value: Any) -> None:
        if updates is None and name == "metrics.json":
            die()
        write(self, name, value)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ShardedGradient, "__call__", update)
        patch.setattr(StageRun, "write_json", writing)
        patch.setattr(loop, "between_checkpoints", lambda took: 0.0)
        yield made


def written(name: str) -> dict[str, bytes]:
    """All files of a stage and of its model."""
    folders = [Path("data/alignment", name), *([] if name == "reward" else [Path("data/models", name)])]
    return {path.as_posix(): path.read_bytes() for one in folders for path in one.rglob("*") if path.is_file()}


def begin(name: str, prepared: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of what was prepared, to work in."""
    shutil.copytree(prepared, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("TRAINYARD_TRACK", "off")
    if name == "reward":
        shutil.rmtree("data/alignment/reward")
    if name == "sft":  # adapters are carried and merged too
        params = yaml.safe_load(Path("params.yaml").read_text())
        params["alignment"]["sft"] |= {"lora": {"rank": 2, "alpha": 4.0}, "optimizer": "adamw"}
        Path("params.yaml").write_text(yaml.safe_dump(params))


@pytest.fixture(scope="module")
def undisturbed(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, bytes]]:
    """undisturbed(stage) → the files that it writes, alone."""

    @cache
    def run(name: str) -> dict[str, bytes]:
        with pytest.MonkeyPatch.context() as patch:
            begin(name, prepared, tmp_path_factory.mktemp(name) / "undisturbed", patch)
            patch.setenv("TRAINYARD_WORKERS", "1")
            STAGES[name]()
            files = written(name)
        assert any(path.endswith("steps.jsonl") and data for path, data in files.items())
        assert any(path.endswith("model.safetensors") for path in files)
        return files

    return run


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("name", STAGES)
def test_killed_at_several_places(
    name: str,
    workers: str,
    prepared: Path,
    undisturbed: Callable[[str], dict[str, bytes]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    expected = undisturbed(name)
    begin(name, prepared, tmp_path / "killed", monkeypatch)
    monkeypatch.setenv("TRAINYARD_WORKERS", workers)

    def die() -> None:
        raise Killed

    for updates in (0, 1, 2, 5, None):
        with dying(updates, die) as made, pytest.raises(Killed):
            STAGES[name]()
        assert not Path("data/alignment", name).exists()
        assert updates is None or len(made) == updates
    with dying(-1, die) as made:
        STAGES[name]()
    assert not made  # all of the training was done
    assert written(name) == expected
    assert not list(Path(".trainyard/checkpoints").glob("*/*"))
    assert "afresh" not in capfd.readouterr().err


@pytest.mark.parametrize("name", STAGES)
def test_killed_by_a_signal(
    name: str,
    prepared: Path,
    undisturbed: Callable[[str], dict[str, bytes]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = undisturbed(name)
    begin(name, prepared, tmp_path / "killed", monkeypatch)
    monkeypatch.setenv("TRAINYARD_WORKERS", "2")
    child = os.fork()
    if child == 0:
        with dying(5, lambda: os.kill(os.getpid(), signal.SIGKILL)):
            STAGES[name]()
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    with Path(f".trainyard/locks/alignment.{name}.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # its helpers end by themselves
    with dying(-1, lambda: None) as made:
        STAGES[name]()
    assert made and len(made) < len(expected[f"data/alignment/{name}/steps.jsonl"].splitlines())
    assert written(name) == expected
