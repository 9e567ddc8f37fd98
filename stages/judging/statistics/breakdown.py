"""Win rates by category of instruction, and the overall rate at another mix of categories."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stages.base.errors import InputError
from stages.judging.statistics.columns import column
from stages.judging.statistics.length_control import estimated, predict, weight_influence
from stages.judging.statistics.length_design import Design, prepare


@dataclass(frozen=True)
class CategoryRate:
    """Percent, with standard errors; `share` is the category's weight in the whole."""

    category: str
    n: int
    share: float
    win_rate: float
    standard_error: float
    lc_win_rate: float
    lc_standard_error: float


@dataclass(frozen=True)
class Breakdown:
    categories: list[CategoryRate]
    overall: CategoryRate
    separated: bool  # in some category every preference is the same: a ridge keeps its rate off 0 and 100


def breakdown(
    annotations: Any,
    categories: Sequence[str] | Mapping[int, str],
    *,
    weights: Mapping[str, float] | None = None,
    difficulty: Any = None,
    gamed: Any = None,
) -> Breakdown:
    """One model's rates in each category.

    categories: of each row, or a map from instruction_index. The regression has one length weight and a bias for each
    category. weights: the mix of categories to report the whole at (scaled to sum 1); by default as they occur, where
    `overall` is the plain win rate. Other arguments and errors as for `length_control.fit`; InputError also for an
    instruction without category or a weight for a category without rows.
    """
    design = prepare(annotations, difficulty, gamed)
    judged = ~np.isnan(column(annotations, "preference", np.float64))
    labels = _labels(categories, column(annotations, "instruction_index", np.int64))[judged]
    names = sorted(set(labels.tolist()))
    shares = _shares(names, labels, weights)
    member = np.array([labels == name for name in names], dtype=np.float64).T
    n, k, c = len(labels), len(names), len(design.controlled)
    if design.by_definition:
        predicted, influence, separated = np.full(n, 0.5), np.zeros((n, c + k)), False
        rows_influence, fixed = influence, np.zeros((n, k))
    else:
        split = _split(design, names, member)
        estimate = estimated(split)
        predicted, separated = predict(split, estimate.weights), estimate.separated
        rows_influence, fixed = weight_influence(split, estimate), split.predicted

    per_category = []  # (raw rate, its influence [n], controlled rate, its influence [n])
    for j in range(k):
        inside = member[:, j] / member[:, j].sum()
        raw, controlled = float(inside @ design.y), float(inside @ predicted)
        gradient = (inside * predicted * (1 - predicted)) @ fixed
        on_controlled = inside * (predicted - controlled) + rows_influence[:, c:] @ gradient
        per_category.append((raw, inside * (design.y - raw), controlled, on_controlled))
    rows = [
        _rate(name, int(member[:, j].sum()), shares[name], *per_category[j], own=member[:, j] > 0)
        for j, name in enumerate(names)
    ]
    mix = np.array([shares[name] for name in names])
    raws, on_raws, controls, on_controls = (np.array(part) for part in zip(*per_category, strict=True))
    # At the mix as it occurs the shares are themselves a sample; at a given mix they are fixed.
    between = 0.0 if weights is not None else (member @ raws - mix @ raws) / n
    between_controlled = 0.0 if weights is not None else (member @ controls - mix @ controls) / n
    overall = _rate(
        "overall", n, 1.0, float(mix @ raws), mix @ on_raws + between, float(mix @ controls),
        mix @ on_controls + between_controlled, own=np.ones(n, bool),
    )  # fmt: skip
    return Breakdown(rows, overall, separated)


def _rate(
    name: str,
    n: int,
    share: float,
    raw: float,
    on_raw: np.ndarray,
    controlled: float,
    on_controlled: np.ndarray,
    own: np.ndarray,
) -> CategoryRate:
    def error(influence: np.ndarray, count: int) -> float:
        return 100 * float(np.sqrt((influence**2).sum() * count / (count - 1))) if count > 1 else float("nan")

    count = int(own.sum())
    return CategoryRate(name, n, share, 100 * raw, error(on_raw, count), 100 * controlled, error(on_controlled, count))


def _split(design: Design, names: list[str], member: np.ndarray) -> Design:
    """The design with a bias for each category in the place of the one bias."""
    fixed = np.hstack([design.fixed[:, :-1], member])
    extra = design.extra
    if extra is not None:
        extra = extra._replace(x=np.hstack([extra.x[:, :-1], np.zeros((len(extra.y), len(names)))]))
    biases = tuple(f"bias:{name}" for name in names)
    return replace(design, names=(*design.names[:-1], *biases), fixed=fixed, predicted=fixed, extra=extra)


def _labels(categories: Sequence[str] | Mapping[int, str], index: np.ndarray) -> np.ndarray:
    if isinstance(categories, Mapping):
        missing = [int(i) for i in index if int(i) not in categories]
        if missing:
            raise InputError(f"categories: instruction_index {missing[0]} has none ({len(missing)} have none)")
        return np.array([categories[int(i)] for i in index], dtype=object)
    if len(categories) != len(index):
        raise InputError(f"categories: {len(categories)} for {len(index)} annotations")
    return np.array(list(categories), dtype=object)


def _shares(names: list[str], labels: np.ndarray, weights: Mapping[str, float] | None) -> dict[str, float]:
    if weights is None:
        return {name: float((labels == name).mean()) for name in names}
    unknown, absent = sorted(set(weights) - set(names)), sorted(set(names) - set(weights))
    if unknown or absent:
        raise InputError(f"weights: no rows in {unknown or 'none'}, no weight for {absent or 'none'}")
    total = sum(weights.values())
    if min(weights.values()) < 0 or not total > 0:
        raise InputError("weights: they must be 0 or more, and one above 0")
    return {name: weights[name] / total for name in names}
