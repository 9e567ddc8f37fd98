"""A score on the items that aren't in the training text, and what the others brought."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import stdtrit

from stages.base.contracts.contamination import SplitAccuracy
from stages.base.stats import Interval

METHOD = "difference of two means over the same items, linearised, Student's t, items of one cluster summed"


def gap(values: Sequence[float], clean: Sequence[bool], clusters: Sequence[str]) -> Interval:
    """Mean of all values minus mean of the clean ones, with a 95 % interval.

    An item is in both means: its influence on the difference is (x − mean) / n − (x − clean mean) / clean n. Influences
    of one cluster ("": of its own) are summed. NaN without clean items, NaN bounds for fewer than two clusters.
    """
    x, kept = np.asarray(values, dtype=np.float64), np.asarray(clean, dtype=bool)
    n, n_clean = len(x), int(kept.sum())
    if not n_clean:
        return Interval(float("nan"), float("nan"), float("nan"))
    every, own = float(x.mean()), float(x[kept].mean())
    influence = (x - every) / n - np.where(kept, (x - own) / n_clean, 0.0)
    names = [cluster or f"\\0{i}" for i, cluster in enumerate(clusters)]
    groups = np.unique(names, return_inverse=True)[1]
    sums = np.bincount(groups, influence)
    count = len(sums)
    if count < 2:
        return Interval(every - own, float("nan"), float("nan"))
    error = float(np.sqrt((sums**2).sum() * count / (count - 1)))
    half = float(stdtrit(count - 1, 0.975)) * error
    return Interval(every - own, every - own - half, every - own + half)


def split_accuracy(
    task: str, model: str, items: Sequence[Mapping[str, Any]], states: Mapping[str, str]
) -> list[SplitAccuracy]:
    """Of each protocol: the score on all items, on clean ones (or ones too short to tell) and on dirty ones; suspect
    ones are in the first only. items: rows of ITEM of this model; states: of the task's items, by id."""
    found = []
    asked = [row for row in items if row["set"] == task and row["protocol"] and not row.get("variant")]
    for protocol in sorted({row["protocol"] for row in asked}):
        rows = [row for row in asked if row["protocol"] == protocol and row["correct"] is not None]
        values = [float(row["correct"]) for row in rows]
        state = [states.get(row["id"], "clean") for row in rows]
        clean, dirty = [one in ("clean", "unknown") for one in state], [one == "dirty" for one in state]
        parts = {
            "all": values,
            "clean": [value for value, kept in zip(values, clean, strict=True) if kept],
            "dirty": [value for value, kept in zip(values, dirty, strict=True) if kept],
        }
        counts: dict[str, Any] = {f"{name}_questions": len(part) for name, part in parts.items()}
        means: dict[str, Any] = {f"{name}_acc": float(np.mean(part)) if part else None for name, part in parts.items()}
        some = 0 < sum(clean) < len(values)
        between = gap(values, clean, [row.get("cluster") or "" for row in rows]) if some else None
        found.append(
            SplitAccuracy(
                task=task,
                model=model,
                protocol=protocol,
                **counts,
                **means,
                gap=between.mean if between else None,
                gap_low=between.low if between else None,
                gap_high=between.high if between else None,
                method=METHOD if between else "",
            )
        )
    return found
