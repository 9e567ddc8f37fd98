"""Score histograms with their thresholds, and how well the quality classifier's scores are calibrated."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from stages.base.errors import InputError
from stages.publishing.corpus.steps import label
from stages.publishing.html.charts import Axis, Plot, compact
from stages.publishing.html.numbers import count, number, percent

CALIBRATION = "quality_calibration"
SHOWN = 5  # sources drawn one by one, the largest first; the rest are one grey line
REST = "other sources"
PEAKED = 0.6  # a bin with more of a source's documents than this leaves a linear axis empty beside it
SPREAD = 50.0  # a last bin this many times as wide as the first asks for a logarithmic axis


@dataclass(frozen=True)
class Histogram:
    """Counts of documents between `edges`, by source."""

    name: str
    edges: Sequence[float]
    counts: Mapping[str, Sequence[float]]
    dropped: Mapping[str, Sequence[float]]  # those that the step dropped, where it tells them bin by bin
    threshold: Mapping[str, float]  # by source; sources without a bound are left out


def parse(value: Any, path: str) -> list[Histogram]:
    """The histograms of a `histograms.json`, in the order of their names. Raises InputError for another shape."""
    if not isinstance(value, Mapping):
        raise InputError(f"{path}: not a mapping of histograms; rerun the stage that writes it (`dvc repro`)")
    return [_one(str(name), entry, path) for name, entry in sorted(value.items()) if name != CALIBRATION]


def _one(name: str, entry: Any, path: str) -> Histogram:
    try:
        edges = [float(edge) for edge in entry["edges"]]
        counts = {str(source): [float(n) for n in row] for source, row in entry["counts"].items()}
        lost = (entry.get("dropped") or {}).items()
        dropped = {str(source): [float(n) for n in row] for source, row in lost if isinstance(row, list)}
        bound = entry["threshold"]
        bounds = bound if isinstance(bound, Mapping) else dict.fromkeys(counts, bound)
        threshold = {str(source): found for source, at in bounds.items() if (found := number(at)) is not None}
    except (AttributeError, KeyError, TypeError, ValueError):
        raise InputError(f"{path}: `{name}` needs `edges`, `counts` by source, and `threshold`") from None
    sizes = {len(row) for row in (*counts.values(), *dropped.values())}
    if len(edges) < 2 or any(not a < b for a, b in pairwise(edges)) or sizes - {len(edges) - 1}:
        raise InputError(f"{path}: `{name}`: edges must rise, and every row of counts have one entry less than them")
    return Histogram(name, edges, counts, dropped, threshold)


def lumped(histogram: Histogram) -> Histogram:
    """The same with all but the `SHOWN` largest sources added up; their bounds are not drawn."""
    ranked = sorted(histogram.counts, key=lambda source: (-sum(histogram.counts[source]), source))
    if len(ranked) <= SHOWN:
        return histogram
    alone, rest = sorted(ranked[:SHOWN]), ranked[SHOWN:]

    def lump(rows: Mapping[str, Sequence[float]]) -> dict[str, Sequence[float]]:
        found = {source: rows[source] for source in alone if source in rows}
        others = [rows[source] for source in rest if source in rows]
        return found | ({REST: [sum(column) for column in zip(*others, strict=True)]} if others else {})

    bounds = {source: bound for source, bound in histogram.threshold.items() if source in alone}
    return Histogram(histogram.name, histogram.edges, lump(histogram.counts), lump(histogram.dropped), bounds)


def chart(histogram: Histogram, colours: Mapping[str, str]) -> dict[str, Any]:
    """Outlines of each source's shares, what was dropped filled in, bounds as dashed lines; and the same as a table."""
    shown = lumped(histogram)
    totals = {source: sum(row) for source, row in shown.counts.items()}
    shares = {source: [n / totals[source] for n in row] for source, row in shown.counts.items() if totals[source]}
    drops = {s: [n / totals[s] for n in row] for s, row in shown.dropped.items() if totals.get(s) and any(row)}
    peaked = any(max(row) > PEAKED for row in shares.values())
    floor = min((0.5 / totals[source] for source in shares), default=0.01) if peaked else 0.0
    edges, stretched = _drawn_edges(shown.edges)
    title = label(shown.name)
    plot = Plot(
        Axis(title + (", logarithmic" if stretched else ""), log=stretched),
        Axis("share of documents" + (", logarithmic" if peaked else ""), log=peaked, grounded=True),
        f"Histogram of {title} by source: {', '.join(shares)}",
        width=360,
        height=230,
        pad=0.03,
    )
    plot.y.take([floor])
    xs = [edge for pair in pairwise(edges) for edge in pair]
    for source, row in shares.items():
        colour = colours.get(source, "c0")
        if source in drops:
            tops = [max(share, floor) for share in drops[source] for _ in (0, 1)]
            plot.band(xs, [floor] * len(xs), tops, f"{colour} strong")
        heights = [max(share, floor) for share in row for _ in (0, 1)]
        plot.line([xs[0], *xs, xs[-1]], [floor, *heights, floor], colour, label(source))
    inside = {source: at for source, at in shown.threshold.items() if edges[0] <= at <= edges[-1]}
    one = len(set(shown.threshold.values())) == 1 and len(shown.threshold) == len(shown.counts)
    for at in sorted(set(inside.values())):
        users = [source for source, bound in inside.items() if bound == at]
        plot.rule(at, f"vrule {colours.get(users[0], 'c0')}" if len(users) == 1 and not one else "vrule", "")
    return {
        "title": title,
        "svg": plot.svg(),
        "key": [
            {"colour": colours.get(source, "c0"), "label": _keyed(source, shown, inside)} for source in sorted(shares)
        ],
        "table": _table(histogram),
    }


def _drawn_edges(edges: Sequence[float]) -> tuple[list[float], bool]:
    """(edges to draw, whether on a logarithmic axis). A first edge at 0 is drawn as far out as the next bin is wide."""
    widths = [b - a for a, b in pairwise(edges)]
    positive = len(edges) > 3 and edges[1] > 0 and edges[0] >= 0 and widths[-1] > SPREAD * widths[1]
    if not positive:
        return list(edges), False
    return [edges[0] or edges[1] ** 2 / edges[2], *edges[1:]], True


def _keyed(source: str, shown: Histogram, inside: Mapping[str, float]) -> str:
    bound = shown.threshold.get(source)
    if bound is None:
        return label(source)
    return f"{label(source)}, bound {compact(bound)}" + ("" if source in inside else " (outside)")


def _table(histogram: Histogram) -> dict[str, Any]:
    """Bins that hold documents, every source by itself."""
    sources = sorted(histogram.counts)
    rows = []
    for place, (low, high) in enumerate(pairwise(histogram.edges)):
        found = [histogram.counts[source][place] for source in sources]
        if any(found):
            gone = [sum(row[place] for row in histogram.dropped.values())] if histogram.dropped else []
            rows.append([f"{compact(low)} – {compact(high)}", *map(count, [*found, *gone])])
    head = ["From – to", *map(label, sources), *(["of these dropped"] if histogram.dropped else [])]
    return {"head": head, "rows": rows, "numeric": list(range(1, len(head)))}


def calibration_view(value: Any, path: str, colours: Mapping[str, str]) -> dict[str, Any] | None:
    """Mean score against share of positives, a point a bin; None where no source had a classifier.

    Raises InputError for another shape than {source: {mean_score, share_positive, count}} of equally long lists.
    """
    try:
        found = {
            str(source): [
                (mean, share, int(n))
                for mean, share, n in zip(
                    map(number, part["mean_score"]), map(number, part["share_positive"]), part["count"], strict=True
                )
                if mean is not None and share is not None and n
            ]
            for source, part in sorted((value or {}).items())
        }
    except (AttributeError, KeyError, TypeError, ValueError):
        raise InputError(
            f"{path}: `{CALIBRATION}` needs `mean_score`, `share_positive` and `count`, equally long"
        ) from None
    found = {source: bins for source, bins in found.items() if bins}
    if not found:
        return None
    plot = Plot(
        Axis("mean score of the bin"),
        Axis("share that a trusted page links to"),
        f"Calibration of the quality score: {', '.join(found)}",
        width=460,
        height=320,
    )
    plot.x.take([0.0, 1.0])
    plot.y.take([0.0, 1.0])
    plot.diagonal("ident")
    for source, bins in found.items():
        colour = colours.get(source, "c0")
        xs, ys = [mean for mean, _, _ in bins], [share for _, share, _ in bins]
        plot.line(xs, ys, f"{colour} thin")
        plot.points(xs, ys, colour, notes=[f"{label(source)}: {count(n)} pages" for _, _, n in bins])
    return {
        "svg": plot.svg(),
        "key": [{"colour": colours.get(source, "c0"), "label": label(source)} for source in found],
        "table": {
            "head": ["Source", "Mean score", "Share of positives", "Pages"],
            "rows": [
                [label(source), f"{mean:.3f}", percent(share, 1), count(n)]
                for source, bins in found.items()
                for mean, share, n in bins
            ],
            "numeric": [1, 2, 3],
        },
    }
