"""Which models can be told apart: paired comparisons over the same questions and, where models were trained again, over
seeds, with Holm's adjustment over all pairs."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from stages.base import crossed
from stages.base.contracts.leaderboard import Reruns, TierMetric
from stages.base.crossed import Estimate, contrast

ALPHA = 0.05


class Scored(NamedTuple):
    """One model: table is [trainings, questions], in percent, NaN where there is no verdict; the first row is the
    leaderboard's own training, whose name is ""."""

    seeds: tuple[str, ...]
    table: np.ndarray


def over_seeds(scored: Scored, metric: TierMetric) -> Reruns | None:
    """Mean and 95 % interval over seeds and questions; None for a model that was trained once."""
    if len(scored.seeds) < 2:
        return None
    known = ~np.isnan(scored.table).any(0)
    if known.sum() < 2:
        return None
    found = contrast([scored.table[:, known]], [1.0])
    low, high = found.interval(1 - ALPHA)
    return Reruns(
        n=len(scored.seeds),
        metric=metric,
        mean=float(found.effect),
        low=max(float(low), 0.0),
        high=min(float(high), 100.0),
    )


def difference(a: Scored, b: Scored) -> Estimate | None:
    """a minus b over the questions that both have; None for fewer than two. Seeds of the same names are pairs, others
    independent samples; where a model was trained once, its own training meets the other's own one, over questions
    alone."""
    rows = [one.table if min(len(a.seeds), len(b.seeds)) > 1 else one.table[:1] for one in (a, b)]
    known = ~np.isnan(np.vstack(rows)).any(0)
    if known.sum() < 2:
        return None
    return contrast([row[:, known] for row in rows], [1, -1], pair_seeds=len(rows[0]) == 1 or a.seeds == b.seeds)


def tiers(scored: Mapping[str, Scored]) -> dict[str, int]:
    """Model → tier, from 1. Models by their mean; one that can't be told from the first of a tier is in it."""
    pairs = list(combinations(sorted(scored), 2))
    differences = [difference(scored[a], scored[b]) for a, b in pairs]
    p = [1.0 if found is None else float(found.p_two_sided()) for found in differences]
    return crossed.tiers({name: _mean(one) for name, one in scored.items()}, dict(zip(pairs, p, strict=True)), ALPHA)


def _mean(one: Scored) -> float:
    known = one.table[~np.isnan(one.table)]
    return float(known.mean()) if known.size else -np.inf


def scored(own: Mapping[str, float], reruns: Mapping[str, Mapping[str, float]]) -> Scored:
    """own: question → percent in the leaderboard's own training; reruns: seed → the same of another training. One that
    answered every question alike is that very training and isn't counted twice."""
    questions = sorted(own)
    rows: list[Sequence[float]] = [[own[q] for q in questions]]
    seeds = [""]
    for seed, values in sorted(reruns.items()):
        row = [values.get(q, np.nan) for q in questions]
        if not np.array_equal(rows[0], row, equal_nan=True):
            rows.append(row)
            seeds.append(seed)
    return Scored(tuple(seeds), np.array(rows, dtype=np.float64))
