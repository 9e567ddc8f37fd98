"""What the front page says of the planned run, and of what it reached."""

from stages.base.contracts.plan import Plan
from stages.publishing.html.charts import compact
from stages.publishing.html.numbers import count
from stages.publishing.html.site import Summary, figures, finite


def scaling_summary(plan: Plan, reached: float, points: int) -> Summary:
    """Parameters: `reached`: validation loss of the planned run; `points`: of the ladder."""
    line, label = f"The planned run reached a loss of {reached:.3f}; nothing was predicted.", "loss reached"
    if plan.predicted_loss is not None:
        low, high = plan.interval
        where = "inside" if low <= reached <= high else "outside"
        line = (
            f"The law of {count(points)} small models predicted a loss of {plan.predicted_loss:.3f} "
            f"({low:.3f} to {high:.3f}); the planned run reached {reached:.3f}, {where} the interval."
        )
        label = f"loss reached; {low:.3f} to {high:.3f} was predicted"
    return Summary(
        line=line,
        stations=figures(
            (compact(plan.tokens), "tokens to train on"),
            (count(points), "small models for the scaling law"),
            (compact(plan.n_params), "parameters trained"),
        ),
        tiles=figures((f"{reached:.3f}", label), (compact(plan.planned_flops), "FLOPs of pretraining, as planned")),
        metrics=finite(predicted_loss=plan.predicted_loss, reached_loss=reached),
    )


def lead(plan: Plan, base: str) -> str:
    """The second sentence of the front page. `base`: the model that alignment starts from."""
    size = f"{compact(plan.n_params)} parameters, trained from scratch on {compact(plan.tokens)} tokens of pages"
    start = "Tuning starts from its annealed branch." if base == "base" else f"Tuning starts from {base}."
    return f"A model of {size} that this pipeline cleaned, then tuned and judged. {start}"
