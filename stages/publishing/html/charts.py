"""Line and scatter charts as SVG text: deterministic bytes, colours from the page's CSS, readable without a script.

Written by hand rather than with a plotting library: the same inputs give the same bytes on every machine, the chart
follows the reader's light or dark theme, and the report needs no 100 MB import.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, Literal

MARGIN_LEFT, MARGIN_RIGHT, MARGIN_TOP, MARGIN_BOTTOM = 52.0, 14.0, 28.0, 38.0

Shape = Literal["circle", "square"]


def compact(value: float, digits: int = 3) -> str:
    """A number for an axis or a tile: 1,240 -> `1.24k`, 3.1e9 -> `3.1G`, beyond 1e15 or below 1e-3 scientific."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else "–"
    size = abs(value)
    if size >= 1e15 or size < 1e-3:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    for power, suffix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size >= power * (1 - 10**-digits / 2):
            return f"{_significant(value / power, digits)}{suffix}"
    return _significant(value, digits)


def _significant(value: float, digits: int) -> str:
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


@dataclass
class Axis:
    """One axis: data range to pixels, linear or logarithmic, with its own round ticks."""

    label: str
    log: bool = False
    grounded: bool = False  # no room below the smallest value: bars stand on the axis
    low: float = math.inf
    high: float = -math.inf

    def take(self, values: Sequence[float]) -> None:
        """Widen the range to hold these values; what can't be drawn is ignored."""
        drawable = [v for v in values if math.isfinite(v) and (v > 0 or not self.log)]
        if drawable:
            self.low, self.high = min(self.low, *drawable), max(self.high, *drawable)

    def padded(self, share: float) -> tuple[float, float]:
        if self.low > self.high:
            return (1.0, 10.0) if self.log else (0.0, 1.0)
        if self.log:
            low, high = math.log10(self.low), math.log10(self.high)
            pad = (high - low) * share if high - low > 1e-9 else 0.2
            return 10 ** (low - pad * (not self.grounded)), 10 ** (high + pad)
        span, least = self.high - self.low, 1e-300  # below it, decimal ticks underflow
        if span > max(1e-9 * abs(self.high), least):
            pad = span * share
        else:
            pad = abs(self.high) * 0.1 if abs(self.high) > least else 1.0
        return self.low - pad * (not self.grounded), self.high + pad

    def ticks(self, low: float, high: float) -> list[float]:
        if self.log:
            decades = [10.0**e for e in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)]
            if len(decades) > 6:
                return decades[:: math.ceil(len(decades) / 6)]
            if len(decades) >= 3:
                return decades
            start = math.floor(math.log10(low))
            steps = [m * 10.0**e for e in range(start, start + 4) for m in (1, 2, 5)]
            inside = [s for s in steps if low <= s <= high]
            if len(inside) >= 3:
                return inside
        span = high - low
        unit = 10 ** math.floor(math.log10(span / 4))
        step = next(unit * m for m in (1, 2, 2.5, 5, 10) if span / (unit * m) <= 5.5)
        first = math.ceil(low / step)
        return [float(f"{i * step:.12g}") for i in range(first, math.floor(high / step + 1e-9) + 1)]


@dataclass
class Plot:
    """Marks are collected first and drawn by `svg()`, when both ranges are known. Coordinates are data values."""

    x: Axis
    y: Axis
    title: str  # read out by screen readers
    width: float = 560.0
    height: float = 340.0
    pad: float = 0.05
    _marks: list[tuple] = field(default_factory=list)

    def line(self, xs: Sequence[float], ys: Sequence[float], style: str, label: str = "") -> None:
        self._add("line", xs, ys, style, label)

    def points(
        self,
        xs: Sequence[float],
        ys: Sequence[float],
        style: str,
        shape: Shape = "circle",
        notes: Sequence[str] = (),
        radius: float = 4.0,
    ) -> None:
        self._add("points", xs, ys, style, shape, tuple(notes), radius)

    def band(self, xs: Sequence[float], low: Sequence[float], high: Sequence[float], style: str) -> None:
        self.y.take(low)
        self._add("band", xs, high, style, tuple(low))

    def interval(self, x: float, low: float, high: float, style: str, note: str = "") -> None:
        self.y.take([low])
        self._add("interval", [x], [high], style, low, note)

    def text(
        self, x: float, y: float, words: str, style: str, dx: float = 8, dy: float = 4, anchor: str = "start"
    ) -> None:
        self._add("text", [x], [y], style, words, dx, dy, anchor)

    def rule(self, x: float, style: str, label: str) -> None:
        """A vertical line across the plot."""
        self.x.take([x])
        self._marks.append(("rule", [x], [], style, label))

    def diagonal(self, style: str) -> None:
        self._marks.append(("diagonal", [], [], style))

    def _add(self, kind: str, xs: Sequence[float], ys: Sequence[float], *rest: object) -> None:
        if len(xs) != len(ys):
            raise ValueError(f"{kind}: {len(xs)} x values for {len(ys)} y values")
        self.x.take(xs)
        self.y.take(ys)
        self._marks.append((kind, list(xs), list(ys), *rest))

    def figure(self) -> dict[str, Any]:
        """`svg`, and what it shows as a table."""
        return {"svg": self.svg(), "table": self.table()}

    def table(self, rows: int = 40, points: int = 300) -> dict[str, Any]:
        """What is drawn, as numbers: of every line with a label and of all points with notes, in the order of drawing.

        A line of more than `rows` points is given by means over equal runs, as `thin` makes them; of more than `points`
        points together the rest is counted.
        """
        found: list[tuple[str, float, float]] = []
        marked: list[tuple[str, float, float]] = []
        for kind, xs, ys, _, *rest in self._marks:
            if kind == "line" and rest[0]:
                found += [(rest[0], x, y) for x, y in zip(*thin(xs, ys, rows), strict=True)]
            elif kind == "points" and rest[1]:
                marked += zip(rest[1], xs, ys, strict=True)
        shown = [[what, *(compact(one, 5).replace("-", "−") for one in at)] for what, *at in found + marked[:points]]
        shown += [[f"{len(marked) - points} more", "–", "–"]] if len(marked) > points else []
        return {"head": ["What", self.x.label, self.y.label], "rows": shown, "numeric": [1, 2]}

    def svg(self) -> str:
        x_low, x_high = self.x.padded(self.pad)
        y_low, y_high = self.y.padded(self.pad)
        px = pixels(x_low, x_high, MARGIN_LEFT, self.width - MARGIN_RIGHT, self.x.log)
        py = pixels(y_low, y_high, self.height - MARGIN_BOTTOM, MARGIN_TOP, self.y.log)
        out = [
            f'<svg class="plot" viewBox="0 0 {self.width:g} {self.height:g}" role="img" '
            f'aria-label="{escape(self.title)}">'
        ]
        bottom, right = self.height - MARGIN_BOTTOM, self.width - MARGIN_RIGHT
        for tick in self.y.ticks(y_low, y_high):
            at = py(tick)
            out.append(f'<line class="grid" x1="{MARGIN_LEFT:g}" x2="{right:g}" y1="{at:.1f}" y2="{at:.1f}"/>')
            out.append(
                f'<text class="tick" x="{MARGIN_LEFT - 8:g}" y="{at + 4:.1f}" text-anchor="end">{compact(tick)}</text>'
            )
        for tick in self.x.ticks(x_low, x_high):
            at = px(tick)
            out.append(f'<line class="notch" x1="{at:.1f}" x2="{at:.1f}" y1="{bottom:g}" y2="{bottom + 4:g}"/>')
            out.append(
                f'<text class="tick" x="{at:.1f}" y="{bottom + 17:g}" text-anchor="middle">{compact(tick)}</text>'
            )
        out.append(f'<line class="axis" x1="{MARGIN_LEFT:g}" x2="{right:g}" y1="{bottom:g}" y2="{bottom:g}"/>')
        out.append(
            f'<text class="axis-label" x="{right:g}" y="{self.height - 4:g}" text-anchor="end">'
            f"{escape(self.x.label)}</text>"
            f'<text class="axis-label" x="2" y="12">{escape(self.y.label)}</text>'
        )
        for mark in self._marks:
            out.append(self._draw(mark, px, py, bottom))
        out.append("</svg>")
        return "".join(out)

    def _draw(self, mark: tuple, px, py, bottom: float) -> str:
        kind, xs, ys, style, *rest = mark
        if kind == "diagonal":
            low, high = max(self.x.low, self.y.low), min(self.x.high, self.y.high)
            return f'<path class="{style}" d="M{px(low):.1f} {py(low):.1f}L{px(high):.1f} {py(high):.1f}"/>'
        if kind == "rule":
            at = px(xs[0])
            return (
                f'<line class="{style}" x1="{at:.1f}" x2="{at:.1f}" y1="{MARGIN_TOP:g}" y2="{bottom:g}"/>'
                f'<text class="note" x="{at + 5:.1f}" y="{MARGIN_TOP + 9:g}">{escape(rest[0])}</text>'
            )
        if kind == "text":
            words, dx, dy, anchor = rest
            return (
                f'<text class="note {style}" x="{px(xs[0]) + dx:.1f}" y="{py(ys[0]) + dy:.1f}" '
                f'text-anchor="{anchor}">{escape(words)}</text>'
            )
        kept = [i for i, (a, b) in enumerate(zip(xs, ys, strict=True)) if self._drawable(a, b)]
        pairs = [(px(xs[i]), py(ys[i])) for i in kept]
        if kind == "line":
            label = f"<title>{escape(rest[0])}</title>" if rest[0] else ""
            return f'<path class="line {style}" d="{_path(pairs)}">{label}</path>' if pairs else ""
        if kind == "band":
            lower = [(px(a), py(b)) for a, b in zip(xs, rest[0], strict=True) if self._drawable(a, b)]
            return f'<path class="band {style}" d="{_path(pairs + lower[::-1])}Z"/>' if pairs and lower else ""
        if kind == "interval":
            at, high, low_y = px(xs[0]), py(ys[0]), py(rest[0])
            caps = "".join(f"M{at - 6:.1f} {y:.1f}H{at + 6:.1f}" for y in (low_y, high))
            return f'<path class="interval {style}" d="M{at:.1f} {low_y:.1f}V{high:.1f}{caps}">' + (
                f"<title>{escape(rest[1])}</title></path>"
            )
        shape, notes, radius = rest
        marks = []
        for i, (a, b) in zip(kept, pairs, strict=True):
            title = f"<title>{escape(notes[i])}</title>" if i < len(notes) else ""
            if shape == "square":
                marks.append(
                    f'<rect class="point {style}" x="{a - radius:.1f}" y="{b - radius:.1f}" '
                    f'width="{2 * radius:g}" height="{2 * radius:g}">{title}</rect>'
                )
            else:
                marks.append(f'<circle class="point {style}" cx="{a:.1f}" cy="{b:.1f}" r="{radius:g}">{title}</circle>')
        return "".join(marks)

    def _drawable(self, x: float, y: float) -> bool:
        return math.isfinite(x) and math.isfinite(y) and (x > 0 or not self.x.log) and (y > 0 or not self.y.log)


def pixels(low: float, high: float, start: float, end: float, log: bool):
    """The affine (or log-affine) map from [low, high] to [start, end]."""
    a, b = (math.log10(low), math.log10(high)) if log else (low, high)

    def at(value: float) -> float:
        return start + ((math.log10(value) if log else value) - a) / (b - a) * (end - start)

    return at


def _path(pairs: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in pairs)


def thin(xs: Sequence[float], ys: Sequence[float], limit: int) -> tuple[list[float], list[float]]:
    """At most `limit` points of a curve: means over equal runs, so that noise shows less and no peak is invented."""
    if len(xs) <= limit:
        return list(xs), list(ys)
    size = math.ceil(len(xs) / limit)
    groups = [slice(i, i + size) for i in range(0, len(xs), size)]
    return [math.fsum(xs[g]) / len(xs[g]) for g in groups], [math.fsum(ys[g]) / len(ys[g]) for g in groups]
