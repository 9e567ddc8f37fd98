"""A stage's outputs appear all together with a true record, or not at all."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.base import record
from stages.base.errors import InputError
from stages.base.params import Section
from stages.base.record import stage


class Toy(Section):
    n: int


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(record, "code_files", lambda module: {"stages/test.py": "digest"})
    (tmp_path / "params.yaml").write_text("run: {seed: 5}\ntoy:\n  step: {n: 2}\n")
    (tmp_path / "in.txt").write_text("hello")
    yield tmp_path


def test_record_holds_hashes_params_and_rows(project: Path) -> None:
    with stage("toy.step", Toy, item="a", seed="run.seed") as run:
        run.input("in.txt")
        run.output("sub/x.bin").write_bytes(b"abc")
        run.rows(5, 3, dropped={"short": 2}, max_drop=0.5)
        seed = run.seed
    saved = json.loads((project / "data/toy/step/a/record.json").read_text())
    assert saved["inputs"] == {"in.txt": hashlib.sha256(b"hello").hexdigest()}
    assert saved["outputs"] == {"data/toy/step/a/sub/x.bin": hashlib.sha256(b"abc").hexdigest()}
    assert saved["rows"] == {"in": 5, "out": 3, "dropped": {"short": 2}}
    assert saved["params"] == {"run.seed": 5, "toy.step": {"n": 2}} and saved["seed"] == seed


def test_outputs_do_not_depend_on_the_folder_or_time(project: Path) -> None:
    texts = []
    for _ in range(2):
        with stage("toy.step", Toy) as run:
            run.write_json("x.json", {"b": 1, "a": float("nan")})
        texts.append((project / "data/toy/step/record.json").read_bytes())
    assert texts[0] == texts[1]
    assert json.loads((project / "data/toy/step/x.json").read_text()) == {"a": None, "b": 1}


def fail_missing_input(run: record.StageRun) -> None:
    run.input("absent.txt")


def fail_counts(run: record.StageRun) -> None:
    run.rows(5, 4, dropped={}, max_drop=1.0)


def fail_bound(run: record.StageRun) -> None:
    run.rows(5, 1, dropped={"x": 4}, max_drop=0.5)


def fail_empty(run: record.StageRun) -> None:
    run.rows(5, 0, dropped={"x": 5}, max_drop=1.0)


@pytest.mark.parametrize("fail", [fail_missing_input, fail_counts, fail_bound, fail_empty])
def test_a_failing_stage_leaves_the_old_result(project: Path, capsys: pytest.CaptureFixture, fail) -> None:
    with stage("toy.step", Toy) as run:
        run.write_json("x.json", 1)
    with pytest.raises(SystemExit) as caught, stage("toy.step", Toy) as run:
        run.write_json("x.json", 2)
        fail(run)
    assert caught.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("trainyard: toy.step: ")
    assert (project / "data/toy/step/x.json").read_text() == "1\n"
    assert [path.name for path in (project / "data/toy").iterdir()] == ["step"]


def test_other_exceptions_pass_and_leave_nothing(project: Path) -> None:
    with pytest.raises(ZeroDivisionError), stage("toy.step", Toy) as run:
        run.write_json("x.json", 2)
        _ = 1 / 0
    assert not list((project / "data/toy").iterdir())


def test_folder_hash_ignores_the_record(project: Path) -> None:
    from stages.base.files import sha256_path

    with stage("toy.step", Toy) as run:
        run.write_json("x.json", 1)
    before = sha256_path("data/toy/step")
    (project / "data/toy/step/record.json").write_text("{}")
    assert sha256_path("data/toy/step") == before
    with pytest.raises(InputError):
        from stages.base.files import read_json

        read_json("data/absent.json")
