"""How much the wording of the prompt matters: the spread of a score over prompt variants."""

import statistics
from typing import Any

from stages.base.contracts.evaluation import Accuracy
from stages.publishing.evaluation.tasks import Evaluations, all_tasks, named, protocol_name, protocols_of, shown
from stages.publishing.html.numbers import Scale, ceiling, floor

MOST_BLOCKS = 12  # tasks and protocols on the page, those with the widest spread
PLAIN = ""  # its key among the variants


def variants_view(evaluations: Evaluations) -> dict[str, Any] | None:
    """A block each task and protocol, a row each model; None where no variants were asked."""
    blocks: list[dict[str, Any]] = []
    for task in all_tasks(evaluations):
        for protocol in protocols_of(evaluations, task):
            rows = []
            for model, one in evaluations.items():
                result = one.tasks[task].protocols.get(protocol) if task in one.tasks else None
                if result and sum(score.mean is not None for score in result.variants.values()) > 1:
                    rows.append(_row(model, result))
            if rows:
                blocks.append({"name": f"{named(task)}, {protocol_name(protocol)}", "rows": rows})
    if not blocks:
        return None
    left_out = len(blocks) - MOST_BLOCKS
    widest = sorted(blocks, key=_width, reverse=True)[:MOST_BLOCKS]
    blocks = [block for block in blocks if block in widest]
    ends = [number for block in blocks for row in block["rows"] for number in row["numbers"]]
    return {
        "blocks": blocks,
        "scale": Scale(max(0.0, floor(ends, 10)), ceiling(ends, 10)),
        "note": _note(blocks),
        "left_out": max(0, left_out),
    }


def _row(model: str, result: Accuracy) -> dict[str, Any]:
    values = {name: number.mean for name, score in result.variants.items() if (number := shown(score, result.metric))}
    least, most = min(values, key=lambda name: values[name]), max(values, key=lambda name: values[name])
    digits = next(number.digits for score in result.variants.values() if (number := shown(score, result.metric)))
    return {
        "model": model,
        "numbers": [*values.values()],
        "dots": [
            {"name": _name(name), "mean": mean, "text": f"{mean:.{digits}f}", "plain": name == PLAIN}
            for name, mean in sorted(values.items(), key=lambda row: row[0] == PLAIN)  # the plain one on top
        ],
        "plain": f"{values[PLAIN]:.{digits}f}" if PLAIN in values else "–",
        "low": values[least],
        "high": values[most],
        "least": f"{values[least]:.{digits}f} ({_name(least)})",
        "most": f"{values[most]:.{digits}f} ({_name(most)})",
        "deviation": f"{statistics.stdev(values.values()):.{digits}f}",
    }


def _name(variant: str) -> str:
    return "plain" if variant == PLAIN else named(variant)


def _width(block: dict[str, Any]) -> float:
    return max(row["high"] - row["low"] for row in block["rows"])


def _note(blocks: list[dict[str, Any]]) -> str:
    widest = max((row["high"] - row["low"], block["name"], row["model"]) for block in blocks for row in block["rows"])
    return f"Widest: {widest[2]} on {widest[1]}, {widest[0]:.1f} between its best and its worst prompt."
