"""The cost section and the plan's facts, from plan.json."""

from collections.abc import Mapping, Sequence
from typing import Any

from stages.base.readable import in_readable_unit
from stages.publishing.html.charts import compact
from stages.publishing.html.numbers import count, number

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


def cost_view(plan: Mapping[str, Any]) -> dict[str, Any]:
    """One line a quantity: value, range and the assumption it rests on."""
    cost, rows = plan["cost"], []
    for key, label in ROWS:
        if key not in cost or not number(cost[key]["value"]):
            continue
        quantity = cost[key]
        factor, unit = in_readable_unit(quantity["value"], quantity["unit"])
        low, high = quantity["low"] * factor, quantity["high"] * factor
        between = f"{compact(low)} – {compact(high)}" if low != high else ""
        rows.append([label, f"{compact(quantity['value'] * factor)} {unit}".rstrip(), between, quantity["assumption"]])
    return {
        "intro": (
            "What the planned pretraining run would cost on rented accelerators, with the range that the realised "
            "utilisation of "
            "published runs gives. Every line names its assumption."
        ),
        "table": {"head": ["", "Estimate", "Range", "Assumption"], "rows": rows, "numeric": [1, 2]},
        "thresholds": list(cost.get("thresholds", [])),
        "alternatives": alternatives_table(plan["alternatives"]),
    }


def alternatives_table(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The same budget spent otherwise, training and serving side by side."""
    head = ["", "Parameters", "Tokens", "Passes", "Tokens a parameter", "Training FLOPs", "with serving", "Loss", ""]
    shown = []
    for row in rows:
        low, high = row["interval"]
        numbers = [
            compact(row[key]) for key in ("n", "tokens", "passes", "tokens_per_parameter", "flops", "total_flops")
        ]
        notes = f", saves {100 * row['saves']:.0f} %" if "saves" in row else ""
        notes += "" if row["allowed"] else ", more passes than allowed"
        shown.append([row["name"] + notes, *numbers, f"{row['loss']:.3f}", f"{low:.3f} – {high:.3f}"])
    return {"head": head, "rows": shown, "numeric": list(range(1, len(head)))}


def plan_facts(plan: Mapping[str, Any]) -> list[tuple[str, str]]:
    model = plan["model"]
    low, high = plan["interval"]
    return [
        (
            "budget",
            f"{compact(plan['budget_flops'])} FLOPs, {100 * plan['planned_flops'] / plan['budget_flops']:.0f} % of "
            "it spent",
        ),
        ("model", f"{plan['shape']}: {model['n_layer']} layers of width {model['d_model']}, {model['n_head']} heads"),
        ("parameters", f"{count(plan['n_params'])}, {count(plan['n_nonembedding'])} without embeddings"),
        ("tokens", f"{count(plan['tokens'])}, {plan['tokens_per_parameter']:.1f} a parameter"),
        (
            "data",
            f"{count(plan['data']['unique_tokens'])} unique tokens; {plan['data']['passes']:.2f} passes over the "
            f"packed stream, worth {count(plan['data']['fresh_tokens'])} fresh ones",
        ),
        ("batch, peak learning rate", f"{count(plan['batch_tokens'])} tokens, {plan['lr']:.3g}"),
        ("predicted loss", f"{plan['predicted_loss']:.4f}  ({low:.4f} – {high:.4f})"),
        (
            "best by the law, all data fresh",
            f"{compact(plan['optimum']['n'])} parameters, {compact(plan['optimum']['tokens'])} tokens",
        ),
    ]
