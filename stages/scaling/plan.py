"""Spend the budget once: from the fitted law to a model, its tokens, its learning rate and the loss to expect."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, model_validator

from stages.base.artifacts import FIT, PACK
from stages.base.contracts import plan as contract
from stages.base.contracts.fit import Fit
from stages.base.contracts.pack import Pack
from stages.base.errors import InputError
from stages.base.params import Section
from stages.base.recipe import Shape
from stages.base.record import stage
from stages.base.seeds import derive
from stages.lm.accelerators import named
from stages.lm.config import ModelConfig
from stages.scaling.budget.alternatives import alternatives
from stages.scaling.budget.cost import Attention, estimate
from stages.scaling.budget.next_dollar import next_dollar
from stages.scaling.budget.repetition import Stream
from stages.scaling.laws.law import Forecast

Positive = Annotated[float, Field(gt=0)]
NEARLY_ALL = 0.9  # of the budget: below it, a candidate counts as leaving the budget unspent


class Budget(Section):
    """FLOPs, or a device, hours and the MFU it will realise: exactly one of the two; the other is null."""

    flops: Positive | None
    """Of the whole run."""
    device: str | None
    """A key of `lm.accelerators`."""
    count: Annotated[int, Field(ge=1)] | None
    """Devices."""
    hours: Positive | None
    """That the devices are used."""
    mfu: Annotated[float, Field(gt=0, le=1)] | None
    """Share of the devices' peak that the run will realise."""

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
        return named(self.device).peak_tflops * 1e12 * self.mfu * self.hours * 3600 * self.count


class PlanParams(Section):
    budget: Budget
    shapes: Annotated[dict[str, Shape], Field(min_length=1)]
    """Candidates; what else makes a model, and how it is trained, is the ladder's recipe."""
    max_passes: Positive
    """Over the packed stream."""
    data_decay: Positive
    """R*_D of Muennighoff et al. 2023: how slowly repeated tokens lose their worth."""
    inference_tokens: Positive
    """Served over the model's life, for the inference-aware alternative."""
    usd_per_million_tokens: Positive
    """Of new text, cleaned: what the next dollar could buy instead of compute."""
    cost_device: str
    """A key of `lm.accelerators`, for the bill."""


PARAMS: dict[str, type[Section]] = {"scaling.plan": PlanParams}


@dataclass(frozen=True)
class Candidate:
    key: str
    config: ModelConfig
    n: float  # in the law's count of parameters
    tokens: int
    fresh: float  # what the tokens are worth, repeats discounted
    flops: float
    loss: float
    capped: bool  # by the data and max_passes, not by the budget


def batch_tokens(fit: Fit, seq_len: int) -> int:
    """Tokens of a batch of the ladder: whole rows."""
    return max(1, round(fit.recipe.batch_tokens / seq_len)) * seq_len


def candidates(params: PlanParams, fit: Fit, stream: Stream, vocab_size: int, seq_len: int) -> list[Candidate]:
    """Every shape with the tokens that the budget, or else the data, allows, in whole batches."""
    forecast, budget, batch = Forecast.of(fit), params.budget.total(), batch_tokens(fit, seq_len)
    most = int(params.max_passes * stream.tokens // batch)
    found = []
    for key, shape in sorted(params.shapes.items()):
        config = ModelConfig.of("transformer", shape, fit.recipe, vocab_size, seq_len)
        affordable = int(budget / config.flops_per_token(seq_len) / batch)
        tokens = min(affordable, most) * batch
        if not tokens:
            continue
        n = float(config.param_count() if fit.count == "total" else config.non_embedding_count())
        fresh, flops = float(stream.fresh(tokens)), config.flops_per_token(seq_len) * tokens
        loss = float(forecast.law.predict(n, fresh))
        found.append(Candidate(key, config, n, tokens, fresh, flops, loss, affordable > most))
    if not found:
        raise InputError(
            f"a budget of {budget:.3g} FLOPs and {params.max_passes:g} passes over the data buy not one step of any "
            "shape; raise `scaling.plan.budget` or lower `recipe.batch_tokens`"
        )
    return found


def make_plan(fit: Fit, pack: Pack, params: PlanParams, seed: int) -> contract.Plan:
    """Raises InputError if the budget buys nothing."""
    forecast, stream = Forecast.of(fit), Stream.of(pack, params.data_decay)
    budget, seq_len = params.budget.total(), pack.seq_len
    found = candidates(params, fit, stream, pack.vocab_size, seq_len)
    best = min(found, key=lambda candidate: (candidate.loss, candidate.key))
    # The law's papers count 6·N·D, with embeddings where N has them and without attention; a plan's FLOPs are those of
    # its matrix products. What is compared with the plan by the law alone has the budget in the law's measure.
    in_law = budget * 6 * best.n * best.tokens / best.flops
    optimum = forecast.law.optimum(in_law)
    attention = Attention(best.config.n_layer, best.config.n_head * best.config.head_dim, seq_len)
    bill = estimate(
        best.config.param_count(), best.tokens, device=params.cost_device, attention=attention,
        active_params=best.config.matmul_count(),
    )  # fmt: skip
    spend = float(bill.rent_usd) * budget / best.flops
    dollar = next_dollar(forecast.law, stream, in_law, params.max_passes, spend, params.usd_per_million_tokens)
    return contract.Plan(
        model=best.config.to_dict(),
        shape=best.key,
        n_params=best.config.param_count(),
        n_nonembedding=best.config.non_embedding_count(),
        tokens=best.tokens,
        batch_tokens=batch_tokens(fit, seq_len),
        lr=fit.recipe.lr,
        recipe=fit.recipe,
        tokenizer_sha256=pack.tokenizer_sha256,
        predicted_loss=best.loss,
        interval=list(forecast.interval(best.n, best.fresh, derive(seed, "interval"))),
        level=fit.level,
        tokens_per_parameter=best.tokens / best.config.param_count(),
        budget_flops=budget,
        planned_flops=best.flops,
        optimum=contract.Optimum(n=optimum.N, tokens=optimum.D, loss=float(forecast.law.predict(*optimum))),
        data=contract.Data(
            unique_tokens=stream.unique,
            stream_tokens=int(stream.tokens),
            passes=best.tokens / stream.tokens,
            fresh_tokens=best.fresh,
            decay=stream.decay,
        ),
        candidates=[
            contract.Candidate(
                shape=c.key, n=c.n, tokens=c.tokens, fresh_tokens=c.fresh, flops=c.flops, loss=c.loss,
                capped_by_data=c.capped,
            )
            for c in found
        ],
        alternatives=alternatives(
            forecast, stream, in_law, params.max_passes, (best.n, best.tokens), params.inference_tokens, seed
        ),
        next_dollar=dollar,
        cost=bill.as_dict(),
        reasons=reasons(best, found, fit, budget, optimum.D, stream, dollar),
    )  # fmt: skip


def reasons(
    best: Candidate,
    found: list[Candidate],
    fit: Fit,
    budget: float,
    optimal_tokens: float,
    stream: Stream,
    dollar: contract.NextDollar,
) -> list[str]:
    """Why this plan, in sentences for the report."""
    passes = best.tokens / stream.tokens
    said = [
        f"{best.key} has the lowest predicted loss of {len(found)} shapes; it spends {best.flops / budget:.0%} of the "
        f"budget of {budget:.3g} FLOPs, attention counted.",
        f"It trains on {best.tokens:,} tokens, {passes:.2f} passes over a packed stream of {stream.tokens:,.0f}, which "
        f"is made from {stream.unique:,.0f} unique ones by the epochs that corpus.mix set.",
    ]
    if passes > 1:
        said.append(
            f"Repeats discounted, they are worth {best.fresh / best.tokens:.0%} of as many fresh ones (R* = "
            f"{stream.decay:.3g}, Muennighoff et al. 2023)."
        )
    if optimal_tokens > stream.tokens:
        said.append(f"With fresh data enough, the law would read {float(f'{optimal_tokens:.3g}'):,.0f} tokens.")
    said.append(_on_the_next_dollar(dollar))
    sizes = [candidate.n for candidate in found]
    if len(sizes) > 1 and best.n in (min(sizes), max(sizes)):
        side = "smallest" if best.n == min(sizes) else "largest"
        said.append(f"It is the {side} shape on offer; the best may lie beyond: add shapes to `scaling.plan.shapes`.")
    if best.flops < NEARLY_ALL * budget:
        said.append(
            f"{1 - best.flops / budget:.0%} of the budget is left unspent: the data end first. Add larger shapes to "
            "`scaling.plan.shapes` or documents to the corpus, or raise `scaling.plan.max_passes`."
        )
    fold = best.flops / fit.largest_flops
    said.append(f"The law is extrapolated {fold:.3g}-fold in compute beyond the ladder's largest run.")
    if fit.withheld_error is not None:
        said.append(f"Without the ladder's largest run, the law missed that run by {fit.withheld_error:.2%}.")
    return said


def _on_the_next_dollar(dollar: contract.NextDollar) -> str:
    price = dollar.break_even_usd_per_million_tokens
    slopes = (
        f"One percent more compute would lower the loss by {dollar.compute_percent:.2g}, one percent more unique text "
        f"by {dollar.data_percent:.2g}"
    )
    if price is None:
        return f"{slopes}: only data helps."
    even = f"${price:,.2f}" if price >= 0.01 else "less than a cent"
    return (
        f"{slopes}. At ${dollar.usd_per_million_tokens:.3g} a million new tokens the next dollar buys more from "
        f"{dollar.buys_more}; both would buy the same at {even}."
    )


def main() -> None:
    with stage("scaling.plan", PlanParams, seed="run.seed") as run:
        fit, pack = run.read_contract(FIT, Fit), run.read_contract(PACK, Pack)
        run.write_contract("plan.json", make_plan(fit, pack, run.params, run.seed))


if __name__ == "__main__":
    main()
