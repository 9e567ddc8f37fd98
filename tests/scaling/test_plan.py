"""The plan: spends the budget, respects the stream, predicts with an interval, and says why."""

from typing import Any

import numpy as np
import pytest

from stages.base.contracts.fit import Fit
from stages.base.contracts.pack import Pack
from stages.base.errors import InputError, ParamError
from stages.base.params import parse
from stages.base.recipe import Recipe
from stages.lm.build import build_model
from stages.lm.config import ModelConfig
from stages.scaling.budget.next_dollar import best_with, next_dollar
from stages.scaling.budget.repetition import Stream
from stages.scaling.budget.serving import serve_optimum, tokens_for_loss
from stages.scaling.laws.law import Law
from stages.scaling.plan import PlanParams, make_plan
from tests.contracts import scaling, tokens

SHAPES = {
    "small": {"n_layer": 3, "d_model": 96, "n_head": 3, "n_kv_head": 3, "d_ff": 256},
    "medium": {"n_layer": 4, "d_model": 128, "n_head": 4, "n_kv_head": 4, "d_ff": 352},
    "large": {"n_layer": 5, "d_model": 160, "n_head": 5, "n_kv_head": 5, "d_ff": 432},
}
BUDGET = {"flops": 2.4e13, "device": None, "count": None, "hours": None, "mfu": None}


def plan_params(**changes: Any) -> PlanParams:
    values = {
        "budget": BUDGET, "shapes": SHAPES, "max_passes": 1.0, "data_decay": 15.4, "inference_tokens": 1e9,
        "usd_per_million_tokens": 1.0, "cost_device": "h100",
    }  # fmt: skip
    return parse("scaling.plan", values | changes, PlanParams)


def pack(rows: int = 50_000) -> Pack:
    """A stream that is for 64 % of one source, of which nothing repeats, and for 36 % of one that is read six times."""
    source = {"unique_bytes": 1}
    train = tokens.pack().train.model_dump() | {
        "rows": rows,
        "sources": {
            "docs": source | {"tokens": rows * 160, "unique_tokens": rows * 160},
            "atlas": source | {"tokens": rows * 90, "unique_tokens": rows * 15},
        },
    }
    return tokens.pack(train=train, vocab_size=2048)


@pytest.fixture(scope="module")
def fit() -> Fit:
    return scaling.fit(recipe=scaling.RECIPE.model_copy(update={"tie_embeddings": True}))


def test_spends_the_budget_in_whole_batches(fit: Fit, law) -> None:
    plan = make_plan(fit, pack(), plan_params(), seed=0)
    config = ModelConfig.from_dict(plan.model)
    assert plan.tokens % plan.batch_tokens == 0
    assert 0.99 * BUDGET["flops"] < plan.planned_flops <= BUDGET["flops"]
    # 6 FLOPs a weight of a matrix product, the head's among them (tied: the embedding's), 12 a layer, unit and token.
    weights = sum(w.numel() for w in build_model(config, seed=0).parameters() if w.ndim == 2)
    attention = 12 * config.n_layer * config.n_head * config.head_dim * 256
    assert plan.planned_flops == pytest.approx((6 * weights + attention) * plan.tokens)
    assert plan.predicted_loss == min(candidate.loss for candidate in plan.candidates)
    low, high = plan.interval
    assert low < plan.predicted_loss < high
    assert low < law.predict(config.param_count(), plan.tokens) < high
    assert plan.n_params == config.param_count()


def test_a_short_stream_caps_the_tokens_and_is_reported(fit: Fit) -> None:
    plan = make_plan(fit, pack(rows=4000), plan_params(), seed=0)
    assert plan.tokens <= 4000 * 256
    assert all(candidate.capped_by_data for candidate in plan.candidates)
    assert plan.shape == "large"  # with tokens equal, the budget goes into parameters
    assert any("left unspent" in reason for reason in plan.reasons)
    assert plan.next_dollar.compute_percent > 0


def test_more_passes_are_planned_where_they_pay_and_priced(fit: Fit) -> None:
    """With a short stream the plan reads it again, on a smaller model, and doesn't take repeats for fresh tokens."""
    once = make_plan(fit, pack(rows=4000), plan_params(), seed=0)
    again = make_plan(fit, pack(rows=4000), plan_params(max_passes=8.0), seed=0)
    assert again.predicted_loss < once.predicted_loss and again.n_params < once.n_params
    data = again.data
    assert data.passes == pytest.approx(again.tokens / (4000 * 256)) and data.passes > 1
    assert 4000 * 256 < data.fresh_tokens < again.tokens
    naive = make_plan(fit, pack(rows=4000), plan_params(max_passes=8.0, data_decay=1e9), seed=0)
    assert naive.predicted_loss < again.predicted_loss
    assert any("Repeats discounted" in reason for reason in again.reasons)


def test_the_next_dollar_goes_where_its_price_says(fit: Fit) -> None:
    """Below the break-even price of text data are the better buy, above it compute; an endless stream wants none."""
    short = pack(rows=4000)
    price = make_plan(fit, short, plan_params(max_passes=4.0), seed=0).next_dollar
    even = price.break_even_usd_per_million_tokens
    for factor, better in ((0.5, "data"), (2.0, "compute")):
        plan = make_plan(fit, short, plan_params(max_passes=4.0, usd_per_million_tokens=factor * even), seed=0)
        assert plan.next_dollar.buys_more == better
        assert any(f"the next dollar buys more from {better}" in reason for reason in plan.reasons)
    endless = make_plan(fit, pack(rows=10**7), plan_params(), seed=0).next_dollar
    assert endless.data_percent == pytest.approx(0, abs=1e-9) and endless.buys_more == "compute"


def test_slopes_of_the_best_loss_agree_with_the_law(law: Law) -> None:
    """Where data abound, one percent more compute lowers the loss by its own derivative, and data by nothing."""
    stream, C = Stream(1e12, ((1e12, 1e12),)), 1e15
    dollar = next_dollar(law, stream, C, 1.0, compute_usd=10.0, usd_per_million_tokens=1.0)
    loss = [float(law.predict(*law.optimum(C * factor))) for factor in (0.99, 1.01)]
    assert dollar.compute_percent == pytest.approx((loss[0] - loss[1]) / 2, rel=1e-3)
    assert dollar.data_percent == 0.0


def test_the_best_size_for_scarce_data_beats_a_blind_search(law: Law) -> None:
    stream, C = Stream(1e6, ((6e5, 6e5), (4e5, 1e5))), 1e14
    (n, d), loss = best_with(law, stream, C, 4.0)
    assert d <= 4e6 * (1 + 1e-9) and 6 * n * d <= C * (1 + 1e-9)
    for size in np.geomspace(n / 30, n * 30, 301):
        tokens = min(C / (6 * size), 4e6)
        assert loss <= float(law.predict(size, stream.fresh(tokens))) + 1e-7


def test_architecture_and_recipe_are_the_ladders(fit: Fit) -> None:
    """The law predicts runs of the recipe that it was fitted on, no others: params of the plan can't change it."""
    changed = {"lr": 0.03, "tie_embeddings": False, "qk_norm": False, "rope_theta": 5e4, "batch_tokens": 5000}
    recipe = fit.recipe.model_copy(update=changed)
    plan = make_plan(fit.model_copy(update={"recipe": recipe}), pack(), plan_params(), seed=0)
    assert plan.recipe == recipe and plan.lr == 0.03 and plan.batch_tokens == 20 * 256
    config = ModelConfig.from_dict(plan.model)
    assert (config.tie_embeddings, config.qk_norm, config.rope_theta) == (False, False, 5e4)
    assert not set(PlanParams.model_fields) & set(Recipe.model_fields)


def test_alternatives_cost_the_same_and_lose_to_the_optimum(fit: Fit) -> None:
    plan = make_plan(fit, pack(), plan_params(), seed=0)
    rows = {row.name: row for row in plan.alternatives}
    best = rows["compute-optimal, all data fresh"]
    for ratio in (20, 150):
        row = rows[f"{ratio} tokens per parameter"]
        assert row.flops == pytest.approx(best.flops)
        assert row.flops == pytest.approx(rows["as planned"].flops, rel=0.01)  # whole batches
        assert row.tokens_per_parameter == pytest.approx(ratio)
        assert row.loss >= best.loss
    assert best.loss <= rows["compute-optimal, this data"].loss <= plan.predicted_loss
    assert rows["as planned"].loss == pytest.approx(plan.predicted_loss)
    served = rows["equal loss, 1e+09 tokens served"]
    assert served.loss == pytest.approx(plan.predicted_loss, rel=1e-6)
    assert served.saves >= 0
    for row in rows.values():
        assert row.total_flops == pytest.approx(6 * row.n * row.tokens + 2 * row.n * 1e9)
        assert row.interval[0] < row.loss < row.interval[1]


def test_alternatives_that_read_the_data_too_often_say_so(fit: Fit) -> None:
    """And the cheapest run to serve is looked for among those that may be planned."""
    plan = make_plan(fit, pack(rows=4000), plan_params(max_passes=2.0), seed=0)
    rows = {row.name: row for row in plan.alternatives}
    for row in rows.values():
        assert row.allowed == (row.passes <= 2.0 + 1e-6) or row.name.endswith("all data fresh")
    assert not rows["150 tokens per parameter"].allowed
    served = rows["equal loss, 1e+09 tokens served"]
    assert served.allowed and served.saves >= -1e-9


def test_serving_from_scarce_data(law: Law) -> None:
    """Against a search over sizes; and a loss that repeats can't reach at a small size moves the size up."""
    stream = Stream(1e6, ((1e6, 1e6),))
    loss = float(law.predict(1e6, stream.fresh(3e6)))
    served = serve_optimum(law, loss, 1e12, stream)
    sizes = np.geomspace(served.N / 100, served.N * 100, 2001)
    totals = 6 * sizes * tokens_for_loss(law, sizes, loss, stream) + 2 * sizes * 1e12
    assert served.total_flops <= totals.min() * (1 + 1e-9)
    assert float(law.predict(served.N, stream.fresh(served.D))) == pytest.approx(loss)
    assert served.D > 3e6  # smaller than the size that takes three passes, and so read more often
    size, tokens, *_ = serve_optimum(law, loss, 1e12, stream, max_passes=3.0)
    assert size == pytest.approx(1e6, rel=1e-3) and tokens == pytest.approx(3e6, rel=1e-3)
    with pytest.raises(InputError, match="again and again"):
        serve_optimum(law, float(law.predict(1e12, stream.fresh(1e9))) * 0.9, 1e9, stream)


def test_serving_nothing_is_training_optimal_and_serving_more_means_smaller(law) -> None:
    n, d = law.optimum(1e15)
    loss = float(law.predict(n, d))
    sizes = [serve_optimum(law, loss, tokens).N for tokens in (1e-3, 1e7, 1e9)]
    assert sizes[0] == pytest.approx(n, rel=1e-3)
    assert sizes[0] > sizes[1] > sizes[2]
    with pytest.raises(InputError, match="can't be reached"):
        serve_optimum(law, 1.4, 1e9)


def test_budget_by_machine_equals_its_flops(fit: Fit) -> None:
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


def test_a_budget_too_small_for_one_step(fit: Fit) -> None:
    with pytest.raises(InputError, match="not one step"):
        make_plan(fit, pack(), plan_params(budget=BUDGET | {"flops": 1e6}), seed=0)
