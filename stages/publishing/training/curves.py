"""Training curves: the loss of pretraining and annealing, and small charts of the alignment stages."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stages.publishing.html.charts import Axis, Plot, thin
from stages.publishing.html.numbers import count, number

LOOKS = {"pretrain": ("pretraining: trunk and cooldown", "c2"), "anneal": ("anneal on the best text", "c4")}


@dataclass(frozen=True)
class Curve:
    """One number of a steps.jsonl by step."""

    steps: list[float]
    values: list[float]

    def as_csv(self) -> str:
        """For DVC's plots, which read no steps.jsonl."""
        rows = [f"{step:g},{value:.6g}\n" for step, value in zip(self.steps, self.values, strict=True)]
        return "".join(["step,value\n", *rows])


def curve(rows: Sequence[Mapping[str, Any]], name: str, limit: int | None = None) -> Curve:
    """Of the rows that carry this number; at most `limit` points, means over equal runs of steps."""
    found = [(float(row["step"]), value) for row in rows if (value := number(row.get(name))) is not None]
    steps, values = [step for step, _ in found], [value for _, value in found]
    return Curve(*thin(steps, values, limit)) if limit else Curve(steps, values)


def offset(one: Curve, steps: int) -> Curve:
    return Curve([step + steps for step in one.steps], one.values)


def losses(phases: Mapping[str, tuple[Curve, float]], trunk: int) -> dict[str, Any]:
    """Training loss of pretraining and anneal on one axis, and the validation loss where each ends. The anneal
    starts at the end of the trunk.

    Parameter: phase → its curve and its validation loss.
    """
    plot = Plot(
        Axis("optimizer step"), Axis("loss, nats per token"), "Training loss by step", width=1060, height=330, pad=0.02
    )
    key = []
    for phase, (one, validation) in phases.items():
        # The first steps fall from ln V and would flatten everything that follows.
        skip = max(1, len(one.steps) // 50) if phase == "pretrain" and len(one.steps) > 40 else 0
        words, colour = LOOKS[phase]
        plot.line(one.steps[skip:], one.values[skip:], colour, f"{words}, training loss")
        key.append({"mark": "ln", "colour": colour, "label": words})
        plot.points(one.steps[-1:], [validation], colour, "square", [f"{words}, validation loss {validation:.3f}"], 5)
    plot.rule(trunk, "vrule", "end of the trunk")
    key.append({"mark": "sq", "colour": "c2", "label": "validation loss at the end, on held-out text"})
    return plot.figure() | {"key": key}


def small(
    title: str, one: Curve, label: str, style: str, caption: str = "", *, marked: bool = False
) -> dict[str, Any] | None:
    """A small chart with its numbers; None where there is none."""
    if not one.steps:
        return None
    plot = Plot(Axis("step"), Axis(label), f"{title}: {label} by step", width=360, height=230)
    plot.line(one.steps, one.values, style, label)
    if marked:
        plot.points(one.steps, one.values, style, radius=3)
    return plot.figure() | {"title": title, "caption": caption}


def by_position(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Loss by position before and after the context extension, from its metrics.json: a step for each bucket."""
    plot = Plot(Axis("position", log=True), Axis("loss, nats per token"), "Loss by position", width=560, height=260)
    for when, style in (("before", "c3"), ("after", "c1")):
        found = re.compile(rf"loss_by_position_{when}_(\d+)_(\d+)")
        buckets = sorted(
            (int(hit[1]), int(hit[2]), float(metrics[key])) for key in metrics if (hit := found.fullmatch(key))
        )
        edges = [(at, loss) for first, last, loss in buckets for at in (max(first, (last + 1) / 2), last + 1.0)]
        plot.line([at for at, _ in edges], [loss for _, loss in edges], style, when)
    return plot.figure() | {
        "caption": f"The base model on held-out documents, read to {count(metrics['seq_len'])} tokens: as it is, "
        f"and after {count(metrics['steps'])} steps on long rows with RoPE's base at {count(metrics['rope_theta'])}."
    }
