"""A ladder point trains, repeats bitwise, and refuses runs too short for their schedule."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from stages.base.errors import ParamError
from stages.base.files import write_json
from stages.base.params import parse
from stages.lm.config import ModelConfig
from stages.lm.flops import flops_per_token
from stages.scaling import ladder
from stages.scaling.budget.shapes import train_flops
from stages.scaling.ladder import LadderParams, steps_of

SHARED: dict[str, Any] = {
    "batch_tokens": 128, "optimizer": "muon", "lr": 0.02, "shares": {"embedding": 1.0, "head": 0.5, "rest": 0.5},
    "betas": [0.8, 0.95], "weight_decay": 0.0, "precision": "fp32",
    "clip": 1.0, "warmup_steps": 2, "cooldown": 0.4, "min_cooldown_steps": 4, "checkpoint_every": 0,
    "rope_theta": 10000.0, "tie_embeddings": True, "qk_norm": True, "norm_eps": 1e-6,
}  # fmt: skip
SHAPE = {"n_layer": 1, "d_model": 16, "n_head": 2, "n_kv_head": 1, "d_ff": 32, "tokens": 4096}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A packed stream of a repeating pattern, learnable within a few steps."""
    monkeypatch.chdir(tmp_path)
    pack = Path("data/tokens/pack")
    pack.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, rows in (("train", 200), ("validation", 8)):
        starts = rng.integers(0, 50, rows)
        tokens = ((starts[:, None] + np.arange(33)) % 50).astype("<u2")
        tokens[:, 0] = 60
        tokens.tofile(pack / f"{name}.bin")
    write_json(
        pack / "pack.json",
        {
            "vocab_size": 64,
            "dtype": "uint16",
            "seq_len": 32,
            "pad_id": 59,
            "bos_id": 60,
            "train": {"rows": 200},
            "validation": {"rows": 8, "bytes": 1000},
        },
    )
    points = {"tiny": {"arch": "transformer", **SHAPE}, "lstm": {"arch": "lstm", **SHAPE}}
    values = {"run": {"seed": 1}, "scaling": {"ladder": SHARED, "points": points}}
    Path("params.yaml").write_text(yaml.safe_dump(values))
    return tmp_path


@pytest.mark.parametrize("key", ["tiny", "lstm"])
def test_a_point_learns_and_repeats_bitwise(project: Path, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setattr("sys.argv", ["ladder", key])
    texts = []
    for _ in range(2):
        ladder.main()
        texts.append(
            [(project / f"data/scaling/ladder/{key}" / name).read_text() for name in ("point.json", "steps.jsonl")]
        )
    assert texts[0] == texts[1]
    point = json.loads(texts[0][0])
    config = ModelConfig.from_dict(point["model"])
    assert point["n_params"] == config.param_count()
    assert point["tokens"] == 4096 and point["steps"] == 32
    assert point["loss"] < np.log(64) - 0.5
    assert point["bpb"] == pytest.approx(point["loss"] * 8 * 32 / np.log(2) / 1000)
    assert point["lr"] == 0.02 and point["recipe"]["shares"] == SHARED["shares"]


def test_one_definition_of_flops() -> None:
    """The ladder and the plan, which must not load torch, count as `lm.flops` does."""
    for arch in ("transformer", "lstm"):
        for tied in (True, False):
            config = ModelConfig(arch, 4096, 4, 128, 4, 2, 352, 256, 10000.0, tied, True, 1e-6)
            assert train_flops(config, 1000, 256) == 1000 * flops_per_token(config, 256)


def test_schedule_has_room_or_is_refused() -> None:
    shared = parse("scaling.ladder", SHARED, LadderParams)
    assert steps_of(shared, 4096, 32) == (4, 32, 13)
    assert steps_of(shared, 1024, 32) == (4, 8, 4)  # the absolute minimum, not 40 % of 8
    with pytest.raises(ParamError, match="raise the point's tokens"):
        steps_of(shared, 512, 32)


def test_more_tokens_than_the_stream_is_refused(project: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    values = yaml.safe_load(Path("params.yaml").read_text())
    values["scaling"]["points"]["tiny"]["tokens"] = 10**6
    Path("params.yaml").write_text(yaml.safe_dump(values))
    monkeypatch.setattr("sys.argv", ["ladder", "tiny"])
    with pytest.raises(SystemExit):
        ladder.main()
    assert "the packed stream has 200" in capsys.readouterr().err
    assert not (project / "data/scaling/ladder/tiny").exists()
