import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from stages.base import schemas
from stages.base.contracts.pack import Pack
from stages.base.files import write_json
from stages.base.tables import write_table
from stages.lm.checkpoint import load_model
from stages.lm.data import PackedRows
from stages.pretraining.anneal import mixed_rows
from stages.pretraining.validation import Validation, measure
from tests.contracts.plan import plan

ROOT = Path(__file__).resolve().parents[2]
MODEL = {
    "arch": "transformer", "vocab_size": 320, "n_layer": 2, "d_model": 32, "n_head": 2, "n_kv_head": 2, "d_ff": 64,
    "max_seq_len": 32, "rope_theta": 10000.0, "tie_embeddings": False, "qk_norm": True, "norm_eps": 1e-6,
}  # fmt: skip
RECIPE = {
    "optimizer": "muon", "lr": 0.02, "shares": {"embedding": 0.5, "head": 0.125, "rest": 0.5}, "betas": [0.9, 0.95],
    "weight_decay": 0.0, "clip": 1.0, "batch_tokens": 256, "micro_rows": 4, "warmup_steps": 3, "cooldown": 0.3,
    "min_cooldown_steps": 4, "precision": "fp32", "document_mask": False, "z_loss": 0.0, "compile": "off",
    "rope_theta": 10000.0, "tie_embeddings": False, "qk_norm": True, "norm_eps": 1e-6,
}  # fmt: skip
PARAMS = {
    "corpus": {"seed": 1},
    "run": {"seed": 2, "shards": 2},
    "recipe": RECIPE,
    "tokens": {
        "tokenizer": {"vocab_size": 320, "pretokenizer": "gpt2", "max_bytes": 100000, "measured_documents": 20,
                      "compare": []},
        "pack": {"seq_len": 32, "max_gap": 6, "lookahead": 16},
    },
    "pretraining": {
        "pretrain": {"checkpoint_every": 5, "samples": {"per_source": 2, "prompt_tokens": 6, "new_tokens": 8}},
        "anneal": {"tokens": 2560, "share": 0.5},
        "branch": {"tokens": 2560},
        "branches": {"again": {"share": 0.5}, "plain": {"share": 0.0}},
    },
}  # fmt: skip
PLAN = "data/scaling/plan/plan.json"


def mixed(count: int, salt: str) -> pa.Table:
    texts = [f"{salt}: the heron of village {i} sings to the miller of village {i + 1}.\n" for i in range(count)]
    columns = {
        "id": [f"{salt}{i:08d}" for i in range(count)], "source": ["atlas", "docs"] * (count // 2),
        "domain": ["x", "x", "", "y"] * (count // 4), "text": texts, "epochs": [1.0] * count,
    }  # fmt: skip
    return pa.table(columns, schema=schemas.MIXED)


def prepare(folder: Path) -> None:
    (folder / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    for name, count in (("train", 400), ("anneal", 40), ("validation", 40)):
        write_table(folder / f"data/corpus/mix/{name}.parquet", mixed(count, name), schemas.MIXED)
    planned = plan(model=MODEL, tokens=40 * 256, batch_tokens=256, lr=0.02, predicted_loss=1.0, recipe=RECIPE)
    write_json(folder / PLAN, planned.model_dump(mode="json"))


def change_plan(folder: Path, **changes: Any) -> None:
    write_json(folder / PLAN, json.loads((folder / PLAN).read_text()) | changes)


def tokenise(folder: Path) -> None:
    """Tokenizer and shards, and a plan made for them."""
    for module in ("tokens.tokenizer", "tokens.pack"):
        finish(stage(folder, f"stages.{module}"))
    pack = json.loads((folder / "data/tokens/pack/pack.json").read_text())
    change_plan(folder, tokenizer_sha256=pack["tokenizer_sha256"])


def stage(folder: Path, module: str, *arguments: str, **options: str) -> subprocess.Popen[str]:
    environment = os.environ | {
        "PYTHONPATH": str(ROOT), "TRAINYARD_WORKERS": "1", "OMP_NUM_THREADS": "1", "TRAINYARD_TRACK": "off"
    } | options  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments], cwd=folder, env=environment, stderr=subprocess.PIPE, text=True
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
    tokenise(folder)
    for module in ("pretraining.pretrain", "pretraining.anneal"):
        finish(stage(folder, f"stages.{module}"))
    return folder


def test_the_chain_learns_and_leaves_models_that_load(trained: Path) -> None:
    metrics = json.loads((trained / "data/pretraining/pretrain/metrics.json").read_text())
    assert metrics["steps"] == 40 and metrics["trunk_steps"] == 28 and metrics["tokens"] == 40 * 256
    assert metrics["n_params"] == sum(p.numel() for p in load_model(trained / "data/models/pretrain").parameters())
    assert metrics["validation_loss"] < 4.6 < np.log(320)
    assert {"validation_bpb_atlas", "validation_bpb_docs", "validation_bpb", "flops"} <= set(metrics)
    steps = [json.loads(line) for line in (trained / "data/pretraining/pretrain/steps.jsonl").read_text().splitlines()]
    assert [row["step"] for row in steps] == list(range(40))
    assert steps[5]["lr"] == 0.02 and 0 < steps[-1]["lr"] < 0.002
    annealed = json.loads((trained / "data/pretraining/anneal/metrics.json").read_text())
    assert annealed["steps"] == 10
    assert not list((trained / ".trainyard/checkpoints").rglob("state.bin"))


def test_validation_loss_is_the_mean_over_text_tokens(trained: Path) -> None:
    pack = read_pack(trained)
    model = load_model(trained / "data/models/pretrain")
    rows = torch.from_numpy(PackedRows(trained / "data/tokens/pack/validation.bin", 32).rows.astype(np.int64))
    with torch.no_grad():
        table = model(rows[:, :-1]).log_softmax(-1).gather(2, rows[:, 1:, None]).squeeze(2)
    text = (rows[:, 1:] != pack.pad_id) & (rows[:, 1:] != pack.bos_id)
    metrics = json.loads((trained / "data/pretraining/pretrain/metrics.json").read_text())
    assert metrics["validation_loss"] == pytest.approx(float(-table[text].mean()), abs=1e-4)
    assert int(text.sum()) == pack.validation.tokens
    size = sum(len(text.encode()) for text in mixed(40, "validation")["text"].to_pylist())
    assert pack.validation.bytes == size
    assert metrics["validation_bpb"] == pytest.approx(float(-table[text].sum()) / np.log(2) / size, abs=1e-4)
    nats: dict[str, float] = {}
    for place in pq.read_table(trained / "data/tokens/pack/validation.documents.parquet").to_pylist():
        for name in (place["source"], f"domain_{place['domain'] or 'none'}"):
            piece = table[place["row"], place["offset"] - 1 : place["offset"] - 1 + place["length"]]
            nats[name] = nats.get(name, 0.0) - float(piece.sum())
    held = pack.validation.sources | {f"domain_{name}": facts for name, facts in pack.validation.domains.items()}
    for key, facts in held.items():
        assert metrics[f"validation_loss_{key}"] == pytest.approx(nats[key] / facts.tokens, abs=1e-4)
        assert metrics[f"validation_bpb_{key}"] == pytest.approx(nats[key] / np.log(2) / facts.bytes, abs=1e-4)
    assert set(pack.validation.domains) == {"x", "y", "none"}


def test_validation_with_the_document_mask_reads_every_document_alone(trained: Path) -> None:
    pack = read_pack(trained)
    model = load_model(trained / "data/models/pretrain")
    rows = PackedRows(trained / "data/tokens/pack/validation.bin", 32)
    placements = pq.read_table(trained / "data/tokens/pack/validation.documents.parquet")
    nats, tokens = 0.0, 0
    for place in placements.to_pylist():
        text = rows.rows[place["row"], place["offset"] : place["offset"] + place["length"]]
        ids = torch.tensor([[pack.bos_id, *text.tolist()]])
        with torch.no_grad():
            nats -= float(model(ids[:, :-1]).log_softmax(-1).gather(2, ids[:, 1:, None]).sum())
        tokens += len(text)
    masked, plain = (measure(model, Validation(rows, placements), pack, mask) for mask in (True, False))
    assert masked["validation_loss"] == pytest.approx(nats / tokens, abs=1e-4)
    assert abs(masked["validation_loss"] - plain["validation_loss"]) > 1e-3


def read_pack(folder: Path) -> Pack:
    return Pack.model_validate_json((folder / "data/tokens/pack/pack.json").read_text())


def ready(folder: Path, trained: Path) -> Path:
    """A folder with its own copy of what pretraining reads."""
    (folder / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    shutil.copytree(trained / "data/tokens", folder / "data/tokens")
    shutil.copytree(trained / "data/scaling", folder / "data/scaling")
    return folder


def test_a_run_killed_with_9_at_random_moments_ends_as_the_uninterrupted_one(trained: Path, tmp_path: Path) -> None:
    ready(tmp_path, trained)
    draw = random.Random(0)
    for kill in range(3):  # by one process and by two, in turn
        process = stage(tmp_path, "stages.pretraining.pretrain", TRAINYARD_WORKERS=str(1 + kill % 2))
        states = tmp_path / ".trainyard/checkpoints"
        while process.poll() is None and not list(states.rglob("state.bin")):
            time.sleep(0.002)
        time.sleep(draw.random() * 0.15 * kill)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert not (tmp_path / "data/pretraining/pretrain").exists()
    finish(stage(tmp_path, "stages.pretraining.pretrain", TRAINYARD_WORKERS="2"))
    assert outputs(tmp_path / "data/pretraining/pretrain") == outputs(trained / "data/pretraining/pretrain")
    assert not list((tmp_path / "data/pretraining").glob(".*.partial"))
    assert not list((tmp_path / ".trainyard").rglob("*.partial"))


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_by_torchrun_train_the_same_model(trained: Path, tmp_path: Path, strategy: str) -> None:
    ready(tmp_path, trained)
    finish(stage(tmp_path, "stages.pretraining.pretrain", TRAINYARD_PROCESSES="2", TRAINYARD_PARALLEL=strategy))
    mine, theirs = tmp_path / "data/pretraining/pretrain", trained / "data/pretraining/pretrain"
    losses = [
        [json.loads(line)["loss"] for line in (f / "steps.jsonl").read_text().splitlines()] for f in (mine, theirs)
    ]
    assert np.abs(np.subtract(*losses))[:10].max() < 1e-6  # later, rounding has grown with the weights' paths
    assert np.abs(np.subtract(*losses)).max() < 1e-4
    metrics = [json.loads((f / "metrics.json").read_text())["validation_loss"] for f in (mine, theirs)]
    assert metrics[0] == pytest.approx(metrics[1], abs=1e-4)
    record = json.loads((mine / "record.json").read_text())
    assert sorted(outputs(mine)) == sorted(outputs(theirs))
    assert record["notes"]["environment"]["processes"] == 2
    assert record["notes"]["environment"]["parallel"] == strategy
    assert not list((tmp_path / "data/pretraining").glob(".*.partial"))


def test_other_stages_refuse_to_run_in_several_processes(trained: Path, tmp_path: Path) -> None:
    ready(tmp_path, trained)
    process = stage(tmp_path, "stages.tokens.pack", WORLD_SIZE="2", RANK="0")
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 2 and "without torchrun" in said


def test_branches_finish_the_same_trunk_on_mixtures_of_their_own(trained: Path) -> None:
    for key in ("again", "plain"):
        finish(stage(trained, "stages.pretraining.branch", key))
    folder = trained / "data/pretraining"
    anneal, again, plain = (
        [json.loads(line)["loss"] for line in (folder / name / "steps.jsonl").read_text().splitlines()]
        for name in ("anneal", "branch/again", "branch/plain")
    )
    assert again == anneal and plain != anneal  # the same mixture, and another
    assert json.loads((folder / "branch/plain/record.json").read_text())["item"] == "plain"


def test_samples_continue_held_out_documents(trained: Path) -> None:
    shown = json.loads((trained / "data/pretraining/anneal/samples.json").read_text())
    assert [sample["source"] for sample in shown] == ["atlas", "atlas", "docs", "docs"]
    texts = mixed(40, "validation")["text"].to_pylist()
    for sample in shown:
        assert any(text.startswith(sample["prompt"] + sample["reference"]) for text in texts)
        assert sample["continuation"]


def test_rows_of_another_tokenizer_are_refused(trained: Path, tmp_path: Path) -> None:
    ready(tmp_path, trained)
    tokenizer = tmp_path / "data/tokens/tokenizer/tokenizer.json"
    tokenizer.write_text(tokenizer.read_text() + "\n")
    said = stage(tmp_path, "stages.pretraining.pretrain").communicate(timeout=60)[1]
    assert "tokenizer.json: not what tokens.tokenizer wrote" in said
    (tokenizer.parent / "record.json").unlink()  # as of a tokenizer that was brought
    process = stage(tmp_path, "stages.pretraining.pretrain")
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 2 and "another tokenizer" in said and "run tokens.pack again" in said


def test_a_plan_that_does_not_fit_is_refused(trained: Path, tmp_path: Path) -> None:
    ready(tmp_path, trained)
    changes = (
        ({"model": MODEL | {"n_head": 3, "n_kv_head": 3}}, "n_head is 3; it must be a divisor of d_model 32"),
        ({"model": MODEL | {"vocab_size": 384}}, "made for a vocabulary of 384 and rows of 32"),
        ({"tokenizer_sha256": "0" * 64}, "made for another tokenizer"),  # of the same size
        ({"recipe": RECIPE | {"cooldown": 0.4}}, "of a ladder with another `recipe`"),
        ({"tokens": "many"}, f"{PLAN}: `tokens`"),
    )
    sound = json.loads((tmp_path / PLAN).read_text())
    for change, said in changes:
        write_json(tmp_path / PLAN, sound | change)
        process = stage(tmp_path, "stages.pretraining.pretrain")
        error = process.communicate(timeout=60)[1]
        assert process.returncode == 2 and said in error and len(error.strip().splitlines()) == 1


def test_the_anneal_mixture_gets_its_share() -> None:
    ordinary, better = zip(*(mixed_rows(step, 16, 0.3, 1000, 50, 7) for step in range(10)), strict=True)
    assert all(len(a) + len(b) == 16 for a, b in zip(ordinary, better, strict=True))
    assert np.concatenate(better).tolist() == list(range(48))
    assert np.concatenate(ordinary).tolist() == list(range(7 * 16, 7 * 16 + 112))
