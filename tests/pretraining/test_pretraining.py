import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
import yaml

from stages.base import schemas
from stages.base.files import write_json
from stages.base.tables import write_table
from stages.lm.checkpoint import load_model
from stages.lm.data import PackedRows
from stages.pretraining.anneal import mixed_rows
from stages.pretraining.recipe import read_plan

ROOT = Path(__file__).resolve().parents[2]
MODEL = {
    "arch": "transformer", "vocab_size": 320, "n_layer": 2, "d_model": 32, "n_head": 2, "n_kv_head": 2, "d_ff": 64,
    "max_seq_len": 32, "rope_theta": 10000.0, "tie_embeddings": False, "qk_norm": True, "norm_eps": 1e-6,
}  # fmt: skip
PARAMS = {
    "corpus": {"seed": 1},
    "run": {"seed": 2},
    "tokens": {
        "tokenizer": {"vocab_size": 320, "pretokenizer": "gpt2", "max_bytes": 100000, "measured_documents": 20,
                      "compare": []},
        "pack": {"seq_len": 32, "max_gap": 6, "lookahead": 16},
    },
    "pretraining": {
        "pretrain": {
            "optimizer": "muon", "weight_decay": 0.0, "clip": 1.0, "warmup_steps": 3, "cooldown": 0.3,
            "min_cooldown_steps": 4, "micro_rows": 4, "checkpoint_every": 5,
        },
        "anneal": {"tokens": 2560, "share": 0.5},
    },
}  # fmt: skip


def mixed(count: int, salt: str) -> pa.Table:
    texts = [f"{salt}: the heron of village {i} sings to the miller of village {i + 1}.\n" for i in range(count)]
    columns = {
        "id": [f"{salt}{i:08d}" for i in range(count)], "source": ["atlas", "docs"] * (count // 2),
        "domain": ["x"] * count, "text": texts, "epochs": [1.0] * count,
    }  # fmt: skip
    return pa.table(columns, schema=schemas.MIXED)


def prepare(folder: Path) -> None:
    (folder / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    for name, count in (("train", 400), ("anneal", 40), ("validation", 40)):
        write_table(folder / f"data/corpus/mix/{name}.parquet", mixed(count, name), schemas.MIXED)
    plan = {"model": MODEL, "tokens": 40 * 256, "batch_tokens": 256, "lr": 0.02, "predicted_loss": 1.0}
    write_json(folder / "data/scaling/plan/plan.json", plan)


def stage(folder: Path, module: str, **options: str) -> subprocess.Popen[str]:
    environment = os.environ | {
        "PYTHONPATH": str(ROOT), "TRAINYARD_THREADS": "1", "OMP_NUM_THREADS": "1", "TRAINYARD_TRACK": "off"
    } | options  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-m", module], cwd=folder, env=environment, stderr=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen[str]) -> str:
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 0, said
    return said


def outputs(folder: Path) -> dict[str, str]:
    return json.loads((folder / "record.json").read_text())["outputs"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    prepare(folder)
    for module in ("tokens.tokenizer", "tokens.pack", "pretraining.pretrain", "pretraining.anneal"):
        finish(stage(folder, f"stages.{module}"))
    return folder


def test_the_chain_learns_and_leaves_models_that_load(trained: Path) -> None:
    metrics = json.loads((trained / "data/pretraining/pretrain/metrics.json").read_text())
    assert metrics["steps"] == 40 and metrics["trunk_steps"] == 28 and metrics["tokens"] == 40 * 256
    assert metrics["n_params"] == sum(p.numel() for p in load_model(trained / "data/pretraining/pretrain").parameters())
    assert metrics["validation_loss"] < 4.6 < np.log(320)
    assert {"validation_bpb_atlas", "validation_bpb_docs", "validation_bpb", "flops"} <= set(metrics)
    steps = [json.loads(line) for line in (trained / "data/pretraining/pretrain/steps.jsonl").read_text().splitlines()]
    assert [row["step"] for row in steps] == list(range(40))
    assert steps[5]["lr"] == 0.02 and 0 < steps[-1]["lr"] < 0.002
    annealed = json.loads((trained / "data/pretraining/anneal/metrics.json").read_text())
    assert annealed["steps"] == 10
    assert not list((trained / ".trainyard/checkpoints").rglob("state.bin"))


def test_validation_loss_is_the_mean_over_text_tokens(trained: Path) -> None:
    pack = json.loads((trained / "data/tokens/pack/pack.json").read_text())
    model = load_model(trained / "data/pretraining/pretrain")
    rows = torch.from_numpy(PackedRows(trained / "data/tokens/pack/validation.bin", 32).rows.astype(np.int64))
    with torch.no_grad():
        table = model(rows[:, :-1]).log_softmax(-1).gather(2, rows[:, 1:, None]).squeeze(2)
    text = (rows[:, 1:] != pack["pad_id"]) & (rows[:, 1:] != pack["bos_id"])
    metrics = json.loads((trained / "data/pretraining/pretrain/metrics.json").read_text())
    assert metrics["validation_loss"] == pytest.approx(float(-table[text].mean()), abs=1e-4)
    assert int(text.sum()) == pack["validation"]["tokens"]
    size = sum(len(text.encode()) for text in mixed(40, "validation")["text"].to_pylist())
    assert pack["validation"]["bytes"] == size
    assert metrics["validation_bpb"] == pytest.approx(float(-table[text].sum()) / np.log(2) / size, abs=1e-4)


def test_a_run_killed_with_9_ends_as_the_uninterrupted_one(trained: Path, tmp_path: Path) -> None:
    prepare(tmp_path)
    for module in ("tokens.tokenizer", "tokens.pack"):
        finish(stage(tmp_path, f"stages.{module}"))
    process = stage(tmp_path, "stages.pretraining.pretrain")
    checkpoints = tmp_path / ".trainyard/checkpoints"
    while process.poll() is None and not list(checkpoints.rglob("state.bin")):
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "data/pretraining/pretrain").exists()
    finish(stage(tmp_path, "stages.pretraining.pretrain"))
    for name in ("data/tokens/tokenizer", "data/tokens/pack", "data/pretraining/pretrain"):
        assert outputs(tmp_path / name) == outputs(trained / name)


def test_a_plan_for_another_tokenizer_is_refused(trained: Path, tmp_path: Path) -> None:
    plan = json.loads((trained / "data/scaling/plan/plan.json").read_text())
    pack = json.loads((trained / "data/tokens/pack/pack.json").read_text())
    assert read_plan(plan, pack).steps == 40
    prepare(tmp_path)
    plan["model"]["vocab_size"] = 384
    write_json(tmp_path / "data/scaling/plan/plan.json", plan)
    (tmp_path / "data/tokens").symlink_to(trained / "data/tokens")
    process = stage(tmp_path, "stages.pretraining.pretrain")
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 2 and "run scaling.plan again" in said and len(said.strip().splitlines()) == 1


def test_the_anneal_mixture_gets_its_share() -> None:
    ordinary, better = zip(*(mixed_rows(step, 16, 0.3, 1000, 50, 7) for step in range(10)), strict=True)
    assert all(len(a) + len(b) == 16 for a, b in zip(ordinary, better, strict=True))
    assert np.concatenate(better).tolist() == list(range(48))
    assert np.concatenate(ordinary).tolist() == list(range(7 * 16, 7 * 16 + 112))
