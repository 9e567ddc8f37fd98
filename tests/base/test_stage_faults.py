"""What goes wrong around a stage: a second writer, edited inputs and params, signals, a disk that refuses."""

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors import SafetensorError

from stages.base import outputs, record
from stages.base.errors import InputError, ParamError
from stages.base.failures import explained
from stages.base.outputs import hidden, remove_leftovers, swap
from stages.base.params import Section
from stages.base.record import stage
from stages.base.workers import is_follower, process_count

ROOT = Path(__file__).resolve().parents[2]


class Toy(Section):
    n: int


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRAINYARD_TRACK", "off")
    monkeypatch.setattr(record, "code_files", lambda module: {"stages/test.py": "digest"})
    (tmp_path / "params.yaml").write_text("run: {seed: 5}\ntoy:\n  step: {n: 2}\n  next: {n: 1}\n")
    yield tmp_path


def written(value: object = 1, model: bool = False) -> None:
    with stage("toy.step", Toy) as run:
        run.write_json("x.json", value)
        if model:
            (run.model_folder("mine") / "model.safetensors").write_bytes(b"weights")


def refused(capsys: pytest.CaptureFixture, *words: str) -> None:
    line = capsys.readouterr().err.strip()
    assert "\n" not in line and all(word in line for word in words), line


SLEEPER = """
import sys, time
from stages.base import record
from stages.base.params import Section
from stages.base.record import stage
record.code_files = lambda module: {}
class Toy(Section):
    n: int
with stage("toy.step", Toy) as run:
    run.output("half.bin").write_bytes(b"half")
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen]:
    env = os.environ | {"PYTHONPATH": str(ROOT), "TRAINYARD_TRACK": "off"}
    with subprocess.Popen(
        [sys.executable, "-c", SLEEPER], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def test_a_second_writer_is_refused_and_the_first_named(
    sleeper: subprocess.Popen, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit):
        written()
    refused(capsys, f"process {sleeper.pid} is running", "end it")
    sleeper.kill()
    sleeper.wait()
    written()
    assert json.loads(Path("data/toy/step/x.json").read_text()) == 1
    assert [path.name for path in Path("data/toy").iterdir()] == ["step"]  # nothing of the killed one is left


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_stage_in_one_line_and_leaves_nothing_half_written(
    sleeper: subprocess.Popen, number: int, status: int
) -> None:
    sleeper.send_signal(number)
    _, told = sleeper.communicate(timeout=20)
    assert sleeper.returncode == status
    assert told.strip().splitlines() == [
        "trainyard: toy.step: stopped by a signal; what was there before stands, run again to go on"
    ]
    assert not list(Path("data/toy").iterdir())


def test_params_that_change_under_a_stage_are_found(project: Path, capsys: pytest.CaptureFixture) -> None:
    written(1)
    with pytest.raises(SystemExit), stage("toy.step", Toy) as run:
        run.write_json("x.json", 2)
        (project / "params.yaml").write_text("run: {seed: 5}\ntoy:\n  step: {n: 3}\n")
    refused(capsys, "`toy.step` was changed while this stage ran")
    assert json.loads(Path("data/toy/step/x.json").read_text()) == 1


@pytest.mark.parametrize("path", ["data/toy/step/x.json", "data/models/mine/model.safetensors"])
@pytest.mark.parametrize("whole", [False, True])
def test_an_input_that_is_not_what_its_stage_wrote_is_refused(
    path: str, whole: bool, capsys: pytest.CaptureFixture
) -> None:
    written({"a": [1, 2, 3]}, model=True)
    asked = Path(path).parent if whole else Path(path)
    with stage("toy.next", Toy) as run:
        run.input(asked)
    data = bytearray(Path(path).read_bytes())
    data[3] ^= 1
    Path(path).write_bytes(data)
    with pytest.raises(SystemExit), stage("toy.next", Toy) as run:
        run.input(asked)
    refused(capsys, path, "not what toy.step wrote", "dvc repro")


def test_files_of_the_user_s_own_are_read_as_they_are() -> None:
    Path("data/mine").mkdir(parents=True)
    Path("data/mine/rows.jsonl").write_text("{}\n")
    with stage("toy.next", Toy) as run:
        run.input("data/mine/rows.jsonl")
        run.input("data/mine")


def test_a_record_that_is_none_is_named() -> None:
    written()
    Path("data/toy/step/record.json").write_text("[]")
    with pytest.raises(InputError, match=r"data/toy/step/record.json: not a stage's record"):
        record.Producers().check({"data/toy/step/x.json": "00"})


def test_a_kill_between_the_two_renames_brings_the_old_folder_back(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path("data/toy/step")
    folder.mkdir(parents=True)
    (folder / "x").write_text("old")
    new = hidden(folder)
    new.mkdir()
    (new / "x").write_text("new")

    def killed(self: Path, target: Path) -> Path:
        if target == folder:
            raise KeyboardInterrupt
        os.replace(self, target)
        return target

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(outputs.Path, "replace", killed)
        swap(new, folder)
    assert not folder.exists()
    remove_leftovers(folder.parent)
    assert (folder / "x").read_text() == "old" and [path.name for path in folder.parent.iterdir()] == ["step"]


@pytest.mark.parametrize(
    ("told", "count", "follows"),
    [({}, 1, False), ({"RANK": "0", "WORLD_SIZE": "2"}, 2, False), ({"RANK": "1", "WORLD_SIZE": "2"}, 2, True)],
)
def test_processes_as_torchrun_tells_them(told, count, follows, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    assert (process_count(), is_follower()) == (count, follows)


@pytest.mark.parametrize(
    "told",
    [{"RANK": "1"}, {"WORLD_SIZE": "2"}, {"RANK": "x", "WORLD_SIZE": "2"}, {"RANK": "2", "WORLD_SIZE": "2"},
     {"RANK": "-1", "WORLD_SIZE": "2"}, {"RANK": "0", "WORLD_SIZE": ""}],
)  # fmt: skip
def test_half_of_what_torchrun_tells_is_an_error(told, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ParamError, match="torchrun"):
        is_follower()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "data/x.bin"), "data/x.bin: the disk is full"),
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
        (SafetensorError("I/O error: No space left on device (os error 28)"), "the disk is full"),
        (RuntimeError("[enforce fail at inline_container.cc:595] . PytorchStreamWriter failed writing file data/3"),
         "the disk is full"),
        (OSError(errno.EFBIG, "File too large", "data/x.bin"), "larger than is allowed"),
        (PermissionError(errno.EACCES, "Permission denied", "data"), "data: permission denied"),
        (OSError(errno.EROFS, "Read-only file system", "data"), "data: read-only file system"),
        (OSError(errno.EMFILE, "Too many open files", "x"), "ulimit"),
        (MemoryError(), "memory is short"),
    ],
)  # fmt: skip
def test_what_the_machine_refuses_is_one_line(error: Exception, words: str) -> None:
    found = explained(error)
    assert found is not None and words in str(found) and "\n" not in str(found)


def test_what_came_of_a_full_disk_is_told_as_that() -> None:
    try:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError:
            raise RuntimeError("unexpected pos 12443840 vs 12443728")  # noqa: B904  (as torch.save does)
    except RuntimeError as error:
        assert "the disk is full" in str(explained(error))


def test_words_from_outside_move_no_cursor_and_stay_on_one_line(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit), stage("toy.step", Toy):
        raise InputError("toy.step: mine.jsonl:3: unknown key `\x1b[2Ja\u202e\nb\r`" + "x" * 100_000)
    told = capsys.readouterr().err
    assert told.startswith("trainyard: toy.step: mine.jsonl:3: ") and told.count("\n") == 1 and len(told) < 5000
    assert not set(told) & {"\x1b", "\u202e", "\r"}


def test_drops_are_counted_in_words(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit), stage("toy.step", Toy) as run:
        run.rows(5, 0, {"short": 1, "twice": 4}, max_drop=1.0)
    refused(capsys, "trainyard: toy.step: nothing is left of 5 rows; dropped: twice 4, short 1")


@pytest.mark.parametrize("error", [ValueError("x"), FileNotFoundError(2, "x", "y"), RuntimeError("shape mismatch")])
def test_faults_of_ours_keep_their_traceback(error: Exception) -> None:
    assert explained(error) is None
