"""Spend the budget once: from the fitted law to a model, its tokens, its learning rate and the loss to expect."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, model_validator

from stages.base.errors import InputError
from stages.base.params import Section
from stages.base.record import stage
from stages.base.seeds import derive
from stages.lm.config import ModelConfig
from stages.scaling.cost import Attention, estimate
from stages.scaling.devices import device
from stages.scaling.forecast import Forecast
from stages.scaling.inference import serve_optimum
from stages.scaling.shape import Recipe, Shape, active_params, model_config, train_flops

Positive = Annotated[float, Field(gt=0)]
RATIOS = (20, 150)  # tokens per parameter: Hoffmann's rule of thumb, and what a model made to be served is trained at
NEARLY_ALL = 0.9  # of the budget: below it, a candidate counts as leaving the budget unspent


class Budget(Section):
    """FLOPs, or a device, hours and the MFU it will realise: exactly one of the two; the other is null."""

    flops: Positive | None
    device: str | None
    count: Annotated[int, Field(ge=1)] | None
    hours: Positive | None
    mfu: Annotated[float, Field(gt=0, le=1)] | None

    @model_validator(mode="after")
    def _one_way(self) -> "Budget":
        machine = (self.device, self.count, self.hours, self.mfu)
        if (self.flops is None) == all(part is None for part in machine) or (
            self.flops is None and any(part is None for part in machine)
        ):
            raise ValueError("set either flops, or all of device, count, hours and mfu, and the rest to null")
        return self

    def total(self) -> float:
        if self.flops is not None:
            return self.flops
        assert self.device is not None and self.count and self.hours and self.mfu
        return device(self.device).peak_tflops * 1e12 * self.mfu * self.hours * 3600 * self.count


class PlanParams(Recipe):
    budget: Budget
    shapes: Annotated[dict[str, Shape], Field(min_length=1)]
    batch_tokens: Annotated[int, Field(ge=1)]
    inference_tokens: Positive  # served over the model's life, for the inference-aware alternative
    cost_device: str


PARAMS: dict[str, type[Section]] = {"scaling.plan": PlanParams}


@dataclass(frozen=True)
class Candidate:
    key: str
    config: ModelConfig
    n: float  # in the law's count of parameters
    tokens: int
    flops: float
    loss: float
    capped: bool  # by the packed stream, not by the budget


def candidates(params: PlanParams, forecast: Forecast, vocab_size: int, seq_len: int, rows: int) -> list[Candidate]:
    """Every shape with the tokens that the budget, or else the packed stream, allows, in whole batches."""
    budget, step = params.budget.total(), max(1, round(params.batch_tokens / seq_len))
    found = []
    for key, shape in sorted(params.shapes.items()):
        config = model_config("transformer", shape, params, vocab_size, seq_len)
        affordable = budget / train_flops(config, 1, seq_len) / (step * seq_len)
        steps = int(min(affordable, rows // step))
        if steps < 1:
            continue
        tokens = steps * step * seq_len
        n = float(config.param_count() if forecast.count == "total" else config.non_embedding_count())
        loss = float(forecast.law.predict(n, tokens))
        capped = affordable >= rows // step + 1
        found.append(Candidate(key, config, n, tokens, train_flops(config, tokens, seq_len), loss, capped))
    if not found:
        raise InputError(f"a budget of {budget:.3g} FLOPs buys not one step of any shape; raise `scaling.plan.budget`")
    return found


def make_plan(fit: Mapping[str, Any], pack: Mapping[str, Any], params: PlanParams, seed: int) -> dict[str, Any]:
    """plan.json; see docs/scaling.md for its keys. Raises InputError if the budget buys nothing."""
    forecast, recipe = Forecast.of(fit), shared_recipe(fit)
    budget, seq_len = params.budget.total(), pack["seq_len"]
    found = candidates(params, forecast, pack["vocab_size"], seq_len, pack["train"]["rows"])
    best = min(found, key=lambda candidate: (candidate.loss, candidate.key))
    interval = forecast.interval(best.n, best.tokens, derive(seed, "interval"))
    optimum = forecast.law.optimum(budget)
    attention = Attention(best.config.n_layer, best.config.n_head * best.config.head_dim, seq_len)
    bill = estimate(
        best.config.param_count(), best.tokens, device=params.cost_device, attention=attention,
        active_params=active_params(best.config),
    )  # fmt: skip
    return {
        "model": best.config.to_dict(),
        "shape": best.key,
        "n_params": best.config.param_count(),
        "n_nonembedding": best.config.non_embedding_count(),
        "tokens": best.tokens,
        "batch_tokens": max(1, round(params.batch_tokens / seq_len)) * seq_len,
        "lr": recipe["lr"],
        "recipe": recipe,
        "tokenizer_sha256": pack["tokenizer_sha256"],
        "predicted_loss": best.loss,
        "interval": list(interval),
        "level": fit["level"],
        "tokens_per_parameter": best.tokens / best.config.param_count(),
        "budget_flops": budget,
        "planned_flops": best.flops,
        "optimum": {"n": optimum.N, "tokens": optimum.D, "loss": forecast.law.predict(*optimum)},
        "data": {
            "unique_tokens": sum(pack["unique_tokens"].values()),
            "stream_tokens": pack["train"]["rows"] * seq_len,
        },
        "candidates": [
            {"shape": c.key, "n": c.n, "tokens": c.tokens, "flops": c.flops, "loss": c.loss, "capped_by_data": c.capped}
            for c in found
        ],
        "alternatives": alternatives(forecast, budget, params.inference_tokens, best, seed),
        "cost": bill.as_dict(),
        "reasons": reasons(best, found, fit, budget, optimum.D, pack),
    }


def shared_recipe(fit: Mapping[str, Any]) -> dict[str, Any]:
    """What all points of the ladder were trained by. Raises InputError if they differ."""
    recipes = [point["recipe"] for point in fit["points"]]
    if any(recipe != recipes[0] for recipe in recipes):
        raise InputError("fit.json: the ladder's points have different recipes; rerun the ladder")
    return dict(recipes[0])


def alternatives(
    forecast: Forecast, budget: float, inference_tokens: float, best: Candidate, seed: int
) -> list[dict[str, Any]]:
    """The same budget at other ratios, by the law alone (continuous N, 6·N·D), and the cheapest one to serve."""
    law = forecast.law
    rows = []
    for ratio in RATIOS:
        n = (budget / (6 * ratio)) ** 0.5
        rows.append(_row(f"{ratio} tokens per parameter", forecast, n, ratio * n, derive(seed, ratio)))
    rows.append(_row("compute-optimal", forecast, *law.optimum(budget), derive(seed, "optimum")))
    served = serve_optimum(law, best.loss, inference_tokens)
    name = f"equal loss, {inference_tokens:.3g} tokens served"
    row = _row(name, forecast, served.N, served.D, derive(seed, "served"))
    as_planned = 6 * best.n * best.tokens + 2 * best.n * inference_tokens
    return [*rows, row | {"total_flops": served.total_flops, "saves": 1 - served.total_flops / as_planned}]


def _row(name: str, forecast: Forecast, n: float, tokens: float, seed: int) -> dict[str, Any]:
    return {
        "name": name,
        "n": n,
        "tokens": tokens,
        "tokens_per_parameter": tokens / n,
        "flops": 6 * n * tokens,
        "loss": float(forecast.law.predict(n, tokens)),
        "interval": list(forecast.interval(n, tokens, seed)),
    }


def reasons(
    best: Candidate,
    found: list[Candidate],
    fit: Mapping[str, Any],
    budget: float,
    optimal_tokens: float,
    pack: Mapping[str, Any],
) -> list[str]:
    """Why this plan, in sentences for the report."""
    stream = pack["train"]["rows"] * pack["seq_len"]
    said = [
        f"{best.key} has the lowest predicted loss of {len(found)} shapes; it spends {best.flops / budget:.0%} of the "
        f"budget of {budget:.3g} FLOPs, attention counted.",
        f"It trains on {best.tokens:,} tokens; the packed stream has {stream:,}, made from "
        f"{sum(pack['unique_tokens'].values()):,} unique ones by the epochs that corpus.mix set.",
    ]
    if optimal_tokens > stream:
        said.append(
            f"The law alone would want {optimal_tokens:.3g} tokens, the packed stream has {stream:,}: "
            "more data would buy more than more compute."
        )
    sizes = [candidate.n for candidate in found]
    if len(sizes) > 1 and best.n in (min(sizes), max(sizes)):
        side = "smallest" if best.n == min(sizes) else "largest"
        said.append(f"It is the {side} shape on offer; the best may lie beyond: add shapes to `scaling.plan.shapes`.")
    if best.flops < NEARLY_ALL * budget:
        said.append(
            f"{1 - best.flops / budget:.0%} of the budget is left unspent: the stream ends first. Add larger shapes to "
            "`scaling.plan.shapes`, more documents, or more epochs in corpus.mix."
        )
    largest = max(point["flops"] for point in fit["points"])
    said.append(f"The law is extrapolated {best.flops / largest:.3g}-fold in compute beyond the ladder's largest run.")
    error = fit["withheld"]["mean_abs_error"]
    if error is not None:
        said.append(f"Without the ladder's largest run, the law missed that run by {error:.2%}.")
    return said


def main() -> None:
    with stage("scaling.plan", PlanParams, seed="run.seed") as run:
        fit, pack = run.read_json("data/scaling/fit/fit.json"), run.read_json("data/tokens/pack/pack.json")
        run.write_json("plan.json", make_plan(fit, pack, run.params, run.seed))


if __name__ == "__main__":
    main()
