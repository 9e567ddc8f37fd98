"""The scaling page's charts, from the study of a table of runs."""

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from stages.publishing.html.charts import (
    MARGIN_BOTTOM,
    MARGIN_LEFT,
    MARGIN_RIGHT,
    MARGIN_TOP,
    Axis,
    Plot,
    Shape,
    compact,
)
from stages.publishing.html.numbers import count, number
from stages.publishing.scaling.figure import Target

Study = Mapping[str, Any]
STYLES: tuple[tuple[str, Shape], ...] = (("c2", "circle"), ("c4", "square"), ("c3", "circle"), ("c5", "square"))
OTHERS: tuple[str, Shape] = ("c0", "circle")  # recipes past the fourth
CURVES = 12  # isoFLOP budgets drawn
LETTER, LINE = 11.5, 18.0  # width and height of a label's letters as a phone shows them, in units of the drawing


def style(study: Study, recipe: str) -> tuple[str, Shape]:
    names = [view["name"] for view in study["recipes"]]
    place = names.index(recipe)
    return STYLES[place] if place < len(STYLES) else OTHERS


def note(point: Mapping[str, Any]) -> str:
    sizes = f"{compact(point['N'])} parameters, {compact(point['D'])} tokens"
    return f"{point['run']}: {sizes}, loss {point['loss']:.4g}"


def radius(count: int) -> float:
    return 4.5 if count < 30 else 3.2 if count < 300 else 2.2


def sample(points: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [points[place] for place in drawn([point.get("recipe", "") for point in points])]


def compute_chart(study: Study, target: Target | None) -> str:
    """Loss against 6·N·D, which laws count: runs, each law's least loss with its band, and the planned run."""
    plot = Plot(
        Axis("compute as 6·N·D, FLOPs", log=True),
        Axis("loss, nats per token"),
        "Loss of the runs by compute, with the least loss that each law allows",
        width=760,
        height=440,
    )
    size = radius(len(study["points"]))
    shown = sample(study["points"])
    for view in study["recipes"]:
        colour, shape = style(study, view["name"])
        if view["law"]:
            band = view["frontier"]
            plot.band(band["C"], band["low"], band["high"], colour)
            plot.line(band["C"], band["loss"], f"{colour} dashed", f"least loss of {view['name'] or 'these runs'}")
        members = [point for point in shown if point["recipe"] == view["name"]]
        xs, ys = [6 * point["N"] * point["D"] for point in members], [point["loss"] for point in members]
        plot.points(xs, ys, colour, shape, [note(point) for point in members], radius=size)
    if target:
        target.draw(plot)
    return plot.svg()


def drawn_budgets(minima: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """At most `CURVES` of those with a curve: accepted ones first, then those with most sizes; by compute."""
    curves = [minimum for minimum in minima if len(minimum["tried"]) > 2]
    ranked = sorted(curves, key=lambda minimum: (bool(minimum["reason"]), -len(minimum["tried"]), minimum["C"]))
    return sorted(ranked[:CURVES], key=lambda minimum: minimum["C"])


def labelled(minima: Sequence[Mapping[str, Any]], plot: Plot) -> list[Mapping[str, Any]]:
    """Those whose FLOPs can stand at the end of their curve without lying on another's; accepted ones first."""
    (left, right), (low, high) = plot.x.padded(plot.pad), plot.y.padded(plot.pad)
    taken: list[tuple[float, float, float]] = []
    found = []
    for minimum in sorted(minima, key=lambda minimum: (bool(minimum["reason"]), minimum["C"])):
        n, loss = max(minimum["tried"])
        x = (plot.width - MARGIN_LEFT - MARGIN_RIGHT) * math.log(n / left) / math.log(right / left)
        y = (plot.height - MARGIN_TOP - MARGIN_BOTTOM) * (loss - low) / (high - low)
        end = x + LETTER * len(compact(minimum["C"]))
        if all(end < start or x > stop or abs(y - line) > LINE for start, stop, line in taken):
            taken.append((x, end, y))
            found.append(minimum)
    return found


def sampled(minima: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Budgets with the runs that are drawn of them."""
    runs = [(place, run) for place, minimum in enumerate(minima) for run in minimum["tried"]]
    kept = [runs[i] for i in drawn([str(place) for place, _ in runs])]
    return [{**minimum, "tried": [run for at, run in kept if at == place]} for place, minimum in enumerate(minima)]


def isoflop_chart(view: Mapping[str, Any]) -> str:
    """One curve a budget: loss against size, the parabola, and its lowest point where it is accepted."""
    plot = Plot(
        Axis("parameters", log=True),
        Axis("loss, nats per token"),
        "Loss against size at equal compute, with each budget's best size",
        width=760,
        height=420,
    )
    minima = sampled(drawn_budgets(view["minima"]))
    dot = min(3.0, radius(sum(len(minimum["tried"]) for minimum in minima)))
    for minimum in minima:
        tried = sorted(minimum["tried"])
        sizes, losses = [n for n, _ in tried], [loss for _, loss in tried]
        accepted = not minimum["reason"]
        colour = "c2" if accepted else "c0"
        words = f"{compact(minimum['C'])} FLOPs" + ("" if accepted else f": {minimum['reason']}")
        plot.points(sizes, losses, colour, "circle", [words] * len(sizes), radius=dot)
        if accepted and number(minimum["curvature"]) is not None:
            steps = [sizes[0] * (sizes[-1] / sizes[0]) ** (i / 40) for i in range(41)]
            curve = [minimum["loss"] + minimum["curvature"] * math.log(n / minimum["N"]) ** 2 for n in steps]
            plot.line(steps, curve, f"{colour} thin", words)
            plot.points([minimum["N"]], [minimum["loss"]], "c1", "square", [f"best size at {words}"], radius=4)
        else:
            plot.line(sizes, losses, f"{colour} thin", words)
    for minimum in labelled(minima, plot):
        n, loss = max(minimum["tried"])
        plot.text(n, loss, compact(minimum["C"]), "c0" if minimum["reason"] else "c2", dx=6)
    return plot.svg()


def residual_chart(study: Study, x: str, label: str) -> str:
    """How far runs lie above their law, in percent of the loss, against N, D or C."""
    plot = Plot(
        Axis(label, log=True), Axis("above the law, % of the loss"), f"Residuals against {label}", width=380, height=250
    )
    fitted = [point for point in study["points"] if point["residual"] is not None]
    shown = sample(fitted)
    if fitted:
        ends = [min(point[x] for point in fitted), max(point[x] for point in fitted)]
        plot.line(ends, [0.0, 0.0], "c0 dashed", "the law")
    for view in study["recipes"]:
        colour, shape = style(study, view["name"])
        members = [point for point in shown if point["recipe"] == view["name"]]
        xs, ys = [point[x] for point in members], [100 * math.expm1(point["residual"]) for point in members]
        plot.points(xs, ys, colour, shape, [note(point) for point in members], radius=radius(len(fitted)) * 0.8)
    return plot.svg()


def withheld_chart(points: Sequence[Mapping[str, Any]], target: Target | None) -> str:
    """Reached beside predicted, for runs of most compute under a law fitted without them, and for the planned run."""
    plot = Plot(
        Axis("predicted loss"),
        Axis("loss reached"),
        "Loss reached against loss predicted without the run",
        width=380,
        height=320,
    )
    shown = sample(points)
    xs, ys = [point["predicted"] for point in shown], [point["loss"] for point in shown]
    for axis in (plot.x, plot.y):  # one scale, so that the diagonal is one
        axis.take([*xs, *ys, *((target.predicted, target.reached) if target else ())])
    size = radius(len(points))
    plot.points(xs, ys, "c1", "circle", [f"{note(p)}; predicted {p['predicted']:.4g}" for p in shown], radius=size)
    if target:
        words = f"planned run: predicted {target.predicted:.3f}, reached {target.reached:.3f}"
        plot.points([target.predicted], [target.reached], "c3", "square", [words], radius=5)
    plot.diagonal("ident")
    return plot.svg()


def multiplier_chart(joint: Mapping[str, Any], pair: Mapping[str, Any], name: str) -> str:
    """How many times the compute the second recipe needs, against the compute of the first."""
    plot = Plot(
        Axis("compute of the first recipe, FLOPs", log=True),
        Axis("compute needed for the same loss, times", log=True),
        f"Compute {name} needs for the loss of the first recipe",
        width=560,
        height=300,
    )
    grid, value, low, high = (list(column) for column in zip(*pair["multiplier"], strict=True))
    plot.band(grid, low, high, "c4")
    plot.line(grid, value, "c4", "compute multiplier")
    plot.line([grid[0], grid[-1]], [1.0, 1.0], "c0 dashed", "no difference")
    plot.rule(joint["range"][1], "vrule", "")
    plot.text(joint["range"][1], max(high), "both were run up to here", "c0", dx=-6, anchor="end")
    return plot.svg()


def knob_chart(view: Mapping[str, Any]) -> str:
    """The best value of a knob at each scale, against parameters."""
    plot = Plot(
        Axis("parameters", log=True), Axis(f"best {view['knob']}", log=True), f"Best {view['knob']} against parameters",
        width=380, height=250,
    )  # fmt: skip
    cells = [cell for cell in view["cells"] if not cell["reason"]]
    words = [f"{compact(cell['D'])} tokens: {cell['value']:.3g}" for cell in cells]
    plot.points([cell["N"] for cell in cells], [cell["value"] for cell in cells], "c2", "circle", words)
    return plot.svg()


def aspect_chart(view: Mapping[str, Any]) -> str:
    """Residuals of the law against width over depth."""
    plot = Plot(
        Axis("width / depth", log=True), Axis("above the law, % of the loss"), "Residuals against width over depth",
        width=380, height=250,
    )  # fmt: skip
    places = drawn([""] * len(view["ratios"]))
    residuals = [100 * math.expm1(view["residuals"][place]) for place in places]
    ratios = [view["ratios"][place] for place in places]
    plot.points(ratios, residuals, "c2", "circle", radius=radius(len(view["ratios"])) * 0.8)
    plot.line([min(view["ratios"]), max(view["ratios"])], [0.0, 0.0], "c0 dashed", "the law")
    if view["best"]:
        plot.rule(view["best"][0], "vrule c1", f"best: {view['best'][0]:.3g}")
    return plot.svg()


LIMIT = 2000  # marks of a chart


def drawn(groups: Sequence[str], limit: int = LIMIT) -> list[int]:
    """Places of at most `limit` runs, in order, at random but always the same; large groups give up theirs first."""
    if len(groups) <= limit:
        return list(range(len(groups)))
    places = list(range(len(groups)))
    random.Random(0).shuffle(places)
    seen: Counter[str] = Counter()
    ranked = []
    for place in places:
        ranked.append((seen[groups[place]], place))
        seen[groups[place]] += 1
    return sorted(place for _, place in sorted(ranked)[:limit])


def drawn_words(runs: int, limit: int = LIMIT) -> str:
    """For a caption: nothing where all are drawn."""
    return f" {count(limit)} of {count(runs)} runs are drawn, picked at random." if runs > limit else ""
