"""The scaling page's charts, from the study of a table of runs."""

import math
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

from stages.base.contracts.study import Interval, Isoflop, Minimum, Run, Study, Withheld
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
from stages.publishing.html.numbers import count
from stages.publishing.scaling.plan import Target

STYLES: tuple[tuple[str, Shape], ...] = (("c2", "circle"), ("c4", "square"), ("c3", "circle"), ("c5", "square"))
OTHERS: tuple[str, Shape] = ("c0", "circle")  # recipes past the fourth
CURVES = 12  # isoFLOP budgets drawn
LIMIT = 2000  # marks of a chart
LETTER, LINE = 11.5, 18.0  # width and height of a label's letters as a phone shows them, in units of the drawing


def style(study: Study, recipe: str) -> tuple[str, Shape]:
    names = [view.name for view in study.recipes]
    place = names.index(recipe)
    return STYLES[place] if place < len(STYLES) else OTHERS


def note(name: str, N: float, D: float, loss: float) -> str:
    return f"{name}: {compact(N)} parameters, {compact(D)} tokens, loss {loss:.4g}"


def radius(count: int) -> float:
    return 4.5 if count < 30 else 3.2 if count < 300 else 2.2


def sample(runs: Sequence[Run]) -> list[Run]:
    return [runs[place] for place in drawn([run.recipe for run in runs])]


def compute_chart(study: Study, target: Target | None) -> dict[str, Any]:
    """Loss against 6·N·D, which laws count: runs, each law's least loss with its band, and the planned run."""
    plot = Plot(
        Axis("compute as 6·N·D, FLOPs", log=True),
        Axis("loss, nats per token"),
        "Loss of the runs by compute, with the least loss that each law allows",
        width=760,
        height=440,
    )
    size = radius(len(study.runs))
    shown = sample(study.runs)
    for view in study.recipes:
        colour, shape = style(study, view.name)
        if known := [(C, *found) for C, found in view.frontier if None not in found]:
            grid, least, lows, highs = zip(*known, strict=True)
            plot.band(grid, lows, highs, colour)
            plot.line(grid, least, f"{colour} dashed", f"least loss of {view.name or 'these runs'}")
        members = [run for run in shown if run.recipe == view.name]
        spent, losses = [6 * run.N * run.D for run in members], [run.loss for run in members]
        plot.points(
            spent, losses, colour, shape, [note(run.run, run.N, run.D, run.loss) for run in members], radius=size
        )
    if target:
        target.draw(plot)
    return plot.figure()


def drawn_budgets(minima: Sequence[Minimum]) -> list[Minimum]:
    """At most `CURVES` of those with a curve: accepted ones first, then those with most sizes; by compute."""
    curves = [minimum for minimum in minima if len(minimum.tried) > 2]
    ranked = sorted(curves, key=lambda minimum: (bool(minimum.reason), -len(minimum.tried), minimum.C))
    return sorted(ranked[:CURVES], key=lambda minimum: minimum.C)


def labelled(minima: Sequence[Minimum], plot: Plot) -> list[Minimum]:
    """Those whose FLOPs can stand at the end of their curve without lying on another's; accepted ones first."""
    (left, right), (low, high) = plot.x.padded(plot.pad), plot.y.padded(plot.pad)
    taken: list[tuple[float, float, float]] = []
    found = []
    for minimum in sorted(minima, key=lambda minimum: (bool(minimum.reason), minimum.C)):
        n, loss = max(minimum.tried)
        x = (plot.width - MARGIN_LEFT - MARGIN_RIGHT) * math.log(n / left) / math.log(right / left)
        y = (plot.height - MARGIN_TOP - MARGIN_BOTTOM) * (loss - low) / (high - low)
        end = x + LETTER * len(compact(minimum.C))
        if all(end < start or x > stop or abs(y - line) > LINE for start, stop, line in taken):
            taken.append((x, end, y))
            found.append(minimum)
    return found


def isoflop_chart(view: Isoflop) -> str:
    """One curve a budget: loss against size, the parabola, and its lowest point where it is accepted."""
    plot = Plot(
        Axis("parameters", log=True),
        Axis("loss, nats per token"),
        "Loss against size at equal compute, with each budget's best size",
        width=760,
        height=420,
    )
    budgets = drawn_budgets(view.minima)
    runs = [(place, run) for place, minimum in enumerate(budgets) for run in minimum.tried]
    kept = [runs[i] for i in drawn([str(place) for place, _ in runs])]
    dot = min(3.0, radius(len(runs)))
    for place, minimum in enumerate(budgets):
        tried = sorted(run for at, run in kept if at == place)
        sizes, reached = [n for n, _ in tried], [loss for _, loss in tried]
        colour = "c2" if minimum.accepted else "c0"
        words = f"{compact(minimum.C)} FLOPs" + ("" if minimum.accepted else f": {minimum.reason}")
        plot.points(sizes, reached, colour, "circle", [words] * len(sizes), radius=dot)
        if minimum.N is not None and minimum.loss is not None and minimum.curvature is not None:
            steps = [sizes[0] * (sizes[-1] / sizes[0]) ** (i / 40) for i in range(41)]
            curve = [minimum.loss + minimum.curvature * math.log(n / minimum.N) ** 2 for n in steps]
            plot.line(steps, curve, f"{colour} thin", words)
            plot.points([minimum.N], [minimum.loss], "c1", "square", [f"best size at {words}"], radius=4)
        else:
            plot.line(sizes, reached, f"{colour} thin", words)
    for minimum in labelled(budgets, plot):
        n, loss = max(minimum.tried)
        plot.text(n, loss, compact(minimum.C), "c2" if minimum.accepted else "c0", dx=6)
    return plot.svg()


def residual_chart(study: Study, x: str, label: str) -> dict[str, Any]:
    """How far runs lie above their law, in percent of the loss, against N, D or C."""
    plot = Plot(
        Axis(label, log=True), Axis("above the law, % of the loss"), f"Residuals against {label}", width=380, height=250
    )
    fitted = [run for run in study.runs if run.residual is not None]
    shown = sample(fitted)
    if fitted:
        ends = [min(getattr(run, x) for run in fitted), max(getattr(run, x) for run in fitted)]
        plot.line(ends, [0.0, 0.0], "c0 dashed")
    for view in study.recipes:
        colour, shape = style(study, view.name)
        members = [run for run in shown if run.recipe == view.name]
        xs, ys = [getattr(run, x) for run in members], [100 * math.expm1(run.residual or 0.0) for run in members]
        words = [note(run.run, run.N, run.D, run.loss) for run in members]
        plot.points(xs, ys, colour, shape, words, radius=radius(len(fitted)) * 0.8)
    return plot.figure()


def withheld_chart(held: Withheld, target: Target | None) -> str:
    """Reached beside predicted, for runs of most compute under a law fitted without them, and for the planned run."""
    plot = Plot(
        Axis("predicted loss"),
        Axis("loss reached"),
        "Loss reached against loss predicted without the run",
        width=380,
        height=320,
    )
    runs = [held.runs[place] for place in drawn([""] * len(held.runs))]
    shown = [(run, run.predicted.value) for run in runs if run.predicted.value is not None]
    xs, ys = [predicted for _, predicted in shown], [run.loss for run, _ in shown]
    for axis in (plot.x, plot.y):  # one scale, so that the diagonal is one
        axis.take([*xs, *ys, *((target.predicted, target.reached) if target else ())])
    words = [f"{note(run.run, run.N, run.D, run.loss)}; predicted {predicted:.4g}" for run, predicted in shown]
    plot.points(xs, ys, "c1", "circle", words, radius=radius(len(held.runs)))
    if target:
        said = f"planned run: predicted {target.predicted:.3f}, reached {target.reached:.3f}"
        plot.points([target.predicted], [target.reached], "c3", "square", [said], radius=5)
    plot.diagonal("ident")
    return plot.svg()


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


def between(interval: Interval | None, digits: int = 3) -> str:
    """An interval in brackets, or nothing where an end isn't known."""
    if interval is None or any(end is None or not math.isfinite(end) for end in interval):
        return ""
    return f"  ({' – '.join(compact(end, digits) for end in interval if end is not None)})".replace("-", "−")


def signed(value: float, digits: int = 2) -> str:
    return f"{value:+.{digits}f}".replace("-", "−")
