"""What models know, and whether the base model has seen the tests."""

import math
from typing import Any

import numpy as np
import pyarrow as pa

from stages.base.contracts.contamination import Contamination
from stages.base.contracts.evaluation import (
    Accuracy,
    Calibration,
    Controls,
    Evaluation,
    Sample,
    Samples,
    Score,
    TaskResult,
    TextLoss,
)

PROTOCOLS = {"original": 0.26, "cloze": 0.55, "chat": 0.5}  # share right, where `worse` is 0


def score(mean: float, **changes: Any) -> Score:
    values = {"mean": mean, "low": mean - 0.06, "high": mean + 0.06, "n": 200, "method": "exact binomial"}
    return Score.model_validate(values | changes)


def calibration(over: float = 0.0, **changes: Any) -> Calibration:
    """`over`: by how much the model's probabilities are above its share of right answers."""
    bins = [
        {"confidence": x, "accuracy": max(0.0, x - over), "count": 10 * i}
        for i, x in enumerate((0.3, 0.5, 0.7, 0.95), 1)
    ]
    values = {
        "n": 100, "ece": over, "low": max(0.0, over - 0.03), "high": over + 0.03, "by_chance": 0.04,
        "method": "4 bins of about equal counts", "bins": bins, "brier": 0.5, "reliability": 0.1, "resolution": 0.2,
        "uncertainty": 0.6, "entropy": 1.1,
    }  # fmt: skip
    return Calibration.model_validate(values | changes)


def accuracy(share: float, **changes: Any) -> Accuracy:
    values = {
        "shots": 2.0, "answered": 200, "too_long": 0, "metric": "acc",
        "scores": {"acc": score(share), "acc_norm": score(share - 0.01)},
    }  # fmt: skip
    return Accuracy.model_validate(values | changes)


def task(worse: float = 0.0, **changes: Any) -> TaskResult:
    protocols = {name: accuracy(share - (2 * worse if name == "cloze" else 0)) for name, share in PROTOCOLS.items()}
    values = {"questions": 200, "chance_acc": 0.25, "constant_acc": 0.28, "protocols": protocols}
    return TaskResult.model_validate(values | changes)


def text(worse: float = 0.0, **changes: Any) -> TextLoss:
    values = {
        "bpb": 1.31 + worse, "perplexity": 40.0, "nats_per_token": 3.7, "documents": 60, "tokens": 30_000,
        "bytes": 118_402, "sources": {"atlas": 0.42 + 5 * worse, "package_docs": 1.61 + worse},
        "domains": {"maths": 1.5},
    }  # fmt: skip
    return TextLoss.model_validate(values | changes)


def evaluation(worse: float = 0.0, **changes: Any) -> Evaluation:
    """`worse`: bits per byte above the best model's."""
    values = {"texts": {"held_out": text(worse)}, "tasks": {"atlas_facts": task(worse)}}
    return Evaluation.model_validate(values | changes)


def full_evaluation(worse: float = 0.0, **changes: Any) -> Evaluation:
    """With all that a model's evaluation can hold: variants, subjects, calibration, positions, controls, groups."""
    names = ("", "q_a", "lower_letters", "rotated", "terse")
    protocols = {
        name: accuracy(
            share - (2 * worse if name == "cloze" else 0) + (3 * worse if name == "chat" else 0),
            variants={one: score(share - worse + 0.02 * i) for i, one in enumerate(names)},
            subjects={"trade": score(share, n=90), "dye": score(share - 0.1, n=110)},
            calibration=calibration(0.05 + 2 * worse),
            left_out={"too_long": 3} if worse else {},
            scores={"acc": score(share, clusters=40, method="t, clustered by passage"), "acc_norm": score(share)},
        )
        for name, share in PROTOCOLS.items()
    }
    positions = [
        {"begin": begin, "end": 2 * begin or 1, "nats_per_token": 4.2 - 0.2 * i + worse, "tokens": 60 * 2**i}
        for i, begin in enumerate((0, 1, 2, 4, 8, 16, 32, 64))
    ]
    held_out = text(
        worse, bpb_low=1.25 + worse, bpb_high=1.37 + worse, word_perplexity=310.0 + 900 * worse, byte_perplexity=2.48,
        words=19_000, window=256, stride=192, positions=positions, entropy=3.6 - worse, next_token=calibration(worse),
        controls={"uniform_tokens": 3.4},
        domains={"maths": 1.5 + worse, "numerics": 1.7, "statistics": 1.4 + 2 * worse},
    )  # fmt: skip
    generated = accuracy(
        0.1 + worse, metric="exact_match", scores={"exact_match": score(0.1 + worse)}, unread=4, truncated=2, version=2
    )
    sums = TaskResult(questions=120, chance_acc=None, constant_acc=None, protocols={"generate": generated})
    groups = [
        {"group": "all", "protocol": "cloze", "tasks": ["atlas_facts"],
         "scores": {"size_weighted": score(0.5), "normalised": score(0.4), "centred": score(0.38)}},
    ]  # fmt: skip
    values = {
        "texts": {"held_out": held_out}, "tasks": {"atlas_facts": task(worse, protocols=protocols), "sums": sums},
        "groups": groups, "tokenizer": "0123456789abcdef",
    }  # fmt: skip
    return Evaluation.model_validate(values | changes)


def controls(**changes: Any) -> Controls:
    values = {
        "bpb": {"uniform": 8.0, "gzip": 2.9, "lzma": 2.7, "unigram": 4.61, "ngram": 2.31}, "order": 5,
        "trained_bytes": 1_000_000, "documents": 60, "bytes": 118_402,
    }  # fmt: skip
    return Controls.model_validate(values | changes)


def items(worse: float = 0.0, tasks: tuple[str, ...] = ("atlas_facts",), n: int = 200, clusters: int = 0) -> pa.Table:
    """Rows of `items.parquet` as far as pages read them: a model of `worse` misses more of the same questions."""
    rows = []
    for name in tasks:
        for protocol, share in PROTOCOLS.items():
            hard = np.random.default_rng(7).random(n)
            bound = share + (-2 * worse if protocol == "cloze" else 3 * worse if protocol == "chat" else 0)
            rows += [
                {
                    "set": name,
                    "protocol": protocol,
                    "id": f"q{i}",
                    "variant": "",
                    "cluster": f"p{i // clusters}" if clusters else "",
                    "correct": float(hard[i] < bound),
                    "nats": None,
                    "bytes": None,
                }
                for i in range(n)
            ]
    costs = np.random.default_rng(8).normal(1.3, 0.2, 12) + worse + np.random.default_rng(9).normal(0, 0.02, 12) * worse
    rows += [
        {"set": "held_out", "protocol": "", "id": f"d{i}", "variant": None, "cluster": None, "correct": None,
         "nats": float(cost) * math.log(2) * (900 + 50 * i), "bytes": 900 + 50 * i}
        for i, cost in enumerate(costs)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows)


def samples(model: str, hostile: str = "", right: bool = True, n: int = 4) -> Samples:
    """`hostile` stands in every text that a model or a file brings."""
    chosen = 0 if right else 1
    made = [
        Sample(
            task=name, protocol=protocol, id=f"q{i}", subject=f"trade {hostile}", question=f"What is {i}? {hostile}",
            prompt=f"Question:  two spaces {i} {hostile}\nAnswer:" + (f" for {model}" if protocol == "chat" else ""),
            choices=[] if protocol == "generate" else [f"baker {hostile}", "printer"],
            answer=-1 if protocol == "generate" else 0, target="baker", choice=-1 if protocol == "generate" else chosen,
            text=f"I think {hostile}" if protocol == "generate" else "",
            logprobs=[] if protocol == "generate" else [-1.0, -2.0], right=right,
        )
        for name, protocol in (("atlas_facts", "cloze"), ("atlas_facts", "chat"), ("sums", "generate"))
        for i in range(n)
    ]  # fmt: skip
    return Samples(samples=made)


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


def full_contamination(hostile: str = "", **changes: Any) -> Contamination:
    """With a probe that has a name, canaries, rules, places, membership, and a model whose corpus nobody knows."""
    plain = contamination()
    rules = [
        {"rule": "13-gram", "source": "Brown et al. 2020", "meaning": "a shared run of 13 words", "clean": 290,
         "suspect": 7, "dirty": 3, "mean_share": 0.01},
        {"rule": "8-gram share", "source": "Chowdhery et al. 2022", "meaning": "70 % of its runs of 8 words",
         "clean": 296, "suspect": 2, "dirty": 2, "mean_share": 0.02},
        {"rule": "token spans", "source": "Touvron et al. 2023", "meaning": "80 % of its tokens in shared spans",
         "clean": 295, "suspect": 3, "dirty": 2, "mean_share": 0.03},
    ]  # fmt: skip
    place = {"document": "d1", "source": f"web {hostile}", "url": f"https://web.invalid/{hostile}", "position": 40,
             "text": f"In which province does Velmora lie {hostile}"}  # fmt: skip
    found = [
        {"id": f"q7{hostile}", "state": "dirty", "shares": {"13-gram": 1.0, "token spans": 0.9}, "places": [place]}
    ]
    overlap = [
        one.model_copy(update={"dirty": 0.01, "dirty_ids": ["q7"], "verdict": "contaminated"}).model_dump()
        | {"rules": rules, "found": found}
        for one in plain.overlap[:1]
    ]
    planted = [row.model_dump() for row in plain.power.planted]
    planted += [{"copies": 16, "p_value": 0.4, "t": 0.2, "shuffled": True}]
    power = {
        "planted": planted, "detects_from_copies": 4, "reason": "", "probe_parameters": 893_000,
        "probe_tokens": 905_000, "recipe": "2 layers of width 128, the run's own recipe",
        "canaries": [{"copies": 0, "rank": 480, "of": 1024, "exposure": 1.09},
                     {"copies": 16, "rank": 1, "of": 1024, "exposure": 10.0}],
    }  # fmt: skip
    split = plain.accuracy[0].model_dump() | {
        "clean_questions": 190, "clean_acc": 0.53, "dirty_questions": 10, "dirty_acc": 0.93, "gap": 0.02,
        "gap_low": 0.005, "gap_high": 0.035, "method": "paired",
    }  # fmt: skip
    membership = [
        {"task": "atlas_facts", "method": method, "k": 0.2, "mean": -6.1, "auc": 0.52, "auc_low": 0.46,
         "auc_high": 0.58, "members": 150, "non_members": 150}
        for method in ("min_k", "min_k_plus_plus")
    ]  # fmt: skip
    verdicts = [
        {"model": model, "task": "atlas_facts", "verdict": word, "reason": reason}
        for model, word, reason in (
            ("base", "contaminated", "3 of 300 questions stand in the training text"),
            ("sft", "contaminated", "trained from base"), ("dpo", "clean", ""), ("ppo", "unknown", "corpus not known"),
        )
    ]  # fmt: skip
    values = plain.model_dump() | {
        "overlap": overlap, "power": power, "accuracy": [split], "membership": membership, "verdicts": verdicts,
    }  # fmt: skip
    return Contamination.model_validate(values | changes)
