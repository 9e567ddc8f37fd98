"""why: its words against what DVC itself says has changed, in a project that DVC ran."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from stages import cli
from tests.publishing.lineage.conftest import dvc

PIPELINE = """\
stages:
  check:
    cmd: python -m stages.check
    deps: [stages]
    outs: [data/check/code]
  mix:
    cmd: python -m stages.toy.mix
    deps: [data/check/code/toy.mix.json, crawl.txt]
    params: [toy.mix]
    outs: [data/toy/mix]
  train:
    foreach: ${toy.models}
    do:
      cmd: python -m stages.toy.train ${key}
      deps: [data/check/code/toy.train.json, data/toy/mix]
      params: [toy.train]
      outs: ["data/toy/train/${key}"]
"""
PARAMS = "toy:\n  mix: {share: 0.5}\n  models: {a: {}, b: {}}\n  train: {lr: 0.1, steps: [1, 2]}\n"
CHECK = """\
import json, pathlib
from stages.base.closure import code_files
for name in ("toy.mix", "toy.train"):
    place = pathlib.Path("data/check/code", name + ".json")
    place.parent.mkdir(parents=True, exist_ok=True)
    found = code_files("stages." + name, pathlib.Path.cwd())
    place.write_text(json.dumps(found, sort_keys=True, indent=2) + "\\n")
"""
MIX = """\
import pathlib
out = pathlib.Path("data/toy/mix")
out.mkdir(parents=True)
(out / "a.txt").write_text("a")
(out / "b.txt").write_text("b")
"""
TRAIN = """\
import sys, pathlib
from stages.toy import rates
out = pathlib.Path("data/toy/train", sys.argv[1])
out.mkdir(parents=True)
(out / "w.bin").write_text(str(rates.RATE))
"""


def git(*arguments: str) -> None:
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], check=True, capture_output=True)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("why")
    root = Path(__file__).resolve().parents[3]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("PYTHONPATH", raising=False)
        for name, text in (
            ("dvc.yaml", PIPELINE), ("params.yaml", PARAMS), ("crawl.txt", "pages"), (".dvcignore", "__pycache__\n"),
            ("stages/__init__.py", ""), ("stages/check.py", CHECK), ("stages/toy/__init__.py", ""),
            ("stages/toy/mix.py", MIX), ("stages/toy/train.py", TRAIN), ("stages/toy/rates.py", "RATE = 1\n"),
            (".gitignore", "/data\n__pycache__\n/.site\n"), ("stages/base/__init__.py", ""),
        ):  # fmt: skip
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_text(text)
        shutil.copy(root / "stages/base/closure.py", "stages/base/closure.py")
        git("init", "-q")
        dvc("init", "-q")
        dvc("repro", "-q")
        git("add", "-A")
        git("commit", "-qm", "first run")
    return folder


@pytest.fixture
def toy(ran: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "toy"
    shutil.copytree(ran, folder, symlinks=True)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    return folder


def why(stage: str, capsys: pytest.CaptureFixture[str]) -> list[dict]:
    capsys.readouterr()
    assert cli.main(["why", stage, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def told(stage: str, capsys: pytest.CaptureFixture[str]) -> set[tuple[str, str]]:
    (one,) = why(stage, capsys)
    return {(reason["kind"], reason["name"]) for reason in one["reasons"]}


def test_nothing_changed_says_dvc_and_why(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(dvc("status", "--json")) == {}
    for one in why("train", capsys):
        assert one["changed"] is False
    assert cli.main(["why", "toy.train@a"]) == 0
    assert "train@a: nothing changed since it last ran" in capsys.readouterr().out


def test_each_kind_of_change_in_words(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("params.yaml").write_text(PARAMS.replace("0.1", "0.2"))
    Path("stages/toy/rates.py").write_text("RATE = 2\n")
    Path("data/toy/mix/a.txt").unlink()
    Path("data/toy/mix/a.txt").write_text("other")
    assert told("train@a", capsys) == {
        ("param", "toy.train.lr"),
        ("code", "stages/toy/rates.py"),
        ("dependency", "data/toy/mix"),
        ("upstream", "mix"),
    }
    assert cli.main(["why", "train@a"]) == 0
    shown = capsys.readouterr().out
    assert "params: `toy.train.lr` was 0.1 and is 0.2" in shown
    assert "code: stages/toy/rates.py changed (not committed)" in shown
    assert "reads: data/toy/mix changed (a.txt); made by `mix`" in shown
    status = json.loads(dvc("status", "--json", "train@a"))
    changed = {name for part in status["train@a"] for name in part.get("changed deps", {})}
    assert changed == {"params.yaml", "data/toy/mix"}  # of code DVC learns only when `check` has run
    git("commit", "-qam", "a faster rate")
    assert cli.main(["why", "train@a"]) == 0
    assert "a faster rate)" in capsys.readouterr().out


def test_a_comment_is_no_reason(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("stages/toy/rates.py").write_text("# fast\nRATE = 1\n")
    assert told("train@a", capsys) == set()


def test_gone_outputs_inputs_and_new_stages(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree("data/toy/train/a")
    Path("crawl.txt").unlink()
    Path("params.yaml").write_text(PARAMS.replace("b: {}", "b: {}, c: {}"))
    assert ("output", "data/toy/train/a") in told("train@a", capsys)
    assert told("mix", capsys) == {("dependency", "crawl.txt")}
    assert ("never", "train@c") in told("train@c", capsys)
    assert cli.main(["why", "train@c"]) == 0
    assert "never ran here" in capsys.readouterr().out


def test_command_and_list_of_inputs(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = PIPELINE.replace("stages.toy.mix\n", "stages.toy.mix --fast\n").replace(", crawl.txt]", "]")
    Path("dvc.yaml").write_text(text)
    (one,) = why("mix", capsys)
    kinds = {(r["kind"], r["what"]) for r in one["reasons"]}
    assert ("command", "is the command now; it was `python -m stages.toy.mix`") in kinds
    assert ("dependency", "is no longer read") in kinds


def test_why_it_last_ran_by_the_history_of_the_lock(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("params.yaml").write_text(PARAMS.replace("0.1", "0.3"))
    Path("stages/toy/rates.py").write_text("RATE = 3\n")
    dvc("repro", "-q")
    (one,) = why("train@b", capsys)
    assert one["changed"] is False and one["last_run"]["after"].endswith("first run")
    assert {(r["kind"], r["name"]) for r in one["last_run"]["reasons"]} == {
        ("param", "toy.train.lr"),
        ("code", "stages/toy/rates.py"),
    }
    shutil.rmtree(".dvc/cache")
    (one,) = why("train@b", capsys)
    assert "which module isn't known" in one["last_run"]["reasons"][1]["what"]


@pytest.mark.parametrize(
    "name, near", [("trian@a", "train@a"), ('mi"x', "mix"), ("mix%@", "mix"), ("\u202emix", "mix"), ("", None)]
)
def test_an_unknown_stage_names_the_nearest(
    toy: Path, name: str, near: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["why", name]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1 and "\u202e" not in error
    assert near is None or f"did you mean `{near}`?" in error
