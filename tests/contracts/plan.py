"""The plan of a run of 1.6M parameters."""

from typing import Any

from stages.base.contracts.plan import Plan
from stages.scaling.budget.cost import estimate
from tests.contracts.scaling import RECIPE


def plan(**changes: Any) -> Plan:
    alternative = {"serving_flops": 3.2e15, "total_flops": 3.3e15, "loss": 2.741, "interval": [2.66, 2.83]}
    values = {
        "model": {"arch": "transformer", "n_layer": 4, "d_model": 160, "n_head": 5}, "shape": "w160",
        "n_params": 1_630_000, "n_nonembedding": 980_000, "tokens": 6_100_000, "batch_tokens": 8192, "lr": 0.02,
        "recipe": RECIPE, "tokenizer_sha256": "0" * 64, "predicted_loss": 2.741, "interval": [2.68, 2.81],
        "level": 0.95, "tokens_per_parameter": 3.74, "budget_flops": 7e13, "planned_flops": 6.6e13,
        "optimum": {"n": 2e6, "tokens": 5e6, "loss": 2.73},
        "data": {
            "unique_tokens": 2_900_000, "stream_tokens": 6_200_000, "passes": 0.98, "fresh_tokens": 6.1e6,
            "decay": 15.4,
        },
        "candidates": [],
        "alternatives": [
            alternative | {
                "name": "as planned", "n": 1.63e6, "tokens": 6.1e6, "passes": 0.98, "tokens_per_parameter": 3.74,
                "flops": 6e13, "allowed": True,
            },
            alternative | {
                "name": "equal loss, 1e+09 tokens served", "n": 1.2e6, "tokens": 9.1e6, "passes": 1.47, "saves": 0.253,
                "tokens_per_parameter": 7.58, "flops": 6.6e13, "allowed": True,
            },
        ],
        "next_dollar": {
            "compute_percent": 0.001, "data_percent": 0.002, "compute_usd": 0.01, "unique_tokens": 2.9e6,
            "usd_per_million_tokens": 1.0, "break_even_usd_per_million_tokens": None, "buys_more": "data",
        },
        "cost": estimate(1.63e6, 6.1e6).as_dict(),
        "reasons": ["w160 has the lowest predicted loss of 5 shapes."],
    }  # fmt: skip
    return Plan.model_validate(values | changes)
