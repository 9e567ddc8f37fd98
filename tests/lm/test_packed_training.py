"""A run on packed rows is bitwise the same by any number of processes, and whether it was interrupted or not."""

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages.base.errors import ResourceError
from stages.base.recipe import Recipe
from stages.lm import memory
from stages.lm.build import build_model
from stages.lm.packed_training import Batches, PackedTraining
from stages.lm.rates import wsd
from stages.lm.shards import ShardedGradient
from tests.lm.conftest import tiny

RECIPE = {
    "optimizer": "muon", "lr": 0.02, "shares": {"embedding": 1.0, "head": 0.5, "rest": 0.5}, "betas": [0.8, 0.95],
    "weight_decay": 0.1, "clip": 1.0, "batch_tokens": 256, "micro_rows": 2, "warmup_steps": 2, "cooldown": 0.4,
    "min_cooldown_steps": 4, "precision": "fp32", "document_mask": False, "z_loss": 1e-4, "compile": "off",
    "rope_theta": 10000.0, "tie_embeddings": False, "qk_norm": True, "norm_eps": 1e-6,
}  # fmt: skip
STEPS, PAD, BOS = 8, 0, 1


def recipe(**changes: Any) -> Recipe:
    return Recipe.model_validate(RECIPE | changes)


def batch(step: int) -> np.ndarray:
    """Rows that count upwards, with very different amounts of padding."""
    draw = np.random.default_rng(step)
    rows = 2 + (np.arange(33)[None] + draw.integers(0, 100, (7, 1))) % 100
    rows[:, 0] = BOS
    rows[np.arange(33)[None] >= draw.integers(4, 33, (7, 1))] = PAD
    return rows.astype(np.uint16)


BATCHES = Batches(batch, rows=7, seq_len=32, pad_id=PAD, bos_id=BOS)


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(
    processes: int, monkeypatch: pytest.MonkeyPatch, *, arch: str = "transformer", until: int = STEPS, every: int = 0,
    shards: int = 4, **changes: Any,
) -> tuple[list[torch.Tensor], list[dict[str, float]]]:  # fmt: skip
    """The weights and the log after `until` steps."""
    monkeypatch.setenv("TRAINYARD_WORKERS", str(processes))
    model = build_model(tiny(arch), 0)
    with PackedTraining(model, recipe(**changes), BATCHES, STEPS, shards=shards, silent=True) as training:
        result = training.train(
            lambda step: wsd(step, STEPS, 2, 4), until, name="test", facts={"shards": shards}, checkpoint_every=every
        )
    if result.state:
        result.state.close()
    return [parameter.detach().clone() for parameter in model.parameters()], result.rows


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(a.numpy().tobytes() == b.numpy().tobytes() for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("changes", [{}, {"arch": "lstm"}, {"precision": "bf16", "document_mask": True}])
def test_any_number_of_processes_trains_the_same_bits(changes: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    alone, rows = run(1, monkeypatch, **changes)
    for processes in (2, 3, 4):
        weights, found = run(processes, monkeypatch, **changes)
        assert found == rows
        assert same(weights, alone)
    assert rows[-1]["loss"] < rows[0]["loss"]


def test_a_run_resumed_by_another_number_of_processes_is_the_uninterrupted_one(monkeypatch) -> None:
    whole, rows = run(1, monkeypatch)
    run(2, monkeypatch, until=5, every=5)
    resumed, found = run(1, monkeypatch, every=5)
    assert found == rows and same(resumed, whole)


def test_shards_change_rounding_only(monkeypatch: pytest.MonkeyPatch) -> None:
    _, whole = run(1, monkeypatch, shards=1)
    for shards in (2, 7, 20):
        _, found = run(1, monkeypatch, shards=shards)
        for one, other in zip(found, whole, strict=True):
            assert one["loss"] == pytest.approx(other["loss"], abs=1e-5)


def test_a_helper_that_dies_or_fails_is_said_in_one_line() -> None:
    weight = torch.nn.Parameter(torch.ones(3))

    def compute(step: int, shard: int) -> dict[str, float]:
        if shard == 1 and step == 1:
            raise ZeroDivisionError("shard one")
        if shard == 1 and step == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        (weight * (shard + 1.0)).sum().backward()
        return {"loss": float(shard)}

    gradient = ShardedGradient([weight], compute, shards=2, processes=2)
    assert gradient(0) == {"loss": 1.0} and weight.grad is not None and weight.grad.tolist() == [3.0] * 3
    with pytest.raises(ZeroDivisionError, match="shard one"):
        gradient(1)
    gradient.close()
    gradient = ShardedGradient([weight], compute, shards=2, processes=2)
    with pytest.raises(ResourceError, match=r"exit status -9.*run the same command again"):
        gradient(2)
    gradient.close()


def test_too_little_memory_is_said_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available", lambda home: 10)
    with pytest.raises(ResourceError, match=r"`recipe\.micro_rows`: a training step needs about"):
        run(1, monkeypatch)
