"""The whole pipeline at a tiny scale, by `dvc repro` in a fresh git repository: it runs, then runs nothing, and its
records agree with dvc.yaml; bad params stop it before any work."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from stages.base.files import sha256_path
from stages.base.pipeline import read_pipeline

ROOT = Path(__file__).resolve().parents[1]
TINY = Path(__file__).with_name("tiny.yaml")


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    return base | {
        key: merge(base[key], value) if isinstance(value, dict) and isinstance(base.get(key), dict) else value
        for key, value in over.items()
    }


def run(project: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(project),
        "TRAINYARD_TRACK": "off",
    }
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)


def checkout(folder: Path) -> Path:
    """A git repository with the tracked code and the tiny params."""
    folder.mkdir()
    for name in (
        "stages", ".dvc", ".dvcignore", ".gitignore", "dvc.yaml", "requirements.lock", "requirements-torch.txt",
    ):  # fmt: skip
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", "cache", "tmp"))
        else:
            shutil.copy(source, folder / name)
    (folder / "environment.txt").write_text(f"{sys.version}\n")
    params = merge(yaml.safe_load((ROOT / "params.yaml").read_text()), yaml.safe_load(TINY.read_text()))
    for number, point in enumerate(params["scaling"]["points"].values(), 1):
        point["tokens"] = 4000 * number
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    assert run(folder, "git", "init", "-q").returncode == 0
    return folder


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = checkout(tmp_path_factory.mktemp("pipeline") / "tiny")
    result = run(folder, "dvc", "repro")
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-5000:]
    return folder


@pytest.mark.slow
def test_a_second_repro_runs_nothing(project: Path) -> None:
    result = run(project, "dvc", "repro")
    assert result.returncode == 0 and "up to date" in result.stdout
    assert "Running stage" not in result.stdout


@pytest.mark.slow
def test_records_agree_with_dvc_yaml_and_with_the_disk(project: Path) -> None:
    for declared in read_pipeline(project):
        record = json.loads((project / declared.folder / "record.json").read_text())
        assert sorted(record["params"]) == sorted(declared.params), f"{declared.label}: params in dvc.yaml"
        data_deps = {dep for dep in declared.deps if not dep.startswith(("stages", "data/check/"))}
        for path in record["inputs"]:
            assert any(path == dep or path.startswith(f"{dep}/") for dep in data_deps), f"{declared.label} reads {path}"
        for dep in data_deps - {"requirements.lock", "requirements-torch.txt", "environment.txt", "params.yaml"}:
            assert any(path == dep or path.startswith(f"{dep}/") for path in record["inputs"]), (
                f"{declared.label} declares {dep} and never reads it"
            )
        for path, digest in (record["inputs"] | record["outputs"]).items():
            assert sha256_path(project / path) == digest, f"{declared.label}: {path}"


@pytest.mark.slow
def test_the_page_is_published(project: Path) -> None:
    page = (project / "reports/index.html").read_text()
    assert "simulated" in page and "<svg" in page
    assert "http://" not in page.replace("http://www.w3.org", ""), "the page opens offline"


@pytest.mark.slow
def test_a_removed_model_leaves_no_trace(project: Path) -> None:
    params = yaml.safe_load((project / "params.yaml").read_text())
    assert params["judging"]["models"].pop("ppo")
    (project / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    ran = stages_run(project)
    assert ran and ran <= {"check", "agreement", "leaderboard", "report"}, ran
    rows = json.loads((project / "data/judging/leaderboard/leaderboard.json").read_text())
    assert "ppo" not in json.dumps(rows)


@pytest.mark.slow
def test_a_judge_param_and_an_added_model_rerun_no_more_than_they_must(project: Path) -> None:
    params = yaml.safe_load((project / "params.yaml").read_text())
    models = params["judging"]["models"]
    models["constant_again"] = dict(models["constant"])
    (project / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    assert stages_run(project) <= {
        "check", "respond@constant_again", "judge@constant_again", "agreement", "leaderboard", "report",
    }  # fmt: skip
    params["judging"]["judge"]["annotator"]["pool"]["label_noise"] = 0.2
    (project / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    ran = stages_run(project)
    assert {f"judge@{model}" for model in models} <= ran
    assert ran <= {"check", "agreement", "leaderboard", "report", *(f"judge@{model}" for model in models)}


def stages_run(project: Path) -> set[str]:
    result = run(project, "dvc", "repro")
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-3000:]
    return {line.split("'")[1] for line in result.stdout.splitlines() if line.startswith("Running stage")}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("section", "name", "value", "message"),
    [
        ("alignment.sft", "epochss", 3, "did you mean `epochs`?"),
        ("scaling.plan.budget", "flops", -1.0, "greater than 0"),
        ("corpus.dedup", "max_drop", "much", "`corpus.dedup.max_drop`"),
        (
            "corpus.ingest",
            "sources",
            {"mine": {"kind": "files", "paths": ["/absent/*.html"], "licence": "x", "max_damaged": 0}},
            "mine",
        ),
        ("check", "min_free_disk_gib", 1e9, "free some space"),
        ("judging", "models", [], "`judging.models`"),
        ("judging.leaderboard", "subject", "sfft", "did you mean `sft`?"),
        ("corpus", "seed", "x", "`corpus.seed`"),
    ],
)
def test_bad_params_stop_before_any_work(tmp_path: Path, section: str, name: str, value: Any, message: str) -> None:
    folder = checkout(tmp_path / "bad")
    params = yaml.safe_load((folder / "params.yaml").read_text())
    here = params
    for part in section.split("."):
        here = here[part]
    here[name] = value
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    result = run(folder, sys.executable, "-m", "stages.check")
    assert result.returncode == 2
    assert message in result.stderr and len(result.stderr.strip().splitlines()) == 1
    assert not (folder / "data/check").exists()
