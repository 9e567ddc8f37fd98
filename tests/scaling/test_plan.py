"""The plan: spends the budget, respects the stream, predicts with an interval, and says why."""

from typing import Any

import numpy as np
import pytest

from stages.base.errors import InputError, ParamError
from stages.base.params import parse
from stages.lm.config import ModelConfig
from stages.scaling.fit import analyse
from stages.scaling.inference import serve_optimum
from stages.scaling.plan import PlanParams, make_plan
from stages.scaling.shape import train_flops

SHAPES = {
    "small": {"n_layer": 3, "d_model": 96, "n_head": 3, "n_kv_head": 3, "d_ff": 256},
    "medium": {"n_layer": 4, "d_model": 128, "n_head": 4, "n_kv_head": 4, "d_ff": 352},
    "large": {"n_layer": 5, "d_model": 160, "n_head": 5, "n_kv_head": 5, "d_ff": 432},
}
BUDGET = {"flops": 2.4e13, "device": None, "count": None, "hours": None, "mfu": None}


def plan_params(**changes: Any) -> PlanParams:
    values = {
        "budget": BUDGET, "shapes": SHAPES, "batch_tokens": 2048, "inference_tokens": 1e9, "cost_device": "h100",
        "rope_theta": 10000.0, "tie_embeddings": True, "qk_norm": True, "norm_eps": 1e-6,
    }  # fmt: skip
    return parse("scaling.plan", values | changes, PlanParams)


def pack(rows: int = 50_000) -> dict[str, Any]:
    return {
        "vocab_size": 2048,
        "seq_len": 256,
        "tokenizer_sha256": "0" * 64,
        "train": {"rows": rows},
        "unique_tokens": {"docs": 10**6, "atlas": 10**5},
    }


@pytest.fixture(scope="module")
def fit(ladder_points, fit_params) -> dict[str, Any]:
    return analyse(ladder_points(), fit_params(), seed=1)


def test_spends_the_budget_in_whole_batches(fit: dict[str, Any], law) -> None:
    plan = make_plan(fit, pack(), plan_params(), seed=0)
    config = ModelConfig.from_dict(plan["model"])
    assert plan["tokens"] % plan["batch_tokens"] == 0
    assert 0.99 * BUDGET["flops"] < plan["planned_flops"] <= BUDGET["flops"]
    assert plan["planned_flops"] == pytest.approx(train_flops(config, plan["tokens"], 256))
    assert plan["predicted_loss"] == min(candidate["loss"] for candidate in plan["candidates"])
    low, high = plan["interval"]
    assert low < plan["predicted_loss"] < high
    assert low < law.predict(config.param_count(), plan["tokens"]) < high
    assert plan["n_params"] == config.param_count()


def test_a_short_stream_caps_the_tokens_and_is_reported(fit: dict[str, Any]) -> None:
    plan = make_plan(fit, pack(rows=4000), plan_params(), seed=0)
    assert plan["tokens"] <= 4000 * 256
    assert all(candidate["capped_by_data"] for candidate in plan["candidates"])
    assert plan["shape"] == "large"  # with tokens equal, the budget goes into parameters
    assert any("left unspent" in reason for reason in plan["reasons"])
    assert any("more data would buy more" in reason for reason in plan["reasons"])


def test_learning_rate_follows_the_ladders_rule(fit: dict[str, Any]) -> None:
    plan = make_plan(fit, pack(), plan_params(shapes={"large": SHAPES["large"]}), seed=0)
    assert plan["lr"] == 0.02 and plan["recipe"]["optimizer"] == "muon"


def test_alternatives_cost_the_same_and_lose_to_the_optimum(fit: dict[str, Any]) -> None:
    plan = make_plan(fit, pack(), plan_params(), seed=0)
    rows = {row["name"]: row for row in plan["alternatives"]}
    best = rows["compute-optimal"]
    for ratio in (20, 150):
        row = rows[f"{ratio} tokens per parameter"]
        assert row["flops"] == pytest.approx(BUDGET["flops"])
        assert row["tokens_per_parameter"] == pytest.approx(ratio)
        assert row["loss"] >= best["loss"]
    served = rows["equal loss, 1e+09 tokens served"]
    assert served["loss"] == pytest.approx(plan["predicted_loss"], rel=1e-6)
    assert served["saves"] >= 0


def test_serving_nothing_is_training_optimal_and_serving_more_means_smaller(law) -> None:
    n, d = law.optimum(1e15)
    loss = float(law.predict(n, d))
    sizes = [serve_optimum(law, loss, tokens).N for tokens in (1e-3, 1e7, 1e9)]
    assert sizes[0] == pytest.approx(n, rel=1e-3)
    assert sizes[0] > sizes[1] > sizes[2]
    with pytest.raises(InputError, match="can't be reached"):
        serve_optimum(law, 1.4, 1e9)


def test_budget_by_machine_equals_its_flops(fit: dict[str, Any]) -> None:
    machine = {"flops": None, "device": "h100", "count": 8, "hours": 0.5, "mfu": 0.35}
    assert plan_params(budget=machine).budget.total() == pytest.approx(8 * 0.5 * 3600 * 0.35 * 989e12)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"budget": BUDGET | {"flops": -1.0}}, r"scaling.plan.budget.flops"),
        ({"budget": BUDGET | {"hours": 2.0}}, "set either flops, or all of device"),
        ({"budget": BUDGET | {"flops": None}}, "set either flops, or all of device"),
        ({"shapes": {"odd": SHAPES["small"] | {"heads": 3}}}, "unknown parameter"),
    ],
)
def test_bad_params_are_one_clear_line(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ParamError, match=said):
        plan_params(**changes)


def test_a_budget_too_small_for_one_step(fit: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="not one step"):
        make_plan(fit, pack(), plan_params(budget=BUDGET | {"flops": 1e6}), seed=0)


def test_the_draws_carry_the_prediction(fit: dict[str, Any]) -> None:
    assert np.array(fit["transformer"]["draws"]).shape == (100, 5)
