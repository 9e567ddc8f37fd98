"""The training section: the loss of pretraining and annealing, and small multiples of the alignment stages."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from stages.publishing.html.charts import Axis, Plot, thin
from stages.publishing.html.numbers import count, number

Rows = Sequence[Mapping[str, Any]]  # of a steps.jsonl


def series(rows: Rows, name: str) -> tuple[list[float], list[float]]:
    """Steps and values of the rows that carry this number."""
    found = [(float(row["step"]), value) for row in rows if (value := number(row.get(name))) is not None]
    return [step for step, _ in found], [value for _, value in found]


def losses(pretrain: Rows, anneal: Rows, branch: int, limit: int) -> str:
    """Training loss of both stages on one axis; the anneal starts from the trunk, at step `branch`."""
    plot = Plot(
        Axis("optimizer step"), Axis("loss, nats per token"), "Training loss by step", width=1060, height=330, pad=0.02
    )
    # The first steps fall from ln V and would flatten everything that follows.
    steps, values = _after_start(*series(pretrain, "loss"))
    plot.line(*thin(steps, values, limit), "c2")
    steps, values = series(anneal, "loss")
    plot.line(*thin([step + branch for step in steps], values, limit), "c4")
    plot.rule(branch, "vrule", "end of the trunk")
    return plot.svg()


def _after_start(steps: list[float], values: list[float]) -> tuple[list[float], list[float]]:
    skip = max(1, len(values) // 50) if len(values) > 40 else 0
    return steps[skip:], values[skip:]


def small(
    title: str, rows: Rows, name: str, label: str, style: str, limit: int, marks: str = "", caption: str = ""
) -> dict[str, str] | None:
    """A small chart of one number of a steps.jsonl, None where no row has it."""
    steps, values = series(rows, name)
    if not steps:
        return None
    plot = Plot(Axis("step"), Axis(label), f"{title}: {label} by step", width=360, height=230)
    plot.line(*thin(steps, values, limit), f"{style} thin" if marks else style)
    at, measured = series(rows, marks) if marks else ([], [])
    plot.line(at, measured, style)
    plot.points(at, measured, style, radius=3)
    return {"title": title, "svg": plot.svg(), "caption": caption}


def by_position(metrics: Mapping[str, Any]) -> dict[str, str]:
    """Loss by position before and after the context extension, from its metrics.json: a step for each bucket."""
    plot = Plot(Axis("position", log=True), Axis("loss, nats per token"), "Loss by position", width=360, height=230)
    for when, style in (("before", "c3"), ("after", "c1")):
        found = re.compile(rf"loss_by_position_{when}_(\d+)_(\d+)")
        buckets = sorted(
            (int(hit[1]), int(hit[2]), float(metrics[key])) for key in metrics if (hit := found.fullmatch(key))
        )
        edges = [(at, loss) for first, last, loss in buckets for at in (max(first, (last + 1) / 2), last + 1.0)]
        plot.line([at for at, _ in edges], [loss for _, loss in edges], style, when)
    return {
        "title": "Longer context",
        "svg": plot.svg(),
        "caption": f"The base model on held-out documents, read to {count(metrics['seq_len'])} tokens: as it is, "
        f"and after {count(metrics['steps'])} steps on long rows with RoPE's base at {count(metrics['rope_theta'])}.",
    }


def training_view(
    pretrain: Rows,
    anneal: Rows,
    metrics: Mapping[str, Mapping[str, Any]],
    limit: int,
    smalls: list[dict[str, str] | None],
) -> dict[str, Any]:
    """Parameters: rows and metrics.json of pretraining and annealing; `smalls`: charts of the alignment stages."""
    before, after = metrics["pretrain"]["validation_loss"], metrics["anneal"]["validation_loss"]
    return {
        "intro": (
            f"A trunk of {count(metrics['pretrain']['trunk_steps'])} steps at the planned learning rate; from its "
            "end, once a cooldown "
            f"on the same stream (what the scaling law predicts: validation loss {before:.3f}), once an anneal of "
            f"{count(len(anneal))} steps on the best text ({after:.3f}), from which alignment starts."
        ),
        "main": losses(pretrain, anneal, int(metrics["pretrain"]["trunk_steps"]), limit),
        "key": [
            {"mark": "ln", "colour": "c2", "label": "pretraining: trunk and cooldown"},
            {"mark": "ln", "colour": "c4", "label": "anneal on the best text"},
        ],
        "caption": (
            "Training loss, means over equal runs of steps. The two branches read different text after the trunk."
        ),
        "small": [chart for chart in smalls if chart is not None],
    }
