"""Stages that learn nothing keep the SFT model and say so, and the first of n samples is what one sample earns."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from stages.alignment import best_of_n, grpo, rft
from stages.lm.checkpoint import load_model


@pytest.fixture
def project(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(prepared, tmp_path / "run")
    monkeypatch.chdir(tmp_path / "run")
    monkeypatch.setenv("TRAINYARD_TRACK", "off")


def metrics(stage: str) -> dict[str, Any]:
    return json.loads(Path(f"data/alignment/{stage}/metrics.json").read_text())


def constant(exchanges: Sequence[Any]) -> list[float]:
    return [0.5] * len(exchanges)


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("name", ["grpo", "rft"])
def test_where_nothing_is_learned_the_sft_model_is_kept(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if name == "grpo":
        monkeypatch.setattr(grpo, "read_reward", lambda run: constant)
        grpo.main()
    else:
        monkeypatch.setattr(rft, "pick", lambda groups, rewards: [])
        rft.main()
    found = metrics(name)
    assert found["best_step"] == -1 and found["validation_kl_to_sft"] == 0.0
    started = {key: value for key, value in found.items() if key.startswith("validation_sft_")}
    assert started and all(found[key.replace("_sft_", "_")] == value for key, value in started.items())
    assert "nothing is learned and the SFT model stays as it is" in capsys.readouterr().err
    kept, sft = (load_model(f"data/models/{key}").state_dict() for key in (name, "sft"))
    assert all(map(torch.equal, kept.values(), sft.values()))


@pytest.mark.usefixtures("project")
def test_one_of_n_is_the_first_sample() -> None:
    params = yaml.safe_load(Path("params.yaml").read_text())
    found = []
    for n in (1, 4):
        params["alignment"]["best_of_n"] |= {"n": n, "max_new_tokens": 6, "temperature": 1.0}
        Path("params.yaml").write_text(yaml.safe_dump(params))
        best_of_n.main()
        found.append(metrics("best_of_n"))
    one, four = found
    assert four["validation_one_reward"] == pytest.approx(one["validation_reward"], rel=1e-5)
    assert four["validation_one_tokens"] == one["validation_tokens"]
    curve = json.loads(Path("data/alignment/best_of_n/over_optimisation.json").read_text())
    assert curve[0]["reward"] != pytest.approx(four["validation_one_reward"], rel=1e-5), "the mean of all samples"
    assert four["validation_reward"] > four["validation_one_reward"]
