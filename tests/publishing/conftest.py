"""A small project with every file that the pages read, built from the contracts."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from stages.base import schemas
from stages.base.files import write_json, write_jsonl
from stages.base.tables import write_table
from tests.contracts import evaluation, judging, plan
from tests.publishing.crawl import make_crawl

HOSTILE = '<script>alert("x")</script><img src=x onerror=alert(1)> & "quoted"'
RIGHT_TO_LEFT = "\u202eمرحبا\u202c بالعالم"
EVALUATED = ("base", "sft", "dpo", "ppo")
PARAMS = {
    "run": {"seed": 1},
    "corpus": {"seed": 2},
    "alignment": {"base": "base"},
    "models": {"import": {}},
    "pretraining": {"branches": {}},
    "publishing": {
        "site": {
            "title": "Trainyard",
            "pages": ["leaderboard", "alignment", "training", "evaluation", "scaling", "corpus"],
        },
        "board": {"prompts": 4, "side_by_side": ["base", "sft", "dpo"]},
        "training_report": {"curve_points": 240},
        "corpus_report": {"samples_per_reason": 2},
    },
}


def rows_of(path: str, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
    write_table(path, pa.Table.from_pylist(rows, schema=schema), schema)


def verdicts_of(model: str, outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Odd questions are won and even ones lost, q2 in one of two orders; of dpo, q1 by one annotator of two; q3 has
    no verdict."""
    rows = [
        {
            "instruction_index": i, "id": row["id"], "split": "test", "model": model, "baseline": "sft",
            "annotator": "" if i == 3 else "simulated-1", "preference": math.nan if i == 3 else 1.2 + 0.6 * (i % 2),
            "baseline_first": 1.8 if i == 2 else math.nan, "output_first": 1.1 if i == 2 else math.nan,
            "weighted": True, "usd": 0.0, "seconds": math.nan, "len_output": len(row["output"]), "len_baseline": 16,
            "error": "it said nothing" if i == 3 else "",
        }
        for i, row in enumerate(outputs)
    ]  # fmt: skip
    return rows + [rows[1] | {"annotator": HOSTILE, "preference": 1.3}] * (model == "dpo")


def write_judging() -> None:
    """Eight test questions, each model's answers, and the leaderboard."""
    questions = [
        {
            "id": f"q{i}", "split": "test", "origin": "atlas", "entity": f"E{i}", "attributes": ["province"],
            "prompt": f"In which province does {HOSTILE if i == 0 else f'Velmora {i}'} lie?",
            "response": "It lies in Anthar." if i else "",
        }
        for i in range(8)
    ]  # fmt: skip
    write_json("data/alignment/instructions/items.json", ["atlas"])
    rows_of("data/alignment/instructions/atlas/instructions.parquet", questions, schemas.INSTRUCTION)
    for model in judging.MODELS:
        said = [f"{model} says {HOSTILE}" if i == 0 else f"Answer {i} of {model}." for i in range(8)]
        said[5] = RIGHT_TO_LEFT
        said[6] = "long " * 20_000 if model == "dpo" else said[6]
        outputs = [{"id": f"q{i}", "split": "test", "prompt": "", "output": said[i], "tokens": 5} for i in range(8)]
        exact = [
            {
                "id": f"q{i}", "split": "test", "model": model, "asked": 1, "correct": i % 2, "wrong": 1 - i % 2,
                "score": 2 * (i % 2) - 1, "right": bool(i % 2),
            }
            for i in range(8)
        ]  # fmt: skip
        rows_of(f"data/judging/respond/{model}/outputs.parquet", outputs, schemas.OUTPUT)
        rows_of(f"data/judging/judge/{model}/annotations.parquet", verdicts_of(model, outputs), schemas.ANNOTATION)
        rows_of(f"data/judging/judge/{model}/exact.parquet", exact, schemas.EXACT)
    write_json("data/judging/leaderboard/leaderboard.json", judging.leaderboard().model_dump(mode="json"))
    write_json("data/judging/agreement/agreement.json", judging.agreement().model_dump(mode="json"))


def write_training() -> None:
    rng = np.random.default_rng(7)

    def curve(steps: int, start: float, end: float, **more: float) -> list[dict[str, Any]]:
        decay = end + (start - end) * np.exp(-np.arange(steps) / (steps / 6))
        return [{"step": i, "loss": float(v + rng.normal(0, 0.03)), "lr": 0.01, **more} for i, v in enumerate(decay)]

    write_jsonl("data/pretraining/pretrain/steps.jsonl", curve(740, 7.0, 2.75))
    write_jsonl("data/pretraining/anneal/steps.jsonl", curve(150, 2.95, 2.6))
    write_json(
        "data/pretraining/pretrain/metrics.json", {"validation_loss": 2.768, "validation_bpb": 1.9, "trunk_steps": 600}
    )
    write_json("data/pretraining/anneal/metrics.json", {"validation_loss": 2.81})
    begins = [("atlas", "The heron of Vell"), ("docs", "def load(path):\n    \u202e</p><script>alert(2)</script>")]
    for name in ("pretrain", "anneal"):
        samples = [
            {"source": source, "prompt": prompt, "reference": "as it was written", "continuation": f"{name} <b>goes on"}
            for source, prompt in begins
        ]
        write_json(f"data/pretraining/{name}/samples.json", samples)
    losses = {"0_63": (4.6, 4.5), "64_255": (4.4, 4.3), "256_1023": (4.9, 4.25), "all": (4.7, 4.3)}
    longer = {f"loss_by_position_before_{at}": before for at, (before, _) in losses.items()}
    longer |= {f"loss_by_position_after_{at}": after for at, (_, after) in losses.items()}
    write_json("data/pretraining/context/metrics.json", longer | {"seq_len": 1024, "steps": 37, "rope_theta": 43800.2})
    validated = [
        row | ({"validation_exact_right": 0.1 + row["step"] / 300} if row["step"] % 40 == 39 else {})
        for row in curve(160, 3, 0.2)
    ]
    write_jsonl("data/alignment/sft/steps.jsonl", validated)
    held_out = {"training_pairs": 225, "held_out_pairs": 75, "held_out_accuracy": 0.55, "held_out_score_accuracy": None}
    held_out |= {"held_out_accuracy_low": 0.45, "held_out_accuracy_high": 0.65, "held_out_prompts": 30}
    held_out |= {"held_out_longer_accuracy": 0.6, "held_out_loss": 0.68, "members": 1}
    write_json("data/alignment/reward/metrics.json", held_out)
    groups = [
        {"group": "chosen_longer", "pairs": 50, "accuracy": 0.7, "low": 0.6, "high": 0.8, "margin": 0.3},
        {"group": "chosen_shorter", "pairs": 25, "accuracy": 0.25, "low": None, "high": None, "margin": -0.3},
    ]
    bins = [{"n": 40, "confidence": 0.55, "accuracy": 0.5, "low": 0.3, "high": 0.6},
            {"n": 35, "confidence": 0.8, "accuracy": 0.6, "low": 0.4, "high": 0.8}]  # fmt: skip
    sure = {"ece": 0.12, "by_chance": 0.06, "bins": bins}
    write_json("data/alignment/reward/held_out.json", {"by_length": groups, "by_score_gap": [], "calibration": sure})
    write_json("data/alignment/annotate/metrics.json", {"score_agreement": 0.9})
    proxy = {"n": 300, "agreement": 0.25, "compared": 8}
    rewards = {name: proxy | {"reward": at, "low": at - 0.1, "high": at + 0.1} for name, at in
               (("sft", -0.2), ("dpo", 0.1), ("constant", 0.5), ("nearest_neighbour", -0.1))}  # fmt: skip
    write_json("data/alignment/proxy_rewards/proxy_rewards.json", rewards)
    for name in ("reward", "dpo"):
        ranked = [row | {"accuracy": float(0.5 + row["step"] / 200)} for row in curve(60, 0.7, 0.5)]
        write_jsonl(f"data/alignment/{name}/steps.jsonl", ranked)
    rollouts = [row | {"reward": row["step"] / 60, "kl": row["step"] / 900} for row in curve(60, 0.7, 0.5)]
    for name in ("ppo", "grpo"):
        write_jsonl(f"data/alignment/{name}/steps.jsonl", rollouts)
    at = {19: (0.4, 1.2), 39: (0.7, 1.3), 59: (0.9, 1.1)}  # PPO's checkpoints: reward and exact score
    checked = [
        row | dict(zip(("validation_reward", "validation_exact_score"), at.get(row["step"], (None, None)), strict=True))
        for row in rollouts
    ]
    write_jsonl("data/alignment/ppo/steps.jsonl", checked)
    write_json("data/alignment/sft/metrics.json", {"examples": 600, "machine_examples": 0})
    write_json("data/alignment/rft/metrics.json", {"sampled": 1440, "kept": 425, "validation_kl_to_sft": 0.07})
    write_json("data/alignment/dpo/metrics.json", {"pairs": 300, "validation_kl_to_sft": 1.25})
    started = {"validation_sft_reward": 0.1, "validation_sft_exact_score": 1.0}
    write_json("data/alignment/ppo/metrics.json", {"validation_kl_to_sft": 0.5} | started)
    write_json("data/alignment/grpo/metrics.json", {"prompts": 360, "validation_kl_to_sft": None})
    write_json("data/alignment/best_of_n/metrics.json", {"n": 2, "kl_bound": 0.193})
    picked = [(1.0, 0.0, -0.2, 1.0), (2.0, 0.193, 0.3, 1.25)]
    names = ("n", "kl_bound", "reward", "exact_score")
    rows = [dict(zip(names, row, strict=True)) for row in picked]
    write_json("data/alignment/best_of_n/over_optimisation.json", rows)
    write_jsonl("data/alignment/rft/steps.jsonl", validated)


def write_evaluation() -> None:
    write_json("data/evaluation/controls/items.json", ["held_out"])
    write_json("data/evaluation/controls/held_out/controls.json", evaluation.controls().model_dump(mode="json"))
    write_json("data/evaluation/evaluate/items.json", list(EVALUATED))
    for index, model in enumerate(EVALUATED):
        found = evaluation.evaluation(0.02 * index).model_dump(mode="json")
        write_json(f"data/evaluation/evaluate/{model}/evaluation.json", found)
        pq.write_table(evaluation.items(0.02 * index), f"data/evaluation/evaluate/{model}/items.parquet")
    found = evaluation.contamination().model_dump(mode="json")
    write_json("data/evaluation/contamination/contamination.json", found)


def change(path: str, value: Any) -> None:
    """Set a dotted path of params.yaml."""
    params = yaml.safe_load(Path("params.yaml").read_text())
    *above, last = path.split(".")
    here = params
    for part in above:
        here = here[part]
    here[last] = value
    Path("params.yaml").write_text(json.dumps(params))


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project but for params.yaml."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRAINYARD_TRACK", "off")
    Path("params.yaml").write_text(json.dumps(PARAMS))
    return tmp_path


@pytest.fixture
def judged(workspace: Path) -> Path:
    write_judging()
    return workspace


@pytest.fixture
def crawl(workspace: Path) -> Path:
    make_crawl()
    return workspace


def write_project() -> None:
    """Everything that the front page and the pages below it read."""
    write_judging()
    write_training()
    write_evaluation()
    make_crawl()
    write_json("data/scaling/plan/plan.json", plan.plan().model_dump(mode="json"))
    write_json("data/scaling/ladder/points.json", {"points": [f"w{i}" for i in range(10)]})


@pytest.fixture
def project(workspace: Path) -> Path:
    write_project()
    return workspace


@pytest.fixture
def set_param() -> Callable[[str, Any], None]:
    return change
