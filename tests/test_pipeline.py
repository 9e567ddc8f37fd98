"""The whole pipeline at a tiny scale, by `dvc repro` in a fresh git repository: it runs, then runs nothing, and its
records agree with dvc.yaml; a change reruns what it must and no more."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from stages.base.files import sha256_path
from stages.base.params import read_params
from stages.base.pipeline import read_pipeline
from stages.base.reference import params_schema
from stages.base.scales import compose, render
from stages.check import declared_sections

ROOT = Path(__file__).resolve().parents[1]
COPIED = (
    "stages", "scales", "lists", ".dvc", ".dvcignore", ".gitignore", "dvc.yaml", "requirements.lock",
    "requirements-torch.txt",
)  # fmt: skip
PAGES = {"board", "alignment_report", "training_report", "evaluation_report", "report"}
BELOW = {"check", "agreement", "leaderboard", "proxy_rewards", *PAGES}  # what a judged model more or less reruns


def run(project: Path, *command: str, track: str = "off") -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(project),
        "TRAINYARD_TRACK": track,
    }
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)


def checkout(folder: Path) -> Path:
    """A git repository with the tracked code and the tiny params."""
    folder.mkdir()
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", "cache", "tmp"))
        else:
            shutil.copy(source, folder / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        base, values = compose(["tiny"], [], params_schema(declared_sections()))
        (folder / "params.yaml").write_text(render(base, values))
    assert run(folder, "git", "init", "-q").returncode == 0
    return folder


def change(project: Path, path: str, value: Any) -> None:
    """Set one value of params.yaml; None removes an item."""
    values = read_params(project / "params.yaml")
    *parents, last = path.split(".")
    here = values
    for part in parents:
        here = here[part]
    if value is None:
        del here[last]
    else:
        here[last] = value
    (project / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))


def stages_run(project: Path, *targets: str) -> set[str]:
    result = run(project, "dvc", "repro", *targets)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-3000:]
    return {line.split("'")[1] for line in result.stdout.splitlines() if line.startswith("Running stage")}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = checkout(tmp_path_factory.mktemp("pipeline") / "tiny")
    stages_run(folder)
    return folder


@pytest.mark.slow
def test_a_second_repro_runs_nothing(project: Path) -> None:
    assert stages_run(project) == set()


@pytest.mark.slow
def test_records_agree_with_dvc_yaml_and_with_the_disk(project: Path) -> None:
    for declared in read_pipeline(project):
        record = json.loads((project / declared.folder / "record.json").read_text())
        assert sorted(record["params"]) == sorted(declared.params), f"{declared.label}: params in dvc.yaml"
        data_deps = {dep for dep in declared.deps if not dep.startswith(("stages", "data/check/code/"))}
        for path in record["inputs"]:
            known = path.startswith("stages/") or any(Path(path).is_relative_to(dep) for dep in data_deps)
            assert known, f"{declared.label} reads {path}"
        unread = {"requirements.lock", "requirements-torch.txt", "params.yaml"}
        if declared.name == "alignment.annotate":  # weaker answers come from the base model where `also` asks for them
            unread.add("data/models/base")
        if declared.name == "publishing.corpus_report":  # the length of a token, where no text is packed
            unread.add("data/tokens/tokenizer/metrics.json")
        for dep in data_deps - unread:
            assert any(Path(path).is_relative_to(dep) for path in record["inputs"]), (
                f"{declared.label} declares {dep} and never reads it"
            )
        for path, digest in (record["inputs"] | record["outputs"]).items():
            assert sha256_path(project / path) == digest, f"{declared.label}: {path}"
        for out in declared.outs:
            assert (project / out).exists(), f"{declared.label} writes no {out}"


@pytest.mark.slow
def test_the_pages_are_published(project: Path) -> None:
    assert "simulated" in (project / "reports/leaderboard.html").read_text()
    assert "<svg" in (project / "reports/training.html").read_text()
    for page in (path.read_text() for path in (project / "reports").glob("*.html")):
        assert "http://" not in page.replace("http://www.w3.org", ""), "pages open offline"


@pytest.mark.slow
def test_a_removed_model_leaves_no_trace_and_is_back_without_work(project: Path) -> None:
    change(project, "models.trained.ppo", None)
    ran = stages_run(project)
    assert ran and ran <= BELOW, ran
    for folder in ("evaluation/evaluate", "judging/respond", "judging/judge"):
        assert not (project / "data" / folder / "ppo").exists()
    assert "ppo" not in (project / "data/judging/leaderboard/leaderboard.json").read_text()
    change(project, "models.trained.ppo", {})
    assert stages_run(project) <= BELOW, "answers, scores and verdicts are in DVC's cache"
    change(project, "models.trained.ppo", None)
    assert stages_run(project) <= BELOW
    assert not (project / "data/judging/respond/ppo").exists(), "removed again, where DVC remembers the first time"


@pytest.mark.slow
def test_a_judge_param_and_an_added_model_rerun_no_more_than_they_must(project: Path) -> None:
    again = read_params(project / "params.yaml")["judging"]["answerers"]["constant"]
    change(project, "judging.answerers.constant_again", again)
    assert stages_run(project) <= BELOW | {"answer@constant_again", "judge_answer@constant_again"}
    change(project, "judging.judge.annotator.pool.label_noise", 0.2)
    judged = {one.label for one in read_pipeline(project) if one.name == "judging.judge"}
    ran = stages_run(project)
    assert judged <= ran <= judged | BELOW


@pytest.mark.slow
def test_an_experiment_in_a_workspace_of_its_own_leaves_its_runs_in_mlflow(project: Path) -> None:
    for words in (
        ["add", "-A"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "x"],
    ):
        assert run(project, "git", *words).returncode == 0
    words = ["--temp", "--name", "fewer", "-S", "judging.agreement.pairs=8", "agreement"]
    done = run(project, "dvc", "exp", "run", *words, track="on")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    store, deadline = project / ".trainyard", time.monotonic() + 120
    while any((store / "workspaces").iterdir()) and time.monotonic() < deadline:
        time.sleep(1)  # until the follower has shipped everything
    with sqlite3.connect(store / "mlflow.db") as database:
        found = database.execute(
            "select name, status from runs join tags using (run_uuid) where key = 'dvc experiment' and value = 'fewer'"
        ).fetchall()
    assert ("judging.agreement", "FINISHED") in found and any(name == "fewer" for name, _ in found)
