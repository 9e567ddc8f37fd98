"""The ladder's points learn, are the same by any number of processes, and are kept; bad lengths are refused."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from stages.base import kept
from stages.base.contracts.point import Ladder, Point
from stages.base.errors import ParamError, ResourceError
from stages.base.files import write_json
from stages.base.params import parse
from stages.base.recipe import Recipe
from stages.lm.config import ModelConfig
from stages.scaling import ladder
from stages.scaling.ladder import steps_of
from tests.contracts import tokens

ROOT = Path(__file__).resolve().parents[2]
RECIPE: dict[str, Any] = {
    "optimizer": "muon", "lr": 0.02, "shares": {"embedding": 1.0, "head": 0.5, "rest": 0.5}, "betas": [0.8, 0.95],
    "weight_decay": 0.0, "clip": 1.0, "batch_tokens": 128, "micro_rows": 4, "warmup_steps": 2, "cooldown": 0.4,
    "min_cooldown_steps": 4, "precision": "fp32", "document_mask": False, "z_loss": 0.0, "compile": "off",
    "rope_theta": 10000.0, "tie_embeddings": True, "qk_norm": True, "norm_eps": 1e-6,
}  # fmt: skip
SHAPE = {"n_layer": 1, "d_model": 16, "n_head": 2, "n_kv_head": 1, "d_ff": 32, "tokens": 4096}
POINTS = {"tiny": {"arch": "transformer", **SHAPE}, "lstm": {"arch": "lstm", **SHAPE}}
FOLDER = Path("data/scaling/ladder")


def write_params(points: dict[str, Any], checkpoint_every: int = 0, **recipe: Any) -> None:
    values = {
        "run": {"seed": 1, "shards": 2},
        "recipe": RECIPE | recipe,
        "scaling": {"ladder": {"checkpoint_every": checkpoint_every}, "points": points},
    }
    Path("params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A packed stream of a repeating pattern, learnable within a few steps."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRAINYARD_TRACK", "off")
    folder = Path("data/tokens/pack")
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, rows in (("train", 200), ("validation", 8)):
        starts = rng.integers(0, 50, rows)
        ids = ((starts[:, None] + np.arange(33)) % 50).astype("<u2")
        ids[:, 0] = 60
        ids.tofile(folder / f"{name}.bin")
    example = tokens.pack()
    pack = tokens.pack(
        vocab_size=64, seq_len=32, pad_id=59, bos_id=60,
        train=example.train.model_dump() | {"rows": 200},
        validation=example.validation.model_dump() | {"rows": 8, "bytes": 1000},
    )  # fmt: skip
    write_json(folder / "pack.json", pack.model_dump(mode="json"))
    write_params(POINTS)
    return tmp_path


def outputs() -> dict[str, str]:
    return json.loads((FOLDER / "record.json").read_text())["outputs"]


def test_points_learn_and_are_the_same_by_any_number_of_processes(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for processes, name in ((1, "alone"), (2, "together")):
        monkeypatch.setenv("TRAINYARD_WORKERS", str(processes))
        monkeypatch.setattr(kept, "project_store", lambda name=name: project / name)
        ladder.main()
        found.append(outputs())
    assert found[0] == found[1]
    assert Ladder.model_validate_json((FOLDER / "points.json").read_text()).points == ["tiny", "lstm"]
    for key in POINTS:
        point = Point.model_validate_json((FOLDER / key / "point.json").read_text())
        assert point.n_params == ModelConfig.from_dict(point.model).param_count()
        assert point.tokens == 4096 and point.steps == 32 and point.recipe.model_dump() == RECIPE
        assert point.loss < np.log(64) - 0.5
        assert point.bpb == pytest.approx(point.loss * 8 * 32 / np.log(2) / 1000)
        record = json.loads((FOLDER / key / "record.json").read_text())
        assert record["stage"] == "scaling.ladder" and record["item"] == key
        assert set(record["outputs"]) == {
            f"{FOLDER}/{key}/{name}" for name in ("point.json", "metrics.json", "steps.jsonl")
        }


def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Run the ladder; the points that it had to train."""
    seen: list[str] = []
    original = ladder.train_points
    monkeypatch.setattr(
        ladder, "train_points", lambda jobs, *rest: (seen.extend(job.key for job in jobs), original(jobs, *rest))
    )
    ladder.main()
    monkeypatch.setattr(ladder, "train_points", original)
    return seen


def test_only_what_is_new_is_trained(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert trained(monkeypatch) == ["tiny", "lstm"]
    first = outputs()
    wider = {"wide": {"arch": "transformer", **SHAPE, "d_model": 32}}
    write_params(wider | POINTS)
    assert trained(monkeypatch) == ["wide"]
    assert {path: sha for path, sha in outputs().items() if path in first and "points.json" not in path} == {
        path: sha for path, sha in first.items() if "points.json" not in path
    }
    write_params({"tiny": POINTS["tiny"]})
    assert trained(monkeypatch) == []
    assert not (FOLDER / "lstm").exists()
    write_params(POINTS, lr=0.01)
    assert trained(monkeypatch) == ["tiny", "lstm"]


def test_a_clone_adopts_the_points_that_it_has_pulled(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ladder.main()
    monkeypatch.setattr(kept, "project_store", lambda: project / "clone")
    steps = FOLDER / "lstm/steps.jsonl"
    steps.write_text(steps.read_text() + "\n")  # not what its record says
    assert kept.adopt(FOLDER) == 1
    assert trained(monkeypatch) == ["lstm"]
    for part in (project / "clone/kept/scaling.ladder").iterdir():
        (part / "point.json").write_text("{}")
    assert trained(monkeypatch) == ["tiny", "lstm"]


def test_a_kill_loses_only_unfinished_points(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = {"arch": "transformer", **SHAPE, "d_model": 64, "n_layer": 4, "tokens": 6400}
    write_params({"long": long, "tiny": POINTS["tiny"]}, checkpoint_every=5)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TRAINYARD_WORKERS": "2", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-m", "stages.scaling.ladder"], env=environment)
    kept_points, states = Path(".trainyard/kept/scaling.ladder"), Path(".trainyard/checkpoints/scaling.ladder@long")
    finished = "[!.]*/record.json"  # not one that is being copied
    while process.poll() is None and not (list(kept_points.glob(finished)) and list(states.rglob("state.bin"))):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(1.5)  # the point's own process notices that it is alone
    assert trained(monkeypatch) in (["long"], [])


def test_a_point_that_fails_says_so_and_leaves_nothing(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def killed(*_: Any, **__: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(ladder, "build_model", killed)
    with pytest.raises(SystemExit):
        ladder.main()
    assert "the process of point `tiny` has ended (exit status -9" in capsys.readouterr().err

    def full(*_: Any, **__: Any) -> None:
        raise ResourceError("`scaling.points.lstm`: too large")

    monkeypatch.setattr(ladder, "build_model", full)
    with pytest.raises(SystemExit):
        ladder.main()
    assert "scaling.ladder: `scaling.points.lstm`: too large" in capsys.readouterr().err
    assert not FOLDER.exists()


def test_schedule_has_room_or_is_refused() -> None:
    recipe = parse("recipe", RECIPE, Recipe)
    assert steps_of(recipe, 4096, 32) == (4, 32, 13)
    assert steps_of(recipe, 1024, 32) == (4, 8, 4)  # the absolute minimum, not 40 % of 8
    with pytest.raises(ParamError, match="raise the point's tokens"):
        steps_of(recipe, 512, 32)


def test_more_tokens_than_the_stream_is_refused(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_params(POINTS | {"tiny": POINTS["tiny"] | {"tokens": 10**6}})
    with pytest.raises(SystemExit):
        ladder.main()
    assert "the packed stream has 200" in capsys.readouterr().err
    assert not FOLDER.exists()
