"""Whether the reward model can be believed: held-out pairs, its calibration, and what it goes by."""

import math
from collections.abc import Mapping
from typing import Any

from stages.publishing.html.charts import Axis, Plot
from stages.publishing.html.numbers import number, percent, value

WORDS = {
    "chosen_longer": "the longer answer was chosen",
    "chosen_shorter": "the shorter answer was chosen",
    "equal_length": "equally long",
    "score_gap_0": "equally many facts",
    "score_gap_1": "one fact apart",
    "score_gap_2_or_more": "two or more facts apart",
    "score_unknown": "truth unknown",
}
HEAD = ["Held-out pairs", "How many", "Ranked as annotated, %", "Mean margin"]


def reward_view(
    metrics: Mapping[str, Any], held_out: Mapping[str, Any], annotated: Mapping[str, Any]
) -> dict[str, Any] | None:
    """From alignment.reward's `metrics.json` and `held_out.json`, and alignment.annotate's metrics."""
    if not held_out:
        return None
    groups = [*held_out["by_length"], *held_out["by_score_gap"]]
    return {
        "sentences": [*_accuracy(metrics, annotated), *_calibration(held_out["calibration"]), *_members(metrics)],
        "chart": _reliability(held_out["calibration"]["bins"]),
        "behind": _bins(held_out["calibration"]["bins"]),
        "head": HEAD,
        "rows": [_group(row) for row in groups],
        "numeric": (1, 2, 3),
    }


def _group(row: Mapping[str, Any]) -> list[str]:
    found = value(row["accuracy"], row["low"], row["high"], factor=100)
    assert found is not None
    shown = f"{found.text} ({found.range})" if found.range else found.text
    return [WORDS.get(row["group"], row["group"]), str(row["pairs"]), shown, f"{row['margin']:+.2f}".replace("-", "−")]


def _accuracy(metrics: Mapping[str, Any], annotated: Mapping[str, Any]) -> list[str]:
    mean, low, high = (number(metrics.get(f"held_out_accuracy{end}")) for end in ("", "_low", "_high"))
    longer, loss = number(metrics.get("held_out_longer_accuracy")), number(metrics.get("held_out_loss"))
    if mean is None:
        return []
    bounds = f" ({percent(low, 1)} to {percent(high, 1)})" if low is not None and high is not None else ""
    said = [
        f"Of {metrics['held_out_pairs']} held-out pairs on {metrics['held_out_prompts']} prompts it ranks "
        f"{percent(mean, 1)}{bounds} as annotated; the interval is over prompts, whose pairs share their difficulty."
    ]
    if longer is not None:
        word = "no better than" if low is None or low <= longer else "better than"
        said.append(f"That is {word} the control that always prefers the longer answer, {percent(longer, 1)}.")
    if loss is not None:
        said.append(f"Its loss there is {loss:.3f} nats, against {math.log(2):.3f} of a model that knows nothing.")
    follow, truth = number(annotated.get("score_agreement")), number(metrics.get("held_out_score_accuracy"))
    if follow is not None:
        said.append(
            f"Of annotated pairs that differ in facts, {percent(follow, 1)} are labelled by them: what a model that "
            "knew the truth would reach there"
            + (f"; this one prefers the better answer of {percent(truth, 1)} of its held-out ones." if truth else ".")
        )
    return said


def _calibration(found: Mapping[str, Any]) -> list[str]:
    return [
        f"Expected calibration error of σ(margin): {found['ece']:.3f}; a perfectly calibrated model would show "
        f"{found['by_chance']:.3f} on average with so few pairs."
    ]


def _members(metrics: Mapping[str, Any]) -> list[str]:
    apart = number(metrics.get("held_out_members_disagree"))
    if apart is None:
        return []
    return [
        f"Its {metrics['members']} members disagree on {percent(apart, 1)} of the pairs; alone they rank "
        f"{percent(metrics['held_out_member_accuracy'], 1)} as annotated on average."
    ]


def _reliability(bins: list[dict[str, float]]) -> str:
    title = "Share chosen over the probability that the reward model gives its favourite"
    plot = Plot(Axis("probability of its favourite, σ(|margin|)"), Axis("share chosen"), title, width=360, height=230)
    plot.diagonal("ident")
    for row in bins:
        plot.interval(row["confidence"], row["low"], row["high"], "c2", f"{row['n']:.0f} pairs")
    plot.points([row["confidence"] for row in bins], [row["accuracy"] for row in bins], "c2")
    return plot.svg()


def _bins(bins: list[dict[str, float]]) -> dict[str, Any]:
    """What the chart of `_reliability` draws, as a table."""
    head = ["Probability of its favourite", "Share chosen", "95 % interval", "Pairs"]
    rows = [
        [
            f"{row['confidence']:.3f}",
            f"{row['accuracy']:.3f}",
            f"{row['low']:.3f} to {row['high']:.3f}",
            f"{row['n']:.0f}",
        ]
        for row in bins
    ]
    return {"head": head, "rows": rows, "numeric": [0, 1, 2, 3]}
