"""The scaling page's comparison of recipes, and of what was tuned, in words, facts and charts."""

from collections.abc import Mapping, Sequence
from typing import Any

from stages.publishing.html.charts import compact
from stages.publishing.html.numbers import count, number
from stages.publishing.scaling.charts import aspect_chart, drawn_words, knob_chart, multiplier_chart
from stages.publishing.scaling.tables import between, signed

EXPONENT_DIGITS = 4  # after the point: smaller is a slope of nothing, and what is left of adding floats


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
            f"{between(low, high)} at {compact(at)} FLOPs{_undecided(low, high)}. "
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
        why = f"No second law, as {rival['reason']}" if rival["reason"] else "Too few runs to tell two laws apart"
        verdict = (
            f"{why}: with the exponents of {first} the {count(rival['n'])} runs of {second} need {multiplier[0]:.3g} "
            f"times its compute for the same loss{between(*multiplier[1:])}{_undecided(*multiplier[1:])}."
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


def _undecided(low: Any, high: Any) -> str:
    """Of an interval of a multiplier."""
    below, above = number(low), number(high)
    if below is None or above is None or not below <= 1 <= above:
        return ""
    return "; 1 lies inside the interval, so which of the two needs less isn't settled"


def _crossover(at: Sequence[Any], run: Sequence[float]) -> str:
    """`run`: the compute that both recipes were run at."""
    value, low, high = at
    words = f"{compact(value, 2)} FLOPs{between(low, high, 1)}"
    least, most = run
    if least > most:
        return f"{words}; no compute was run with both recipes"
    where = f"the {compact(least, 2)} – {compact(most, 2)} FLOPs that both were run at"
    if not least <= value <= most:
        return f"{words}; outside {where}"
    within = all(number(end) is None or least <= end <= most for end in (low, high))
    return words if within else f"{words}; the interval reaches beyond {where}"


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
        facts.append(("they cross at", _crossover(joint["crossover"], joint["range"])))
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
        said += drawn_words(len(view["ratios"]))
        return {"title": f"Width over depth{who}", "said": said, "svg": aspect_chart(view)}
    name = {"lr": "learning rate", "batch": "batch"}[view["knob"]]
    found = [cell for cell in view["cells"] if not cell["reason"]]
    powers = [
        f"{axis}^{_exponent(value[0]):.3g}".replace("-", "−") + _exponent_ends(*value[1:])
        for axis, value in view["exponents"].items()
        if value and number(value[0]) is not None
    ]
    said = f"Best {name} ∝ {' · '.join(powers)}. " if powers else ""
    said += f"{view['reason'][:1].upper()}{view['reason'][1:]}. " if view["reason"] else ""
    if any(cell["tried"] > 1 for cell in view["cells"]):
        said += f"{len(found)} of {len(view['cells'])} cells of equal N and D have a best value inside those tried."
    title = f"Best {name}{who}" if found else f"{name.capitalize()}{who}"
    return {"title": title, "said": said.strip(), "svg": knob_chart(view) if found else ""}


def _exponent_ends(low: Any, high: Any) -> str:
    below, above = number(low), number(high)
    if below is None or above is None:
        return ""
    return between(_exponent(below), _exponent(above))


def _exponent(value: float) -> float:
    return round(value, EXPONENT_DIGITS) + 0.0  # no negative zero
