"""The scaling page's comparison of recipes, and of what was tuned, in words, facts and charts."""

from collections.abc import Mapping
from typing import Any

from stages.publishing.charts import compact
from stages.publishing.quantity import count, number
from stages.publishing.scaling_charts import aspect_chart, knob_chart, multiplier_chart
from stages.publishing.scaling_tables import between, signed


def rival_view(rival: Mapping[str, Any], level: float) -> dict[str, Any]:
    """One recipe against the first: the verdict in words, the numbers, and how the multiplier moves with compute."""
    first, second = rival["first"], rival["second"]
    facts: list[tuple[str, str]] = []
    chart, verdict = "", ""
    if rival["joint"]:
        joint = rival["joint"]
        differ = joint["exponents_differ"]
        pair = joint["separate" if differ else "shared"]
        at, value, low, high = min(pair["multiplier"], key=lambda row: abs(row[0] / joint["range"][1] - 1))
        verdict = (
            f"{second} needs {value:.3g} times the compute of {first} for the same loss"
            f"{between(low, high)} at {compact(at)} FLOPs. "
            + (
                "Their exponents differ, so the factor moves with compute."
                if differ
                else "Their exponents can't be told apart, so one factor is read at all scales."
            )
        )
        facts = _joint_facts(joint, first, second)
        chart = multiplier_chart(joint, pair, second) if differ else ""  # else a flat line
    elif rival["ratio"]:
        ratio, multiplier = rival["ratio"]["ratio"], rival["ratio"]["multiplier"]
        verdict = (
            f"{count(rival['n'])} runs of {second} make no law of their own: with the exponents of {first} they need "
            f"{multiplier[0]:.3g} times its compute for the same loss{between(*multiplier[1:])}."
        )
        facts = [("loss above the floor, over the first recipe's", f"{ratio[0]:.3g} ×{between(*ratio[1:])}")]
    else:
        verdict = f"{second} can't be compared with {first}: {rival['reason']}."
    if rival["cells"]:
        mean, low, high = (100 * value for value in rival["cells"]["difference"])
        facts.append(
            (
                f"loss at equal N and D ({rival['cells']['n']} cells)",
                f"{signed(mean)} %  ({signed(low)} – {signed(high)})",
            )
        )
    return {"name": second, "verdict": verdict, "facts": facts, "svg": chart, "level": f"{100 * level:g}"}


def _joint_facts(joint: Mapping[str, Any], first: str, second: str) -> list[tuple[str, str]]:
    facts = []
    for name, label in (("alpha", "α"), ("beta", "β"), ("gamma", "slope γ of the least loss")):
        value, low, high = joint["difference"][name]
        facts.append((f"difference of {label}", f"{signed(value, 3)}  ({signed(low, 3)} – {signed(high, 3)})"))
    pair = joint["separate" if joint["exponents_differ"] else "shared"]
    for place, name in enumerate((first, second)):
        slope, intercept = pair["slopes"][place], pair["intercepts"][place]
        facts.append((f"{name}: slope γ", f"{slope[0]:.4f}{between(*slope[1:])}"))
        facts.append((f"{name}: intercept log k", f"{intercept[0]:.3f}{between(*intercept[1:])}"))
    if joint["crossover"] is None:
        facts.append(("they cross at", "nowhere: with shared exponents one is better at every scale"))
    else:
        at, low, high = joint["crossover"]
        facts.append(("they cross at", f"{at:.2g} FLOPs  ({low:.1g} – {high:.1g})"))
    objectives = (joint["shared"]["objective"], joint["separate"]["objective"])
    facts.append(("objective, shared against separate exponents", f"{objectives[0]:.4g}, {objectives[1]:.4g}"))
    return facts


def knob_view(view: Mapping[str, Any]) -> dict[str, Any]:
    """How a tuned value moves with scale, or what a model's proportions cost."""
    who = f" ({view['recipe']})" if view["recipe"] else ""
    if view["knob"] == "width / depth":
        if not view["best"]:
            said = f"{view['shapes']} shapes: {view['reason']}."
        else:
            best, cost = view["best"], view["cost"]
            said = (
                f"Best ratio {best[0]:.3g}{between(*best[1:])}; at four times or a quarter of it the loss is "
                f"{100 * cost[0]:.2f} % higher{between(100 * cost[1], 100 * cost[2])}. {view['shapes']} shapes."
            )
        return {"title": f"Width over depth{who}", "said": said, "svg": aspect_chart(view)}
    name = {"lr": "learning rate", "batch": "batch"}[view["knob"]]
    powers = [
        f"{axis}^{value[0]:.3g}{between(*value[1:])}"
        for axis, value in view["exponents"].items()
        if value and number(value[0]) is not None
    ]
    refused = sum(bool(cell["reason"]) for cell in view["cells"])
    said = f"Best {name} ∝ {' · '.join(powers)}. " if powers else ""
    said += f"{view['reason'][:1].upper()}{view['reason'][1:]}. " if view["reason"] else ""
    cells = len(view["cells"])
    said += f"{cells - refused} of {cells} cells of equal N and D have a best value inside those tried."
    return {"title": f"Best {name}{who}", "said": said, "svg": knob_chart(view)}
