"""The planned run on the scaling page: what it is, what was predicted of it and what it reached."""

from dataclasses import dataclass

from stages.base.contracts.plan import Plan
from stages.publishing.html.charts import Plot, compact
from stages.publishing.html.numbers import count


@dataclass(frozen=True)
class Target:
    """The planned run: what was predicted before it and what it reached."""

    N: float  # as the law counts parameters
    D: float
    flops: float  # attention counted
    predicted: float
    low: float
    high: float
    reached: float

    @classmethod
    def of(cls, plan: Plan, reached: float) -> "Target":
        planned = next(row for row in plan.alternatives if row.name == "as planned")
        low, high = plan.interval
        return cls(planned.n, planned.tokens, plan.planned_flops, plan.predicted_loss, low, high, reached)

    @property
    def inside(self) -> bool:
        return self.low <= self.reached <= self.high

    def draw(self, plot: Plot) -> None:
        """The prediction with its interval, and the loss reached, on a plot of loss against 6·N·D."""
        compute = 6 * self.N * self.D
        words = f"predicted {self.predicted:.3f}, {self.low:.3f} to {self.high:.3f}"
        plot.interval(compute, self.low, self.high, "c3", words)
        plot.points([compute], [self.predicted], "c3", "square", [words], radius=4)
        plot.points([compute], [self.reached], "c1", "circle", [f"reached {self.reached:.3f}"], radius=6)


def plan_facts(plan: Plan) -> list[tuple[str, str]]:
    model, data = plan.model, plan.data
    low, high = plan.interval
    return [
        (
            "budget",
            f"{compact(plan.budget_flops)} FLOPs, {100 * plan.planned_flops / plan.budget_flops:.0f} % of it spent",
        ),
        ("model", f"{plan.shape}: {model['n_layer']} layers of width {model['d_model']}, {model['n_head']} heads"),
        ("parameters", f"{count(plan.n_params)}, {count(plan.n_nonembedding)} without embeddings"),
        ("tokens", f"{count(plan.tokens)}, {plan.tokens_per_parameter:.1f} a parameter"),
        (
            "data",
            f"{count(data.unique_tokens)} unique tokens; {data.passes:.2f} passes over the packed stream, worth "
            f"{count(data.fresh_tokens)} fresh ones",
        ),
        ("batch, peak learning rate", f"{count(plan.batch_tokens)} tokens, {plan.lr:.3g}"),
        (
            "best by the law, all data fresh",
            f"{compact(plan.optimum.n)} parameters, {compact(plan.optimum.tokens)} tokens",
        ),
        ("predicted loss", f"{plan.predicted_loss:.4f}  ({low:.4f} – {high:.4f})"),
    ]
