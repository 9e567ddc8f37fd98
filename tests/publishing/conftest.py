"""A small project with every file that the report reads, made up by a seeded generator."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from stages.base import schemas
from stages.base.files import write_json, write_jsonl
from stages.base.tables import write_table
from stages.scaling.budget.cost import estimate

HOSTILE = '<script>alert("x")</script><img src=x onerror=alert(1)> & "quoted"'
MODELS: dict[str, dict[str, str]] = {
    "dpo": {"kind": "checkpoint", "source": "data/alignment/dpo/model.safetensors"},
    "best_of_n": {"kind": "outputs", "source": "data/alignment/best_of_n/outputs.parquet"},
    "sft": {"kind": "checkpoint", "source": "data/alignment/sft/model.safetensors"},
    "ppo": {"kind": "checkpoint", "source": "data/alignment/ppo/model.safetensors"},
    "base": {"kind": "checkpoint", "source": "data/pretraining/anneal/model.safetensors"},
    "nearest_neighbour": {"kind": "nearest_neighbour", "source": "data/alignment/instructions/instructions.parquet"},
    "constant": {"kind": "constant", "source": "data/alignment/instructions/instructions.parquet"},
    "shuffled": {"kind": "shuffled", "source": "data/alignment/instructions/instructions.parquet"},
}
RIGHT = {
    "dpo": 66.4,
    "best_of_n": 68.1,
    "sft": 62.3,
    "ppo": 64.0,
    "base": 0.7,
    "nearest_neighbour": 8.3,
    "constant": 6.9,
    "shuffled": 7.7,
}
WINS = {
    "dpo": 57.2,
    "best_of_n": 58.9,
    "sft": 50.0,
    "ppo": 53.1,
    "base": 6.0,
    "nearest_neighbour": 14.0,
    "constant": 15.3,
    "shuffled": 13.1,
}


def leaderboard() -> dict[str, Any]:
    rows = []
    for rank, model in enumerate(sorted(MODELS, key=lambda name: -WINS[name]), 1):
        kind, win, right = MODELS[model]["kind"], WINS[model], RIGHT[model]
        lc = 50 + (win - 50) * 0.8
        rows.append(
            {
                "model": model,
                "kind": kind,
                "rank": rank,
                "control": kind not in ("checkpoint", "outputs"),
                "baseline": model == "sft",
                "chosen": model == "dpo",
                "win_rate": win,
                "win_rate_low": win - 2,
                "win_rate_high": win + 2,
                "lc_win_rate": lc,
                "lc_low": lc - 3,
                "lc_high": lc + 3,
                "lc_standard_error": 1.5,
                "bradley_terry": (win - 50) / 25,
                "bradley_terry_low": (win - 50) / 25 - 0.1,
                "bradley_terry_high": (win - 50) / 25 + 0.1,
                "right": right,
                "right_low": max(0, right - 3),
                "right_high": right + 3,
                "mean_score": right / 100,
                "mean_length": 40 + win,
                "n": 360,
                "missing": 0,
                "standard_error": 1.0,
                "n_wins": 180,
                "n_wins_base": 170,
                "n_draws": 10,
                "n_total": 360,
                "discrete_win_rate": win,
                "arena_rating": 1000 + 7 * (win - 50),
                "arena_rating_low": 980 + 7 * (win - 50),
                "arena_rating_high": 1020 + 7 * (win - 50),
                "prefers_first": 50.0,
                "usd": 0.0,
                "usd_per_1000": 0.0,
                "seconds_per_1000": None,
                "lineage": f"{rank:016x}",
                "validation": {},
            }
        )
    comparisons = [
        {
            "model": "dpo",
            "against": control,
            "metric": "right",
            "split": "test",
            "difference": RIGHT["dpo"] - RIGHT[control],
            "low": RIGHT["dpo"] - RIGHT[control] - 5,
            "high": RIGHT["dpo"] - RIGHT[control] + 5,
            "n": 360,
        }
        for control in ("constant", "shuffled", "nearest_neighbour")
    ]
    judge = {
        "simulated": True,
        "label": "simulated annotators (13, length bias 0.5, label noise 0.25)",
        "provider": "simulated",
        "model": "simulated-pool",
        "versions": {},
    }
    return {
        "baseline": "sft",
        "judge": judge,
        "chosen": {"model": "dpo", "split": "validation", "by": "right"},
        "rows": rows,
        "comparisons": comparisons,
        "correlations": [{"a": "win_rate", "b": "right", "spearman": 0.9, "low": 0.6, "high": 1.0, "n": 8}],
        "notes": [],
    }


def ladder_points(rng: np.random.Generator) -> list[dict[str, Any]]:
    points = []
    for arch, sizes in (("transformer", (1e5, 2e5, 4e5, 8e5)), ("lstm", (2e5, 4e5, 8e5))):
        for n in sizes:
            for tokens in (5e5, 2e6) if arch == "transformer" else (2e6,):
                loss = (
                    (1.6 + 90 * n**-0.36 + 180 * tokens**-0.38)
                    * (1.06 if arch == "lstm" else 1)
                    * float(np.exp(rng.normal(0, 0.004)))
                )
                points.append(
                    {
                        "key": f"{arch[:1]}_{int(n / 1e3)}k_{int(tokens / 1e5)}",
                        "arch": arch,
                        "n_params": int(n),
                        "n_nonembedding": int(n / 2),
                        "tokens": int(tokens),
                        "flops": 6.3 * n * tokens,
                        "loss": loss,
                        "bpb": loss / 2.5,
                    }
                )
    return points


def fit_and_plan(rng: np.random.Generator) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    points = ladder_points(rng)
    law = {"A": 90.0, "B": 180.0, "E": 1.6, "alpha": 0.36, "beta": 0.38}
    last = max((point for point in points if point["arch"] == "transformer"), key=lambda point: point["flops"])
    fit = {
        "count": "total",
        "level": 0.95,
        "noise": 0.004,
        "prior": {name: {"mean": 0.35, "sd": 0.05} for name in ("alpha", "beta", "log_E")},
        "transformer": law
        | {
            "a": 0.51,
            "b": 0.49,
            "n": 8,
            "residual_rms": 0.004,
            "interval": {name: [value * 0.8, value * 1.2] for name, value in {**law, "a": 0.51}.items()},
        },
        "lstm": law | {"A": 96.0, "B": 190.0, "compute_multiplier": 1.74, "compute_multiplier_interval": [1.4, 2.2]},
        "withheld": {
            "points": [
                {
                    "key": last["key"],
                    "loss": last["loss"],
                    "predicted": last["loss"] * 1.01,
                    "low": last["loss"] * 0.99,
                    "high": last["loss"] * 1.03,
                    "error": 0.01,
                }
            ],
            "mean_abs_error": 0.01,
            "reason": "",
        },
        "isoflop": {"a": None, "b": None, "reason": "no budget has an interior minimum", "minima": []},
        "points": points,
    }
    model = {"arch": "transformer", "n_layer": 4, "d_model": 160, "n_head": 5}
    plan = {
        "model": model,
        "shape": "w160",
        "n_params": 1_630_000,
        "n_nonembedding": 980_000,
        "tokens": 6_100_000,
        "batch_tokens": 8192,
        "lr": 0.02,
        "predicted_loss": 2.741,
        "interval": [2.68, 2.81],
        "level": 0.95,
        "tokens_per_parameter": 3.74,
        "budget_flops": 7e13,
        "planned_flops": 6.6e13,
        "optimum": {"n": 2e6, "tokens": 5e6, "loss": 2.73},
        "data": {"unique_tokens": 2_900_000, "stream_tokens": 6_200_000, "passes": 0.98, "fresh_tokens": 6_100_000.0},
        "alternatives": [
            {
                "name": "as planned", "n": 1.63e6, "tokens": 6.1e6, "passes": 0.98, "tokens_per_parameter": 3.74,
                "flops": 6e13, "total_flops": 3.3e15, "loss": 2.741, "interval": [2.68, 2.81], "allowed": True,
            },
            {
                "name": "150 tokens per parameter", "n": 2.7e5, "tokens": 4.1e7, "passes": 6.5,
                "tokens_per_parameter": 150, "flops": 6.6e13, "total_flops": 6e14, "loss": 3.1, "interval": [3.0, 3.2],
                "allowed": False,
            },
            {
                "name": "equal loss, 1e+09 tokens served", "n": 1.2e6, "tokens": 9.1e6, "passes": 1.47, "saves": 0.253,
                "tokens_per_parameter": 7.58, "flops": 6.6e13, "total_flops": 2.5e15, "loss": 2.741,
                "interval": [2.66, 2.83], "allowed": True,
            },
        ],
        "cost": estimate(1.63e6, 6.1e6).as_dict(),
        "reasons": ["w160 has the lowest predicted loss of 5 shapes.", "The law is extrapolated 6.1-fold in compute."],
    }  # fmt: skip
    return fit, plan, [point["key"] for point in points]


def write_corpus(rng: np.random.Generator) -> None:
    urls = [f"https://atlas.invalid/{i}" for i in range(300)]
    left = list(urls)
    for stage, reasons in (
        ("ingest", []),
        ("extract", [("extract", "empty", 4)]),
        ("screen", [("language", "not_english", 9)]),
        ("dedup", [("exact", "exact_duplicate", 20), ("minhash", "near_duplicate", 14)]),
        ("heuristics", [("gopher_quality", f"gopher_reason_{i}", 3) for i in range(6)]),
        ("quality", [("classifier", "low_quality", 11)]),
        ("domains", []),
        ("decontaminate", [("contamination", "ngram_overlap", 6)]),
    ):
        drops = []
        for rule, reason, number in reasons:
            for url in left[:number]:
                drops.append(
                    {
                        "id": url,
                        "source": "atlas",
                        "url": url,
                        "rule": rule,
                        "reason": reason,
                        "duplicate_of": "",
                        "sample": "",
                    }
                )
            left = left[number:]
        folder = Path("data/corpus") / stage
        write_table(folder / "drops.parquet", pa.Table.from_pylist(drops, schema=schemas.DROP), schemas.DROP)
        if stage == "ingest":
            _pages(folder / "pages.parquet", urls)
            continue
        rows = [
            {
                "id": url,
                "source": "atlas",
                "url": url,
                "licence": "",
                "opt_out": "",
                "language": "en",
                "text": f"text of {url} remains",
                "text_hash": "",
                "links": [],
                "quality": 0.5,
                "domain": "",
            }
            for url in left
        ]
        write_table(folder / "documents.parquet", pa.Table.from_pylist(rows, schema=schemas.DOCUMENT), schemas.DOCUMENT)
    _pages(Path("data/corpus/atlas/pages.parquet"), urls)
    planted = [{"url": urls[i], "kind": "spam", "of_url": "", "payload": ""} for i in (0, 1, 299)]
    planted += [{"url": urls[10], "kind": "exact_duplicate", "of_url": urls[200], "payload": ""}]
    planted += [{"url": urls[298], "kind": "pii_email", "of_url": "", "payload": "a@b.c"}]
    planted += [{"url": urls[297], "kind": "boilerplate", "of_url": "", "payload": "remains"}]
    planted += [{"url": urls[296], "kind": "edition", "of_url": urls[295], "payload": ""}]
    planted += [{"url": "https://never.invalid/", "kind": "spam", "of_url": "", "payload": ""}]
    write_table(
        "data/corpus/atlas/planted.parquet", pa.Table.from_pylist(planted, schema=schemas.PLANTED), schemas.PLANTED
    )


def _pages(path: Path, urls: list[str]) -> None:
    rows = [{"id": url, "source": "atlas", "url": url, "licence": "", "opt_out": "", "html": b"<p>"} for url in urls]
    write_table(path, pa.Table.from_pylist(rows, schema=schemas.PAGE), schemas.PAGE)


def write_answers() -> None:
    questions = [
        {
            "id": f"q{i}",
            "split": "test",
            "origin": "atlas",
            "entity": f"E{i}",
            "attributes": ["province"],
            "prompt": f"In which province does {HOSTILE if i == 0 else f'Velmora {i}'} lie?",
            "response": "It lies in Anthar.",
        }
        for i in range(8)
    ]
    write_table(
        "data/alignment/instructions/instructions.parquet",
        pa.Table.from_pylist(questions, schema=schemas.INSTRUCTION),
        schemas.INSTRUCTION,
    )
    for model in MODELS:
        outputs = [
            {
                "id": f"q{i}",
                "split": "test",
                "prompt": "",
                "output": f"{model} says {HOSTILE}" if i == 0 else f"Answer {i} of {model}.",
                "tokens": 5,
            }
            for i in range(8)
        ]
        exact = [
            {
                "id": f"q{i}",
                "split": "test",
                "model": model,
                "asked": 1,
                "correct": i % 2,
                "wrong": 1 - i % 2,
                "score": 2 * (i % 2) - 1,
                "right": bool(i % 2),
            }
            for i in range(8)
        ]
        write_table(
            f"data/judging/respond/{model}/outputs.parquet",
            pa.Table.from_pylist(outputs, schema=schemas.OUTPUT),
            schemas.OUTPUT,
        )
        write_table(
            f"data/judging/judge/{model}/exact.parquet",
            pa.Table.from_pylist(exact, schema=schemas.EXACT),
            schemas.EXACT,
        )


def write_training(rng: np.random.Generator) -> None:
    def curve(steps: int, start: float, end: float, **more: float) -> list[dict[str, Any]]:
        decay = end + (start - end) * np.exp(-np.arange(steps) / (steps / 6))
        return [{"step": i, "loss": float(v + rng.normal(0, 0.03)), "lr": 0.01, **more} for i, v in enumerate(decay)]

    write_jsonl("data/pretraining/pretrain/steps.jsonl", curve(740, 7.0, 2.75))
    write_jsonl("data/pretraining/anneal/steps.jsonl", curve(150, 2.95, 2.6))
    write_json(
        "data/pretraining/pretrain/metrics.json", {"validation_loss": 2.768, "trunk_steps": 600, "flops": 6.6e13}
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
    write_jsonl(
        "data/alignment/sft/steps.jsonl",
        [
            row | ({"validation_exact_right": 0.1 + row["step"] / 300} if row["step"] % 40 == 39 else {})
            for row in curve(160, 3, 0.2)
        ],
    )
    write_json(
        "data/alignment/reward/metrics.json",
        {"held_out_pairs": 75, "held_out_accuracy": 0.55, "held_out_score_accuracy": None},
    )
    for name, label in (("reward", "accuracy"), ("dpo", "accuracy")):
        write_jsonl(
            f"data/alignment/{name}/steps.jsonl",
            [row | {label: float(0.5 + 0.3 * row["step"] / 60 + rng.normal(0, 0.04))} for row in curve(60, 0.7, 0.5)],
        )
    write_jsonl(
        "data/alignment/ppo/steps.jsonl",
        [row | {"reward": row["step"] / 60, "kl": row["step"] / 900} for row in curve(60, 0.7, 0.5)],
    )


def write_evaluation() -> list[str]:
    for index, name in enumerate(("base", "sft", "dpo", "ppo")):
        metrics: dict[str, float | int] = {
            "bpb": 1.31 + 0.02 * index,
            "bpb_atlas": 0.42 + 0.1 * index,
            "bpb_package_docs": 1.61 + 0.02 * index,
            "bpb_domain_maths": 1.5,
            "bytes": 118_402,
            "mc_questions": 200,
            "mc_chance_acc": 0.25,
            "mc_constant_acc": 0.28,
        }
        for protocol, accuracy in (("original", 0.26), ("cloze", 0.55 - 0.05 * index), ("chat", 0.5)):
            metrics |= {
                f"mc_{protocol}_acc": accuracy,
                f"mc_{protocol}_acc_low": accuracy - 0.06,
                f"mc_{protocol}_acc_high": accuracy + 0.06,
                f"mc_{protocol}_acc_norm": accuracy,
                f"mc_{protocol}_shots": 2.0,
            }
        write_json(f"data/evaluation/evaluate/{name}/metrics.json", metrics)
    planted = [
        {"copies": c, "p_value": p, "t": 1.0, "examples": 60}
        for c, p in ((0, 0.58), (1, 0.41), (4, 0.04), (16, 0.013), (64, 6e-6))
    ]
    overlap = {"items": 300, "any_13gram": 0.003, "mean_8gram_share": 0.01, "dirty": 0.0, "dirty_ids": []}
    write_json(
        "data/evaluation/contamination/contamination.json",
        {
            "verdicts": [
                {
                    "check": "ordering",
                    "model": "data/pretraining/anneal",
                    "set": "multiple_choice",
                    "p_value": 0.43,
                    "alpha": 0.05,
                    "detects_from_copies": 4,
                    "verdict": "clean",
                },
                {
                    "check": "overlap",
                    "model": "data/pretraining/anneal",
                    "set": "multiple_choice",
                    "dirty": 0.0,
                    "verdict": "clean",
                },
                {
                    "check": "overlap",
                    "model": "data/pretraining/anneal",
                    "set": "questions",
                    "dirty": 0.0,
                    "verdict": "clean",
                },
            ],
            "ordering": {"p_value": 0.43, "t": 0.2, "differences": [0.1], "examples": 100},
            "planted": planted,
            "overlap": {"multiple_choice": overlap, "questions": overlap},
            "accuracy": {
                "protocol": "cloze",
                "all_questions": 200,
                "all_acc": 0.55,
                "clean_questions": 200,
                "clean_acc": 0.55,
                "dirty_questions": 0,
                "dirty_acc": None,
            },
        },
    )
    return ["base", "sft", "dpo", "ppo"]


def make_project() -> None:
    """Everything publishing.report reads, below the working directory."""
    rng = np.random.default_rng(7)
    fit, plan, points = fit_and_plan(rng)
    write_json("data/scaling/fit/fit.json", fit)
    write_json("data/scaling/plan/plan.json", plan)
    write_json("data/judging/leaderboard/leaderboard.json", leaderboard())
    write_json(
        "data/judging/agreement/agreement.json",
        {
            "simulated": True,
            "label": "simulated annotators (13, length bias 0.5, label noise 0.25)",
            "n_pairs": 600,
            "n_annotators": 13,
            "rows": [],
            "pool": {
                "agreement": 68.0,
                "bias": 12.0,
                "variance": 32.0,
                "prefers_longer": 57.0,
                "prefers_first": 50.0,
                "truth_agreement": 79.0,
            },
        },
    )
    sources = {
        name: {"unique_tokens": u, "unique_bytes": 3 * u, "tokens": t}
        for name, u, t in (("atlas", 150_000, 3_000_000), ("package_docs", 2_750_000, 3_200_000))
    }
    write_json("data/tokens/pack/pack.json", {"train": {"sources": sources}, "anneal": {"sources": sources}})
    write_corpus(rng)
    write_answers()
    write_training(rng)
    checkpoints = write_evaluation()
    params = {
        "run": {"seed": 1},
        "corpus": {"seed": 2},
        "judging": {"models": MODELS},
        "scaling": {"points": {key: {"tokens": 1} for key in points}},
        "evaluation": {"checkpoints": {key: {"path": "x"} for key in checkpoints}},
        "publishing": {
            "report": {
                "title": "Trainyard",
                "prompts": 4,
                "side_by_side": ["base", "sft", "dpo"],
                "curve_points": 240,
                "base": "base",
            }
        },
    }
    Path("params.yaml").write_text(json.dumps(params))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRAINYARD_TRACK", "off")
    make_project()
    return tmp_path
