"""What outlives a run is found from its work trees and from DVC's workspaces; these leave followers a copy."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from stages.base import followers
from stages.base.files import write_json
from stages.base.store import project_store


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    for words in (
        ["init", "-q"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "x"],
    ):
        subprocess.run(["git", *words], cwd=root, check=True)
    return root


def test_work_trees_and_workspaces_share_the_projects_store(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run(["git", "worktree", "add", "-q", str(tmp_path / "tree")], cwd=repository, check=True)
    workspace = repository / ".dvc/tmp/exps/standalone/tmp1"
    workspace.mkdir(parents=True)
    subprocess.run(["git", "init", "-q"], cwd=workspace, check=True)
    copy = repository / ".trainyard/workspaces/standalone_tmp1"
    copy.mkdir(parents=True)
    for folder in (repository, tmp_path / "tree", workspace, copy):
        monkeypatch.chdir(folder)
        assert project_store() == repository / ".trainyard", folder
    (repository / "inner").mkdir()
    monkeypatch.chdir(repository / "inner")
    assert project_store() == repository / "inner/.trainyard", "a project inside somebody else's repository"


def test_a_workspace_leaves_followers_a_copy(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINYARD_TRACK", "off")
    monkeypatch.setenv("DVC_EXP_NAME", "vague-goat")
    workspace = repository / ".dvc/tmp/exps/standalone/tmp1"
    write_json(workspace / "data/corpus/mix/record.json", {})
    write_json(workspace / "data/models/base/tokenizer.json", {})
    (workspace / "data/corpus/mix/train.parquet").write_bytes(b"x")
    (workspace / "stages").mkdir()
    (workspace / "stages/x.py").write_text("")
    (workspace / "params.yaml").write_text("{}")
    (workspace / "scales").mkdir()
    (workspace / "scales/laptop.yaml").write_text("{}")
    monkeypatch.chdir(workspace)
    with followers.followed("toy.step", "one"):
        (copy,) = followers.copies()
        active = followers.read_active(copy / ".trainyard/active" / str(os.getpid()))
        assert active and active.label == "toy.step@one"
        write_json(workspace / "data/toy/step/record.json", {})
    shutil.rmtree(workspace)
    monkeypatch.chdir(copy)
    found = sorted(
        path.as_posix() for path in Path().rglob("*") if path.is_file() and not path.is_relative_to(".trainyard")
    )
    records, rest = ["data/corpus/mix/record.json", "data/toy/step/record.json"], ["scales/laptop.yaml", "stages/x.py"]
    assert found == [*records, "params.yaml", *rest]
    assert followers.origin() == (workspace, "vague-goat")


def test_training_logs_grow_where_the_follower_reads_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRAINYARD_TRACK", raising=False)
    monkeypatch.setattr(followers, "_start", lambda stand: None)
    stale = tmp_path / ".trainyard/steps/toy.step/toy.step.jsonl"
    stale.parent.mkdir(parents=True)
    stale.write_text("of an earlier run")
    with followers.followed("toy.step"):
        assert os.environ[followers.GROWING] == str(stale.parent) and not stale.exists()
    assert followers.GROWING not in os.environ
    monkeypatch.setenv("TRAINYARD_TRACK", "off")
    with followers.followed("toy.step"):
        assert followers.GROWING not in os.environ
