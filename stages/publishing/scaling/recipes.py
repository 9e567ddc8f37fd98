"""The scaling page's comparison of recipes, and of what was tuned, in words, facts and charts."""

import math
from typing import Any

from stages.base.contracts.study import Aspect, Hypothesis, Interval, Joint, Knob, Measured, Number, Rival
from stages.publishing.html.charts import Axis, Plot, compact
from stages.publishing.html.numbers import count
from stages.publishing.scaling.charts import between, drawn, drawn_words, radius, signed

EMPTY: dict[str, Any] = {"svg": "", "table": None}  # no chart
EXPONENT_DIGITS = 4  # after the point: smaller is a slope of nothing, and what is left of adding floats


def rival_view(rival: Rival, level: float) -> dict[str, Any]:
    """One recipe against the first: the verdict in words, the numbers, and how the multiplier moves with compute."""
    first, second, chart = rival.first, rival.second, EMPTY
    facts: list[tuple[str, str]] = []
    if joint := rival.joint:
        differ, pair = joint.exponents_differ, joint.chosen
        at, found = min(pair.multiplier, key=lambda row: abs(row[0] / joint.high - 1))
        verdict = (
            f"{second} needs {_shown(found)} times the compute of {first} for the same loss{between(found.interval)} "
            f"at {compact(at)} FLOPs{_undecided(found.interval)}. "
            + (
                "Their exponents differ, so the factor changes with compute."
                if differ
                else "Their exponents are too alike to tell apart, so the same factor holds at every scale."
            )
        )
        facts = _joint_facts(joint, first, second)
        chart = multiplier_chart(joint, pair, second) if differ else EMPTY  # else a flat line
    elif factor := rival.factor:
        why = f"No second law, as {rival.reason}" if rival.reason else "Too few runs to tell two laws apart"
        verdict = (
            f"{why}: with the exponents of {first} the {count(rival.n)} runs of {second} need "
            f"{_shown(factor.multiplier)} times its compute for the same loss{between(factor.multiplier.interval)}"
            f"{_undecided(factor.multiplier.interval)}."
        )
        above = f"{_shown(factor.ratio)} ×{between(factor.ratio.interval)}"
        facts = [("loss above the floor, relative to the first recipe's", above)]
    else:
        verdict = f"{second} can't be compared with {first}: {rival.reason}."
    if rival.cells:
        mean, low, high = (signed(100 * value) if value is not None else "–" for value in rival.cells.difference)
        facts.append((f"loss at equal N and D ({rival.cells.n} cells)", f"{mean} %  ({low} – {high})"))
    return {"name": second, "verdict": verdict, "facts": facts, **chart, "level": f"{100 * level:g}"}


def _shown(found: Measured) -> str:
    return "–" if found.value is None else f"{found.value:.3g}"


def _undecided(interval: Interval) -> str:
    """Of an interval of a multiplier."""
    low, high = interval
    if low is None or high is None or not low <= 1 <= high:
        return ""
    return "; the interval holds 1, so it isn't settled which of the two needs less"


def _crossover(joint: Joint) -> str:
    if joint.crossover is None or joint.crossover.value is None:
        return "nowhere: with shared exponents one is better at every scale"
    value, interval = joint.crossover.value, joint.crossover.interval
    words = f"{compact(value, 2)} FLOPs{between(interval, 1)}"
    if joint.low > joint.high:
        return f"{words}; no compute was run with both recipes"
    where = f"the {compact(joint.low, 2)} – {compact(joint.high, 2)} FLOPs that both were run at"
    if not joint.low <= value <= joint.high:
        return f"{words}; outside {where}"
    within = all(end is None or joint.low <= end <= joint.high for end in interval)
    return words if within else f"{words}; the interval reaches beyond {where}"


def _joint_facts(joint: Joint, first: str, second: str) -> list[tuple[str, str]]:
    facts = []
    labels = {"alpha": "α", "beta": "β", "gamma": "slope γ of the least loss"}
    for what, found in joint.difference.items():
        label, (value, low, high) = labels[what], (signed(end, 3) if end is not None else "–" for end in found)
        facts.append((f"difference of {label}", f"{value}  ({low} – {high})"))
    for name, slope, intercept in zip((first, second), joint.chosen.slopes, joint.chosen.intercepts, strict=True):
        facts.append((f"{name}: slope γ", f"{slope.value or 0:.4f}{between(slope.interval)}"))
        facts.append((f"{name}: intercept log k", f"{intercept.value or 0:.3f}{between(intercept.interval)}"))
    facts.append(("they cross at", _crossover(joint)))
    objectives = f"{joint.shared.objective:.4g}, {joint.separate.objective:.4g}"
    facts.append(("objective, shared against separate exponents", objectives))
    return facts


def multiplier_chart(joint: Joint, pair: Hypothesis, name: str) -> dict[str, Any]:
    """How many times the compute the second recipe needs, against the compute of the first."""
    plot = Plot(
        Axis("compute of the first recipe, FLOPs", log=True),
        Axis("compute needed for the same loss, times", log=True),
        f"Compute {name} needs for the loss of the first recipe",
        width=560,
        height=300,
    )
    known = [(C, *found) for C, found in pair.multiplier if None not in found]
    grid, value, low, high = ([row[place] or 0.0 for row in known] for place in range(4))
    plot.band(grid, low, high, "c4")
    plot.line(grid, value, "c4", "compute multiplier")
    plot.line([grid[0], grid[-1]], [1.0, 1.0], "c0 dashed", "no difference")
    plot.rule(joint.high, "vrule", "")
    plot.text(joint.high, max(high), "both were run up to here", "c0", dx=-6, anchor="end")
    return plot.figure()


def knob_view(view: Knob) -> dict[str, Any]:
    """How a tuned value moves with scale."""
    name = {"lr": "learning rate", "batch": "batch"}[view.knob]
    found = [cell for cell in view.cells if not cell.reason]
    powers = [
        f"{axis}^{_exponent(power.value):.3g}".replace("-", "−")
        + between(Interval(*(_exponent(end) for end in power.interval)))
        for axis, power in (("N", view.n_exponent), ("D", view.d_exponent))
        if power and power.value is not None
    ]
    said = f"Best {name} ∝ {' · '.join(powers)}. " if powers else ""
    said += f"{view.reason[:1].upper()}{view.reason[1:]}. " if view.reason else ""
    if any(cell.tried > 1 for cell in view.cells):
        said += f"{len(found)} of {len(view.cells)} cells of equal N and D have a best value inside those tried."
    title = f"Best {name}" if found else name.capitalize()
    chart = knob_chart(view) if found else EMPTY
    return {"title": title + _whose(view.recipe), "said": said.strip(), **chart}


def aspect_view(view: Aspect) -> dict[str, Any]:
    """What a model's proportions cost."""
    if view.best is None or view.cost is None or view.cost.value is None:
        said = f"{view.shapes} shapes: {view.reason}."
    else:
        ends = Interval(*(None if end is None else 100 * end for end in view.cost.interval))
        said = (
            f"Best ratio {_shown(view.best)}{between(view.best.interval)}; at four times or a quarter of it the loss "
            f"is {100 * view.cost.value:.2f} % higher{between(ends)}. {view.shapes} shapes."
        )
    said += drawn_words(len(view.ratios))
    return {"title": f"Width over depth{_whose(view.recipe)}", "said": said, **aspect_chart(view)}


def _whose(recipe: str) -> str:
    return f" ({recipe})" if recipe else ""


def _exponent(value: Number) -> float:
    """Rounded, and no negative zero; NaN where there is none."""
    return math.nan if value is None else round(value, EXPONENT_DIGITS) + 0.0


def knob_chart(view: Knob) -> dict[str, Any]:
    """The best value of a knob at each scale, against parameters."""
    plot = Plot(
        Axis("parameters", log=True), Axis(f"best {view.knob}", log=True), f"Best {view.knob} against parameters",
        width=380, height=250,
    )  # fmt: skip
    best = [(cell, cell.value) for cell in view.cells if not cell.reason and cell.value is not None]
    words = [f"{compact(cell.D)} tokens: {value:.3g}" for cell, value in best]
    plot.points([cell.N for cell, _ in best], [value for _, value in best], "c2", "circle", words)
    return plot.figure()


def aspect_chart(view: Aspect) -> dict[str, Any]:
    """Residuals of the law against width over depth."""
    plot = Plot(
        Axis("width / depth", log=True), Axis("above the law, % of the loss"), "Residuals against width over depth",
        width=380, height=250,
    )  # fmt: skip
    places = drawn([""] * len(view.ratios))
    residuals = [100 * math.expm1(view.residuals[place]) for place in places]
    ratios = [view.ratios[place] for place in places]
    words = [f"ratio {ratio:.3g}" for ratio in ratios]
    plot.points(ratios, residuals, "c2", "circle", words, radius=radius(len(view.ratios)) * 0.8)
    plot.line([min(view.ratios), max(view.ratios)], [0.0, 0.0], "c0 dashed", "the law")
    if view.best and view.best.value is not None:
        plot.rule(view.best.value, "vrule c1", f"best: {view.best.value:.3g}")
    return plot.figure()
