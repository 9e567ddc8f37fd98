"""Does small predict large? How often arms' order at a small scale is their order at a larger one.

Decision accuracy (Magnusson et al. 2025, "DataDecide"): the share of pairs of arms that the small scale puts in the
order that they have at the largest one. Ranked by a single size, or by what a scaling law fitted to the small sizes
says of the largest. Signal-to-noise (Heineman et al. 2025, "Signal and Noise"): how far arms are apart in a metric,
over how far runs that should be equal are.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from stages.base.errors import InputError
from stages.experiment.statistics.scaling_law import fit_laws

SAME = 1e-9  # share of a number within which two tie
FEWEST_SIZES = 2  # that a law is fitted to

Sizes = Mapping[str, Mapping[float, Sequence[float]]]
"""Arm → compute (FLOPs) → the metric's value of each seed."""


class Accuracy(NamedTuple):
    """right: pairs in the same order, ties counting a half; low, high: of the share, by the jackknife over arms, as
    pairs share arms; NaN for fewer than four arms."""

    share: float
    right: float
    pairs: int
    low: float
    high: float


class Transfer(NamedTuple):
    """What is decided at one size, held against the largest. by_law: None for the smallest sizes, which no law fits."""

    compute: float
    by_size: Accuracy
    by_law: Accuracy | None


def decision_accuracy(small: Mapping[str, float], large: Mapping[str, float], *, reverse: bool = False) -> Accuracy:
    """Numbers of the same arms at two scales. reverse: the two metrics point opposite ways, such as a loss and a rate.
    Raises InputError for fewer than two arms in common."""
    arms = sorted(small.keys() & large.keys())
    if len(arms) < 2:
        raise InputError(f"decision accuracy needs two arms that both scales have, got {len(arms)}")
    sign = -1 if reverse else 1
    agree = np.full((len(arms), len(arms)), np.nan)
    for (i, a), (j, b) in combinations(enumerate(arms), 2):
        here, there = _order(small[a], small[b]) * sign, _order(large[a], large[b])
        agree[i, j] = 0.5 if 0 in (here, there) else float(here == there)
    pairs = len(arms) * (len(arms) - 1) // 2
    share, right = float(np.nanmean(agree)), float(np.nansum(agree))
    low = high = float("nan")
    if len(arms) >= 4:
        without = [np.nanmean(np.delete(np.delete(agree, i, 0), i, 1)) for i in range(len(arms))]
        error = float(np.sqrt((len(arms) - 1) / len(arms) * ((np.array(without) - share) ** 2).sum()))
        low, high = max(share - 1.96 * error, 0.0), min(share + 1.96 * error, 1.0)
    return Accuracy(share, right, pairs, low, high)


def _order(a: float, b: float) -> int:
    return 0 if abs(a - b) <= SAME * max(abs(a), abs(b)) else int(np.sign(a - b))


def transfer(sizes: Sizes) -> list[Transfer]:
    """Of losses at several computes, a row for each size below the largest that all arms have: single-size ranking, and
    ranking by the law fitted to the sizes up to it, side by side. Raises InputError for fewer than two common sizes."""
    common = sorted(set.intersection(*(set(by_size) for by_size in sizes.values())))
    if len(common) < 2:
        raise InputError("transfer needs two sizes that all arms have")
    means = {arm: {c: float(np.mean(by_size[c])) for c in common} for arm, by_size in sizes.items()}
    largest = {arm: of[common[-1]] for arm, of in means.items()}
    rows = []
    for place, compute in enumerate(common[:-1]):
        by_size = decision_accuracy({arm: of[compute] for arm, of in means.items()}, largest)
        forecast = _by_law(means, common[: place + 1], common[-1]) if place + 1 >= FEWEST_SIZES else None
        rows.append(Transfer(compute, by_size, decision_accuracy(forecast, largest) if forecast else None))
    return rows


def _by_law(means: Mapping[str, Mapping[float, float]], sizes: Sequence[float], at: float) -> dict[str, float] | None:
    """Each arm's loss at compute `at` by the law of these sizes; None where an arm's loss doesn't fall with compute."""
    x = np.array(sizes)
    try:
        fitted = fit_laws({arm: [(x, np.array([of[c] for c in sizes]))] for arm, of in means.items()})
    except InputError:
        return None
    away = np.log(at / fitted.reference)
    return {
        arm: fitted.floor + float(np.exp(laws[0].height - laws[0].exponent * away)) for arm, laws in fitted.laws.items()
    }


class SignalToNoise(NamedTuple):
    """All in the metric's unit. signal: standard deviation of the arms' means, free of what seeds add to it; seeds,
    checkpoints: pooled standard deviation within an arm. ratio: signal over the larger noise."""

    signal: float
    seeds: float
    checkpoints: float | None
    ratio: float


def signal_to_noise(
    runs: Mapping[str, Sequence[float]], checkpoints: Iterable[Sequence[float]] | None = None
) -> SignalToNoise:
    """runs: arm → one number a seed. checkpoints: of each run, the same metric of its last checkpoints. Raises
    InputError for fewer than two arms, or where no arm has two seeds."""
    values = [np.asarray(list(some), dtype=np.float64) for some in runs.values()]
    if len(values) < 2:
        raise InputError("signal-to-noise needs two arms or more")
    noise = _pooled(values)
    if noise is None:
        raise InputError("signal-to-noise needs an arm with two seeds or more")
    between = float(np.var([v.mean() for v in values], ddof=1))
    signal = max(between - noise**2 * float(np.mean([1 / v.size for v in values])), 0.0) ** 0.5
    late = _pooled([np.asarray(list(some), dtype=np.float64) for some in checkpoints]) if checkpoints else None
    worst = max(noise, late or 0.0)
    return SignalToNoise(signal, noise, late, signal / worst if worst else float("inf") if signal else 0.0)


def _pooled(groups: Sequence[np.ndarray]) -> float | None:
    """Standard deviation within groups; None where none has two values."""
    df = sum(group.size - 1 for group in groups if group.size)
    if df < 1:
        return None
    return float((sum(((group - group.mean()) ** 2).sum() for group in groups if group.size) / df) ** 0.5)
