"""Charts of a claim: every run as a dot, means and intervals beside the dots, never alone."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from stages.base.contracts.claim import Claim, Comparison
from stages.publishing.claims.figures import effect_places, effect_unit, finished, metric_places, shown, signed
from stages.publishing.html.charts import MARGIN_TOP, Axis, Plot, Shape, compact, pixels

WIDTH, ROW, RIGHT, BOTTOM = 640.0, 46.0, 16.0, 40.0
CHARACTER, LONGEST = 8.8, 20  # of a line of a name: width as drawn on a narrow screen, and where it breaks
DIFFERENCES = ("difference", "equivalence", "ordering")  # analyses whose effect is one arm minus another
COLOURS = ("c2", "c1", "c3", "c4", "c5")
SHAPES: tuple[Shape, ...] = ("circle", "square")


@dataclass(frozen=True)
class Strip:
    """A line of a strip chart: runs by the place of their seed, and what they come to."""

    name: str
    dots: Sequence[tuple[int, float, str]]  # place of the seed, value, note
    mean: float | None
    low: float | None
    high: float | None
    note: str
    style: str


def strip_chart(
    strips: Sequence[Strip],
    label: str,
    title: str,
    *,
    null: float | None = None,
    margin: float | None = None,
    joined: bool = False,
) -> str:
    """Strips below each other over one axis. A seed has its own height within a strip, so that equal values stay apart.

    Parameters: `null`: a vertical line; `margin`: a band of that half-width around it; `joined`: a thin line joins the
    dots of one seed from strip to strip.
    """
    axis = Axis(label)
    for strip in strips:
        axis.take([value for _, value, _ in strip.dots])
        axis.take([end for end in (strip.mean, strip.low, strip.high) if end is not None])
    if null is not None:
        axis.take([null - (margin or 0.0), null + (margin or 0.0)])
    low, high = axis.padded(0.05)
    left = 12 + CHARACTER * max((len(line) for strip in strips for line in broken(strip.name)), default=0)
    bottom = MARGIN_TOP / 2 + ROW * len(strips)
    height, at = bottom + BOTTOM, pixels(low, high, left, WIDTH - RIGHT, False)
    out = [f'<svg class="plot" viewBox="0 0 {WIDTH:g} {height:g}" role="img" aria-label="{escape(title)}">']
    if null is not None and margin:
        x, width = at(null - margin), at(null + margin) - at(null - margin)
        out.append(
            f'<rect class="band c4" x="{x:.1f}" y="{MARGIN_TOP / 2:g}" width="{width:.1f}" '
            f'height="{bottom - MARGIN_TOP / 2:g}"><title>effects below the margin</title></rect>'
        )
    for tick in axis.ticks(low, high):
        out.append(
            f'<line class="grid" x1="{at(tick):.1f}" x2="{at(tick):.1f}" y1="{MARGIN_TOP / 2:g}" y2="{bottom:g}"/>'
            f'<text class="tick" x="{at(tick):.1f}" y="{bottom + 17:g}" text-anchor="middle">{compact(tick)}</text>'
        )
    if null is not None:
        out.append(
            f'<line class="vrule" x1="{at(null):.1f}" x2="{at(null):.1f}" y1="{MARGIN_TOP / 2:g}" y2="{bottom:g}"/>'
        )
    out.append(f'<line class="axis" x1="{left:.1f}" x2="{WIDTH - RIGHT:g}" y1="{bottom:g}" y2="{bottom:g}"/>')
    out.append(
        f'<text class="axis-label" x="{WIDTH - RIGHT:g}" y="{height - 5:g}" text-anchor="end">{escape(label)}</text>'
    )
    middles = [MARGIN_TOP / 2 + ROW * (i + 0.5) for i in range(len(strips))]
    if joined:
        out += _joins(strips, middles, at)
    out += [_strip(strip, middle, left, at) for strip, middle in zip(strips, middles, strict=True)]
    return "".join([*out, "</svg>"])


def broken(name: str) -> list[str]:
    """A name on at most three lines, broken behind spaces and underscores."""
    lines = [""]
    for part in re.split(r"(?<=[_ ])", name):
        if len(lines[-1]) + len(part.rstrip()) > LONGEST and lines[-1]:
            lines.append("")
        lines[-1] += part[:LONGEST]
    return [line.rstrip() for line in lines[:3]]


def _lane(middle: float, place: int, seeds: int) -> float:
    """Height of a seed's dots within its strip."""
    return middle - 5 + (place - (seeds - 1) / 2) * min(5.0, 16 / max(seeds - 1, 1))


def _seeds(strip: Strip) -> int:
    return max((place for place, _, _ in strip.dots), default=0) + 1


def _joins(strips: Sequence[Strip], middles: Sequence[float], at) -> list[str]:
    seeds, lines = max(_seeds(strip) for strip in strips), []
    for place in range(seeds):
        ends = [
            (at(value), _lane(middle, place, seeds))
            for strip, middle in zip(strips, middles, strict=True)
            for which, value, _ in strip.dots
            if which == place
        ]
        if len(ends) > 1:
            path = "L".join(f"{x:.1f} {y:.1f}" for x, y in ends)
            lines.append(f'<path class="line thin c0" d="M{path}"/>')
    return lines


def _strip(strip: Strip, middle: float, left: float, at) -> str:
    lines = broken(strip.name)
    out = [
        f'<text class="tick" x="{left - 10:.1f}" y="{middle + 4 + 14 * (i - (len(lines) - 1) / 2):.1f}" '
        f'text-anchor="end">{escape(line)}<title>{escape(strip.name)}</title></text>'
        for i, line in enumerate(lines)
    ]
    for place, value, note in strip.dots:
        y = _lane(middle, place, _seeds(strip))
        out.append(
            f'<circle class="point {strip.style}" cx="{at(value):.1f}" cy="{y:.1f}" r="4">'
            f"<title>{escape(note)}</title></circle>"
        )
    y = middle + 14
    if strip.low is not None and strip.high is not None:
        caps = "".join(f"M{x:.1f} {y - 4:.1f}V{y + 4:.1f}" for x in (at(strip.low), at(strip.high)))
        out.append(
            f'<path class="interval {strip.style}" d="M{at(strip.low):.1f} {y:.1f}H{at(strip.high):.1f}{caps}">'
            f"<title>{escape(strip.note)}</title></path>"
        )
    if strip.mean is not None:
        x = at(strip.mean)
        out.append(
            f'<path class="point {strip.style}" d="M{x - 6:.1f} {y:.1f}L{x:.1f} {y - 6:.1f}L{x + 6:.1f} {y:.1f}'
            f'L{x:.1f} {y + 6:.1f}Z"><title>{escape(strip.note)}</title></path>'
        )
    return "".join(out)


def runs_chart(claim: Claim) -> str:
    """Every run of every arm in the ruling metric; over the levels of a trend, over the compute of a ladder."""
    if any(run.points for run in claim.runs):
        return ladder_chart(claim)
    if claim.verdict.analysis == "trend" and all(arm.level is not None for arm in claim.arms):
        return trend_chart(claim)
    decimals, strips = metric_places(claim, claim.metric), []
    for arm in claim.arms:
        summary = arm.metrics.get(claim.metric)
        dots = [
            (claim.seeds.index(run.seed), value, f"{arm.name}, seed {run.seed}: {shown(value, decimals)}")
            for run in finished(claim)
            if run.arm == arm.name and (value := run.values.get(claim.metric)) is not None
        ]
        mean, low, high = (summary.mean, summary.low, summary.high) if summary else (None, None, None)
        note = f"{arm.name}: mean {shown(mean, decimals)}"
        strips.append(Strip(arm.name, dots, mean, low, high, note, "c0" if arm.baseline else "c2"))
    if not any(strip.dots for strip in strips):
        return ""
    label = f"{claim.metric}, {claim.unit}" if claim.unit else claim.metric
    return strip_chart(strips, label, f"Every run of {claim.name}", joined="seed" in claim.pair)


def seed_effects(claim: Claim, comparison: Comparison) -> list[tuple[str, float]]:
    """(Seed, difference of its two runs) of a difference of two arms that is paired by seed; empty for others."""
    if "seed" not in claim.pair or not comparison.b or claim.verdict.analysis not in DIFFERENCES:
        return []
    values = {(run.arm, run.seed): run.values.get(claim.metric) for run in finished(claim)}
    found = []
    for seed in claim.seeds:
        a, b = values.get((comparison.a, seed)), values.get((comparison.b, seed))
        if a is not None and b is not None:
            found.append((seed, a - b))
    return found


def effects_chart(claim: Claim) -> str:
    """The verdict's comparisons as a forest plot, with the difference that each seed shows by itself."""
    verdict, strips = claim.verdict, []
    decimals = effect_places(verdict)
    for one in verdict.comparisons:
        if one.effect is None:
            continue
        dots = [
            (claim.seeds.index(seed), value, f"seed {seed}: {signed(value, decimals)}")
            for seed, value in seed_effects(claim, one)
        ]
        style = "c1" if one.effect == verdict.effect and one.low == verdict.low else "c2"
        note = f"{one.label}: {signed(one.effect, decimals)}"
        strips.append(Strip(one.label, dots, one.effect, one.low, one.high, note, style))
    if not strips:
        return ""
    label = {
        "trend": f"slope of {claim.metric}",
        "scaling": "times the compute, or difference of slopes",
        "predicted": f"reached − predicted, {claim.metric}",
    }.get(verdict.analysis, f"difference of {claim.metric}" + (f", {effect_unit(claim)}" if effect_unit(claim) else ""))
    return strip_chart(strips, label, f"Effects of {claim.name} with intervals", null=verdict.null, margin=claim.margin)


def trend_chart(claim: Claim) -> str:
    levels = [arm.level for arm in claim.arms if arm.level is not None]
    log = min(levels) > 0 and max(levels) / min(levels) >= 8
    decimals = metric_places(claim, claim.metric)
    label = f"{claim.metric}, {claim.unit}" if claim.unit else claim.metric
    plot = Plot(Axis("level of the arm", log=log), Axis(label), f"Every run of {claim.name} over the arms' levels", 640)
    means = []
    for arm in claim.arms:
        x, summary = arm.level or 0.0, arm.metrics.get(claim.metric)
        if summary is None or summary.mean is None:
            continue
        means.append((x, summary.mean))
        if summary.low is not None and summary.high is not None:
            plot.interval(x, summary.low, summary.high, "c0", f"{arm.name}: interval over seeds")
    if not means:
        return ""
    plot.line([x for x, _ in means], [y for _, y in means], "c2 thin", "means")
    for arm in claim.arms:
        for run in finished(claim):
            value = run.values.get(claim.metric)
            if run.arm == arm.name and value is not None:
                note = f"{arm.name}, seed {run.seed}: {shown(value, decimals)}"
                plot.points([arm.level or 0.0], [value], "c2", notes=[note])
    return plot.svg()


def ladder_chart(claim: Claim) -> str:
    """Loss against compute, both logarithmic, a colour an arm; a thin line joins its least losses at each compute."""
    plot = Plot(
        Axis("compute, FLOPs", log=True),
        Axis(f"loss, {claim.unit}" if claim.unit else "loss", log=True),
        f"Loss against compute for every arm of {claim.name}",
        640,
    )
    for index, arm in enumerate(claim.arms):
        style, shape = COLOURS[index % len(COLOURS)], SHAPES[index % len(SHAPES)]
        least: dict[float, float] = {}
        for run in finished(claim):
            if run.arm == arm.name:
                notes = [f"{arm.name}, seed {run.seed}: {compact(C)} FLOPs, loss {loss:.3f}" for C, loss in run.points]
                plot.points([C for C, _ in run.points], [loss for _, loss in run.points], style, shape, notes)
                for C, loss in run.points:
                    least[C] = min(loss, least.get(C, loss))
        plot.line(sorted(least), [least[C] for C in sorted(least)], f"{style} thin", arm.name)
    return plot.svg()


def arm_key(claim: Claim) -> list[dict[str, str]]:
    """Legend of a ladder's chart."""
    return [
        {"label": arm.name, "colour": COLOURS[i % len(COLOURS)], "mark": "sq" if i % 2 else ""}
        for i, arm in enumerate(claim.arms)
    ]
