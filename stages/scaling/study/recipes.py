"""A second recipe beside the first: laws of both where it has the runs, else one factor on the first one's law."""

from typing import Any

import numpy as np

from stages.base.errors import InputError
from stages.base.seeds import derive
from stages.base.stats import paired_interval
from stages.scaling.laws.estimate import Belief, Options
from stages.scaling.laws.shared_exponents import share_exponents
from stages.scaling.laws.two_recipes import Comparison, Pair, compare
from stages.scaling.tables.table import RunTable

FEWEST = 6  # runs of a recipe for a law of its own beside another's
SAME = 0.02  # N and D that differ by less, relatively, are one cell
GRID = 25


def rival(table: RunTable, first: str, second: str, belief: Belief, options: Options) -> dict[str, Any]:
    """The second recipe against the first, whose law is known; `law` is the second one's, or None with a reason."""
    one, two = table.of(first), table.of(second)
    seed = derive(options.seed, "rival", second)
    view: dict[str, Any] = {
        "first": first, "second": second, "n": len(two.loss), "cells": _cells(one, two, options.level), "law": None,
        "reason": "", "joint": None, "ratio": None,
    }  # fmt: skip
    if belief.prior is None and len(two.loss) >= FEWEST:
        try:
            found = compare(
                one.runs(), two.runs(), huber_delta=options.huber_delta, level=options.level, seed=seed,
                resamples=options.draws,
            )  # fmt: skip
        except InputError as error:
            view["reason"] = str(error)
        else:
            return view | {"law": found.chosen.second, "joint": _joint(found)}
    try:
        noise = belief.noise
        shared = share_exponents(belief.fit, belief.draws, *two.runs(), noise, options.level, seed)
    except InputError as error:
        return view | {"reason": view["reason"] or str(error)}
    ratio = {
        "ratio": [shared.ratio, *shared.ratio_interval],
        "multiplier": [shared.compute_multiplier, *shared.compute_multiplier_interval],
    }
    return view | {"law": shared.law, "ratio": ratio}


def _joint(found: Comparison) -> dict[str, Any]:
    """Both hypotheses; multipliers on a grid from the least compute that both were run at to ten times the most."""
    grid = np.geomspace(found.low, 10 * max(found.high, found.low), GRID)
    crossover = None
    if found.exponents_differ:
        at = found.separate.crossover()
        crossover = [float(10.0 ** min(max(value, -300), 300)) for value in at]
    return {
        "exponents_differ": found.exponents_differ,
        "difference": {name: list(found.separate.difference(name)) for name in ("alpha", "beta", "gamma")},
        "shared": _pair(found.shared, grid),
        "separate": _pair(found.separate, grid),
        "range": [found.low, found.high],
        "crossover": crossover,
    }


def _pair(pair: Pair, grid: np.ndarray) -> dict[str, Any]:
    return {
        "laws": [law.as_dict() for law in (pair.first, pair.second)],
        "objective": pair.objective,
        "slopes": [list(pair.slope(which)) for which in (0, 1)],
        "intercepts": [list(pair.intercept(which)) for which in (0, 1)],
        "multiplier": [[float(C), *pair.multiplier(C)] for C in grid],
    }


def _cells(one: RunTable, two: RunTable, level: float) -> dict[str, Any] | None:
    """Runs of both at equal N and D: the mean difference of log loss, second minus first, over cells."""
    means: list[dict[tuple[float, float], list[float]]] = [{}, {}]
    for where, runs in zip(means, (one, two), strict=True):
        for n, d, loss in zip(runs.N, runs.D, runs.loss, strict=True):
            cell = (round(np.log(n) / SAME), round(np.log(d) / SAME))
            where.setdefault(cell, []).append(float(np.log(loss)))
    common = sorted(set(means[0]) & set(means[1]))
    if len(common) < 2:
        return None
    a, b = ([float(np.mean(where[cell])) for cell in common] for where in means)
    return {"n": len(common), "difference": list(paired_interval(b, a, level))}
