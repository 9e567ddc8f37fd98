"""What models know, and whether the base model has seen the tests."""

from typing import Any

from stages.base.contracts.contamination import Contamination
from stages.base.contracts.evaluation import Evaluation


def evaluation(worse: float = 0.0, **changes: Any) -> Evaluation:
    """`worse`: bits per byte above the best model's."""
    text = {
        "bpb": 1.31 + worse, "perplexity": 40.0, "nats_per_token": 3.7, "documents": 60, "tokens": 30_000,
        "bytes": 118_402, "sources": {"atlas": 0.42 + 5 * worse, "package_docs": 1.61 + worse},
        "domains": {"maths": 1.5},
    }  # fmt: skip
    protocols = {
        name: {
            "acc": share, "acc_low": share - 0.06, "acc_high": share + 0.06, "acc_norm": share, "shots": 2.0,
            "answered": 200, "too_long": 0,
        }
        for name, share in (("original", 0.26), ("cloze", 0.55 - 2 * worse), ("chat", 0.5))
    }  # fmt: skip
    task = {"questions": 200, "chance_acc": 0.25, "constant_acc": 0.28, "protocols": protocols}
    return Evaluation.model_validate({"texts": {"held_out": text}, "tasks": {"atlas_facts": task}} | changes)


def contamination(**changes: Any) -> Contamination:
    planted = [
        {"copies": copies, "p_value": p, "t": 1.0}
        for copies, p in ((0, 0.58), (1, 0.41), (4, 0.04), (16, 0.013), (64, 6e-6))
    ]
    overlap = {
        "items": 300, "ngram": 13, "any_ngram": 0.003, "share_ngram": 8, "mean_share": 0.01, "dirty": 0.0,
        "dirty_ids": [], "verdict": "clean", "reason": "",
    }  # fmt: skip
    accuracy = {
        "task": "atlas_facts", "protocol": "cloze", "all_questions": 200, "all_acc": 0.55, "clean_questions": 200,
        "clean_acc": 0.55, "dirty_questions": 0, "dirty_acc": None,
    }  # fmt: skip
    ordering = {
        "task": "atlas_facts", "examples": 100, "p_value": 0.43, "t": 0.2, "differences": [0.1], "verdict": "clean",
        "reason": "",
    }  # fmt: skip
    values = {
        "model": "base", "alpha": 0.05, "dirty_share": 0.7, "ordering": [ordering],
        "power": {"planted": planted, "detects_from_copies": 4, "reason": ""},
        "overlap": [{"set": name, **overlap} for name in ("atlas_facts", "instructions")], "accuracy": [accuracy],
    }  # fmt: skip
    return Contamination.model_validate(values | changes)
