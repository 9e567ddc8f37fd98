"""Does small predict large? What the page of all claims says of scales and of noise."""

from collections.abc import Sequence
from statistics import median
from typing import Any

from stages.base.contracts.claim import Accuracy, Across, Claim
from stages.publishing.html.charts import compact
from stages.publishing.html.numbers import count

NOTHING = "No claim has been run at two scales: whether these orders of arms are those of larger models isn't known."


def transfer_view(claims: Sequence[Claim], across: Sequence[Across]) -> dict[str, Any]:
    """Tables of claims at two scales, of sizes within ladders, and of metrics; each None where there is nothing."""
    return {
        "scales": scales_table(across),
        "pooled": pooled(across),
        "ladders": ladders_table(claims),
        "signals": signals_table(claims),
    }


def scales_table(across: Sequence[Across]) -> dict[str, Any] | None:
    rows = [
        [
            one.large,
            one.metric,
            f"{compact(one.small_flops, 2)} → {compact(one.large_flops, 2)}",
            f"{one.accuracy.right:g} of {one.accuracy.pairs}",
            share(one.accuracy),
        ]
        for one in across
    ]
    head = ["Claim", "Metric", "FLOPs", "Pairs of arms in the same order", "Decision accuracy"]
    return {"head": head, "rows": rows, "numeric": [2, 3, 4]} if rows else None


def pooled(across: Sequence[Across]) -> str:
    if not across:
        return NOTHING
    right, pairs = sum(one.accuracy.right for one in across), sum(one.accuracy.pairs for one in across)
    claims = f"{count(len(across))} claim{'s' * (len(across) != 1)}"
    return (
        f"Over {claims} at two scales, {right:g} of {pairs} pairs of arms were at the small one in the order of the "
        f"large one: a decision accuracy of {100 * right / pairs:.0f} %."
    )


def ladders_table(claims: Sequence[Claim]) -> dict[str, Any] | None:
    """A row a size of a ladder: the order of arms by the losses there and by laws up to there, against the largest."""
    rows = [
        [
            claim.name,
            compact(size.compute, 2),
            f"{100 * size.compute / size.largest:.2g} %",
            share(size.by_size),
            share(size.by_law) if size.by_law else "–",
        ]
        for claim in claims
        for size in claim.sizes
    ]
    head = ["Claim", "FLOPs", "Of the largest", "Ranked by this size", "Ranked by laws up to it"]
    return {"head": head, "rows": rows, "numeric": [1, 2, 3, 4]} if rows else None


def share(accuracy: Accuracy) -> str:
    interval = (
        f" ({100 * accuracy.low:.0f} to {100 * accuracy.high:.0f})"
        if accuracy.low is not None and accuracy.high is not None
        else ""
    )
    return f"{100 * accuracy.share:.0f} %{interval}"


def signals_table(claims: Sequence[Claim]) -> dict[str, Any] | None:
    """A row a metric, those that tell arms apart best first."""
    ratios: dict[str, list[float]] = {}
    for claim in claims:
        for metric, one in claim.signal.items():
            if one.ratio is not None:
                ratios.setdefault(metric, []).append(one.ratio)
    rows = [
        [
            metric,
            count(len(some)),
            f"{median(some):.2g}",
            f"{min(some):.2g} to {max(some):.2g}" if len(some) > 1 else "–",
        ]
        for metric, some in sorted(ratios.items(), key=lambda item: (-median(item[1]), item[0]))
    ]
    head = ["Metric", "Claims", "Signal to noise, median", "Range"]
    return {"head": head, "rows": rows, "numeric": [1, 2, 3]} if rows else None
