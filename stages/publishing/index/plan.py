"""What the front page says of the planned run: what it reached, and what it costs."""

from collections.abc import Sequence
from typing import Any

from stages.base.contracts.plan import Alternative, Plan
from stages.base.readable import in_readable_unit
from stages.publishing.html.charts import compact
from stages.publishing.html.numbers import count, number
from stages.publishing.html.site import Summary, figures

ROWS = (
    ("flops", "Compute"),
    ("tokens_per_parameter", "Tokens a parameter"),
    ("gpu_hours", "Accelerator time"),
    ("days", "Wall time"),
    ("rent_usd", "Rent"),
    ("people_usd", "People"),
    ("usd", "Total"),
    ("energy_mwh", "Energy"),
    ("tco2eq", "Emissions"),
)


def scaling_summary(plan: Plan, reached: float, bpb: float, points: int) -> Summary:
    """`reached`, `bpb`: validation loss and bits per byte of the planned run; `points`: of the ladder."""
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
        metrics={"pretrain/loss": reached, "pretrain/bpb": bpb},
    )


def lead(plan: Plan, base: str) -> str:
    """The second sentence of the front page. `base`: the model that alignment starts from."""
    size = f"{compact(plan.n_params)} parameters, trained from scratch on {compact(plan.tokens)} tokens of pages"
    start = "Tuning starts from its annealed branch." if base == "base" else f"Tuning starts from {base}."
    return f"A model of {size} that this pipeline cleaned, then tuned and judged. {start}"


def cost_view(plan: Plan) -> dict[str, Any]:
    """One line a quantity: value, range and the assumption it rests on."""
    cost, rows = plan.cost, []
    for key, label in ROWS:
        if key not in cost or not number(cost[key]["value"]):
            continue
        quantity = cost[key]
        factor, unit = in_readable_unit(quantity["value"], quantity["unit"])
        low, high = quantity["low"] * factor, quantity["high"] * factor
        between = f"{compact(low)} – {compact(high)}" if low != high else ""
        rows.append([label, f"{compact(quantity['value'] * factor)} {unit}".rstrip(), between, quantity["assumption"]])
    return {
        "table": {"head": ["Quantity", "Estimate", "Range", "Assumption"], "rows": rows, "numeric": [1, 2]},
        "thresholds": list(cost.get("thresholds", [])),
        "alternatives": alternatives_table(plan.alternatives),
    }


def alternatives_table(rows: Sequence[Alternative]) -> dict[str, Any]:
    """The same budget spent otherwise, training and serving side by side."""
    head = [
        "Model", "Parameters", "Tokens", "Passes", "Tokens a parameter", "Training FLOPs", "with serving", "Loss",
        "Loss between",
    ]  # fmt: skip
    shown = []
    for row in rows:
        low, high = row.interval
        sizes = (row.n, row.tokens, row.passes, row.tokens_per_parameter, row.flops, row.total_flops)
        notes = "" if row.saves is None else f", saves {100 * row.saves:.0f} %"
        notes += "" if row.allowed else ", more passes than allowed"
        shown.append([row.name + notes, *map(compact, sizes), f"{row.loss:.3f}", f"{low:.3f} – {high:.3f}"])
    return {"head": head, "rows": shown, "numeric": list(range(1, len(head)))}
