"""What a reward model's margins on held-out pairs say of it: how often it is right, whether its probabilities mean what
they say, and whether it goes by length or by truth."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from stages.alignment.data.records import Preference
from stages.base.crossed import contrast
from stages.base.errors import InputError
from stages.base.stats import Interval, share_interval

BINS = 10
FEWEST = 10  # pairs of a bin
DRAWS = 1000
LEVEL = 0.95
NAN = float("nan")


@dataclass(frozen=True)
class Judged:
    """A pair and the reward of its chosen answer minus that of the rejected one."""

    pair: Preference
    margin: float

    @property
    def right(self) -> float:
        """Whether the chosen answer is ahead; a draw is half of one."""
        return 0.5 if self.margin == 0 else float(self.margin > 0)

    @property
    def longer(self) -> str:
        """Which of the answers has more characters."""
        chosen, rejected = len(self.pair.chosen), len(self.pair.rejected)
        return "chosen_longer" if chosen > rejected else "chosen_shorter" if chosen < rejected else "equal_length"

    @property
    def score_gap(self) -> str:
        """By how many facts the answers differ."""
        if self.pair.chosen_score is None or self.pair.rejected_score is None:
            return "score_unknown"
        gap = abs(self.pair.chosen_score - self.pair.rejected_score)
        return f"score_gap_{gap}" if gap < 2 else "score_gap_2_or_more"


def judged(pairs: Sequence[Preference], margins: Sequence[float]) -> list[Judged]:
    """Raises InputError for margins that are NaN or infinite, which would count as wrong."""
    broken = sum(not math.isfinite(margin) for margin in margins)
    if broken:
        raise InputError(
            f"alignment.reward: {broken} of {len(margins)} pairs have no finite margin; lower `alignment.reward.lr`"
        )
    return [Judged(pair, margin) for pair, margin in zip(pairs, margins, strict=True)]


def accuracy_interval(rows: Sequence[Judged]) -> Interval:
    """Share of the pairs ranked as annotated, 95 %, clustered by prompt as the pairs of one share its difficulty
    (Miller 2024). Where all are alike, and so say nothing of their spread: exact bounds for as many prompts. NaN bounds
    for a single prompt."""
    values = np.array([[row.right for row in rows]])
    prompts, clusters = np.unique([row.pair.prompt for row in rows], return_inverse=True)
    if len(prompts) < 2:
        return Interval(float(values.mean()), NAN, NAN)
    if values.min() == values.max() != 0.5:
        return share_interval(len(prompts) * int(values.max()), len(prompts))
    found = contrast([values], [1.0], clusters=[clusters if len(prompts) < len(rows) else None])
    low, high = found.interval(LEVEL)
    return Interval(float(found.effect), max(0.0, float(low)), min(1.0, float(high)))


def log_loss(margins: Sequence[float]) -> float:
    """Mean −log σ(margin), in nats: ln 2 for a model that knows nothing."""
    return float(np.logaddexp(0.0, -np.asarray(margins, dtype=np.float64)).mean())


@dataclass(frozen=True)
class Calibration:
    """σ(|margin|), the probability that the model gives the answer it prefers, against how often that one was chosen.

    ece: mean distance of the two over bins of equally many pairs, weighted by their size (Naeini et al. 2015).
    by_chance: what a perfectly calibrated model would show on average with as many pairs of these confidences.
    """

    ece: float
    by_chance: float
    bins: list[dict[str, float | int]]


def calibration(margins: Sequence[float]) -> Calibration:
    """At most BINS bins of at least FEWEST pairs; equal margins are never cut apart."""
    margin = np.asarray(margins, dtype=np.float64)
    margin = margin[np.argsort(np.abs(margin), kind="stable")]
    confidence = 1 / (1 + np.exp(-np.abs(margin)))
    right = np.where(margin == 0, 0.5, margin > 0)
    count = max(1, min(BINS, len(margin) // FEWEST))
    edges = sorted({int(np.searchsorted(confidence, confidence[len(margin) * k // count])) for k in range(count)})
    places = [slice(start, end) for start, end in pairwise([*edges, len(margin)])]

    def error(found: np.ndarray) -> np.ndarray:
        """Of outcomes [..., pairs]."""
        gaps = [np.abs(found[..., own].sum(-1) - confidence[own].sum()) for own in places]
        return np.asarray(np.sum(gaps, axis=0) / len(margin))

    drawn = np.random.default_rng(0).random((DRAWS, len(margin))) < confidence
    bins = []
    for own in places:
        n = own.stop - own.start
        found = share_interval(round(float(right[own].sum())), n)
        bins.append(
            {
                "n": n,
                "confidence": float(confidence[own].mean()),
                "accuracy": float(right[own].mean()),
                "low": found.low,
                "high": found.high,
            }
        )
    return Calibration(float(error(right)), float(error(drawn).mean()), bins)


def groups(rows: Sequence[Judged], by: Callable[[Judged], str]) -> dict[str, list[Judged]]:
    found: dict[str, list[Judged]] = {}
    for row in rows:
        found.setdefault(by(row), []).append(row)
    return dict(sorted(found.items()))


def score_accuracy(rows: Iterable[Judged]) -> float | None:
    """Share of the pairs that differ in exact score whose better answer has the higher reward, whatever the label; None
    where there are none."""
    agreed = [
        0.5 if row.margin == 0 else float((row.margin > 0) == (row.pair.chosen_score > row.pair.rejected_score))
        for row in rows
        if row.pair.chosen_score is not None
        and row.pair.rejected_score is not None
        and row.pair.chosen_score != row.pair.rejected_score
    ]
    return float(np.mean(agreed)) if agreed else None


def longer_accuracy(rows: Iterable[Judged]) -> float:
    """The control: the share ranked as annotated by preferring the longer answer; of equal lengths half."""
    worth = {"chosen_longer": 1.0, "equal_length": 0.5, "chosen_shorter": 0.0}
    return float(np.mean([worth[row.longer] for row in rows]))


def summary(rows: Sequence[Judged]) -> dict[str, float | int | None]:
    """Flat, for `metrics.json`."""
    margins = [row.margin for row in rows]
    found, sure = accuracy_interval(rows), calibration(margins)
    by_group = {**groups(rows, lambda row: row.longer), **groups(rows, lambda row: row.score_gap)}
    return {
        "pairs": len(rows),
        "prompts": len({row.pair.prompt for row in rows}),
        "accuracy": found.mean,
        "accuracy_low": _known(found.low),
        "accuracy_high": _known(found.high),
        "margin": float(np.mean(margins)),
        "loss": log_loss(margins),
        "ece": sure.ece,
        "ece_by_chance": sure.by_chance,
        "score_accuracy": score_accuracy(rows),
        "longer_accuracy": longer_accuracy(rows),
        **{
            f"{name}_{key}": value
            for name, own in by_group.items()
            for key, value in (
                ("pairs", len(own)),
                ("accuracy", float(np.mean([row.right for row in own]))),
                ("margin", float(np.mean([row.margin for row in own]))),
            )
        },
    }


def details(rows: Sequence[Judged]) -> dict[str, Any]:
    """For `held_out.json`: the bins of the calibration, and groups of pairs with their intervals."""
    sure = calibration([row.margin for row in rows])

    def table(by: Callable[[Judged], str]) -> list[dict[str, Any]]:
        listed = []
        for name, own in groups(rows, by).items():
            found = accuracy_interval(own)
            margin = float(np.mean([row.margin for row in own]))
            listed.append(
                {
                    "group": name,
                    "pairs": len(own),
                    "accuracy": found.mean,
                    "low": _known(found.low),
                    "high": _known(found.high),
                    "margin": margin,
                }
            )
        return listed

    return {
        "calibration": {"ece": sure.ece, "by_chance": sure.by_chance, "bins": sure.bins},
        "by_length": table(lambda row: row.longer),
        "by_score_gap": table(lambda row: row.score_gap),
    }


def _known(number: float) -> float | None:
    return number if math.isfinite(number) else None
