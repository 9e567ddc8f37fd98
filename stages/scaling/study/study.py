"""Everything the scaling page shows of a table of runs, as plain JSON values."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from stages.base.errors import InputError
from stages.base.seeds import derive
from stages.scaling.laws.estimate import Belief, Options, believe
from stages.scaling.laws.interval import estimate
from stages.scaling.laws.isoflop import IsoflopFit, budgets, fit_isoflop, isoflop_exponents
from stages.scaling.laws.power_law import envelope, fit_power_law
from stages.scaling.study.recipes import rival
from stages.scaling.study.sensitivity import variants
from stages.scaling.study.tuning import best_aspect, best_knob
from stages.scaling.study.withheld import Withheld, withhold
from stages.scaling.tables.table import RunTable

FEWEST = 4  # runs without which not even a prior makes a law
WITHHELD = 0.15  # share of a recipe's runs, those of most compute
REACH = 10.0  # how far past the largest compute curves are drawn
TARGETS = (1.0, 10.0, 100.0)  # budgets of the plan, in units of the largest compute
RATIOS = (20.0, 150.0)  # tokens per parameter shown beside the best
GRID = 49
RESAMPLES = 100  # of isoFLOP tables


def study(table: RunTable, options: Options, withheld: int | None = None) -> dict[str, Any]:
    """The recipe with most runs of those with a law leads: it is shown in full, and others are compared with it.

    `withheld`: how many runs of most compute test the law; by default 15 % of them.
    Raises InputError if not even one law in one variable can be fitted, which takes three runs.
    """
    views, beliefs = {}, {}
    for name in table.recipes:
        runs = table.of(name)
        held = withheld if withheld is not None else max(1, round(WITHHELD * runs.loss.size))
        view, belief = _recipe(name, runs, options, held)
        views[name] = view
        if belief is not None:
            beliefs[name] = belief
    names = sorted(views, key=lambda name: name not in beliefs)  # stable: by number of runs within both
    recipes = [views[name] for name in names]
    if not any(view["law"] or any(power["law"] for power in view["power_laws"]) for view in recipes):
        raise InputError(f"no law can be fitted: {recipes[0]['reason'] or recipes[0]['power_laws'][0]['reason']}")
    first = beliefs.get(names[0])
    rivals = []
    if first is not None:
        for name in names[1:]:
            rivals.append(rival(table, names[0], name, first, options))
    laws = {name: belief.fit for name, belief in beliefs.items()}
    laws |= {view["second"]: view["law"] for view in rivals if view["law"] and view["second"] not in laws}
    fitted = [
        float(laws[name].predict(n, d)) if name in laws else None
        for name, n, d in zip(table.recipe, table.N, table.D, strict=True)
    ]
    return {
        "level": options.level,
        "recipes": recipes,
        "rivals": [view | {"law": view["law"] and view["law"].as_dict()} for view in rivals],
        "knobs": _knobs(table, laws, options.level),
        "points": _points(table, fitted),
        "warnings": list(table.warnings),
    }


def summary(result: Mapping[str, Any]) -> list[str]:
    """A few lines for a terminal."""
    lines = []
    for view in result["recipes"]:
        name, law = view["name"] or "runs", view["law"]
        if law is None:
            lines.append(f"{name}: {view['n']} runs, no law in N and D: {view['reason']}")
            continue
        ends = {key: f"({low:.4g} to {high:.4g})" for key, (low, high) in law["interval"].items()}
        lines.append(f"{name}: {view['n']} runs, L = {law['E']:.4f} + {law['A']:.4g} N^-{law['alpha']:.4f} + "
                     f"{law['B']:.4g} D^-{law['beta']:.4f}")  # fmt: skip
        if law["prior"]:
            lines.append(f"  with priors on its exponents and floor, as {law['n']} runs are few")
        lines.append(f"  best N grows as C^{law['a']:.3f} {ends['a']}; alpha {ends['alpha']}, beta {ends['beta']}")
        error = view["withheld"]["mean_abs_error"]
        told = view["withheld"]["reason"] if error is None else f"{100 * error:.2f} % mean error"
        lines.append(f"  withheld runs of most compute: {told}")
    return lines


def _points(table: RunTable, fitted: list[float | None]) -> list[dict[str, Any]]:
    return [
        {
            "run": table.run[i] or f"line\u00a0{table.lines[i]}",
            "recipe": table.recipe[i],
            "N": float(table.N[i]),
            "D": float(table.D[i]),
            "C": float(table.C[i]),
            "loss": float(table.loss[i]),
            "fitted": law,
            "residual": None if law is None else float(np.log(table.loss[i] / law)),
        }
        for i, law in enumerate(fitted)
    ]


def _recipe(name: str, table: RunTable, options: Options, held: int) -> tuple[dict[str, Any], Belief | None]:
    view: dict[str, Any] = {
        "name": name,
        "n": len(table.loss),
        "range": {x: [float(getattr(table, x).min()), float(getattr(table, x).max())] for x in ("N", "D", "C")},
        "isoflop": [_isoflop(table, method, options) for method in ("parabola", "akima")],
        "power_laws": [_power_law(table, x, floor, options) for x in ("C", "N", "D") for floor in (False, True)],
        "law": None,
        "reason": "",
    }
    if len(table.loss) < FEWEST:
        view["reason"] = f"{len(table.loss)} runs, a law needs {FEWEST}"
        return view, None
    try:
        belief = believe(table.runs(), options)
    except InputError as error:
        view["reason"] = str(error)
        return view, None
    view["law"] = describe(belief, options.level)
    view["frontier"] = frontier_band(belief, 6 * table.N * table.D, options.level)
    view["withheld"] = withheld_view(table, withhold(table, held, FEWEST, options))
    view["sensitivity"] = _sensitivity(table, belief)
    view["plan"] = _plan(belief, float(table.C.max()), view["isoflop"][0], options.level)
    return view, belief


def describe(belief: Belief, level: float) -> dict[str, Any]:
    """The law's numbers, each with its interval."""
    fit = belief.fit
    k, gamma = fit.frontier
    return fit.as_dict() | {
        "a": fit.a,
        "b": fit.b,
        "k": k,
        "gamma": gamma,
        "n": fit.n,
        "delta": fit.delta,
        "objective": fit.objective,
        "interval": {name: list(ends) for name, ends in belief.draws.interval(level).items()},
        "residual_rms": float(np.sqrt(np.mean(np.square(fit.residuals)))),
        "prior": None if belief.prior is None else belief.prior._asdict(),
    }


def frontier_band(belief: Belief, C: np.ndarray, level: float) -> dict[str, list[float]]:
    """The least loss at each C = 6·N·D, with its interval, from the least run's to ten times the largest one's."""
    rows: dict[str, list[float]] = {"C": [], "loss": [], "low": [], "high": []}
    tails = belief.draws.tails(level)
    for c in np.geomspace(C.min(), REACH * C.max(), GRID):
        best = belief.draws.optimum(c)
        drawn = belief.draws.losses(*best.T)
        value = float(belief.fit.predict(*belief.fit.optimum(c)))
        _, low, high = estimate(value, drawn, tails)
        for name, number in zip(rows, (float(c), value, low, high), strict=True):
            rows[name].append(number)
    return rows


def withheld_view(table: RunTable, held: Withheld) -> dict[str, Any]:
    points = [
        {
            "run": table.run[i] or f"line\u00a0{table.lines[i]}",
            "N": float(table.N[i]),
            "D": float(table.D[i]),
            "C": float(table.C[i]),
            "loss": float(table.loss[i]),
            "predicted": predicted.value,
            "low": predicted.low,
            "high": predicted.high,
            "error": error,
        }
        for i, predicted, error in zip(held.rows, held.predicted, held.errors, strict=True)
    ]
    return {
        "points": points,
        "mean_abs_error": held.mean_abs_error,
        "max_abs_error": held.max_abs_error,
        "reason": held.reason,
    }


def isoflop_view(fit: IsoflopFit) -> dict[str, Any]:
    minima = [asdict(minimum) for minimum in fit.minima]
    return {"a": fit.a, "b": fit.b, "k": fit.k, "reason": fit.reason, "minima": minima}


def _isoflop(table: RunTable, method: Any, options: Options) -> dict[str, Any]:
    """`interval` of the exponent, None where there is none; each minimum with the (N, loss) `tried` at its budget."""
    fit = fit_isoflop(table.C, table.N, table.loss, method=method)
    view = isoflop_view(fit) | {"method": method, "interval": None}
    if not fit.reason:
        draws = isoflop_exponents(table.C, table.N, table.loss, method=method, resamples=RESAMPLES, seed=options.seed)
        if draws.size:
            view["interval"] = np.quantile(draws, [(1 - options.level) / 2, (1 + options.level) / 2]).tolist()
    group = budgets(table.C)
    for number, minimum in enumerate(view["minima"]):
        rows = group == number
        minimum["tried"] = np.column_stack([table.N[rows], table.loss[rows]]).tolist()
    return view


def _power_law(table: RunTable, x: str, floor: bool, options: Options) -> dict[str, Any]:
    column = getattr(table, x)
    rows = envelope(column, table.loss)
    view: dict[str, Any] = {"x": x, "floor": floor, "n": int(rows.size), "law": None, "reason": ""}
    try:
        law = fit_power_law(
            column[rows], table.loss[rows], floor=floor, huber_delta=options.huber_delta, level=options.level,
            seed=derive(options.seed, "power law", x),
        )  # fmt: skip
    except InputError as error:
        return view | {"reason": str(error)}
    interval = {name: list(ends) for name, ends in law.interval.items()}
    numbers = {"exponent": law.exponent, "scale": law.scale, "floor": law.floor, "rms": law.rms, "interval": interval}
    return view | {"law": numbers}


def _sensitivity(table: RunTable, belief: Belief) -> list[dict[str, Any]]:
    target = REACH * float(table.C.max())
    rows = []
    for variant in variants(table.runs(), belief.fit, belief.prior, table.extra.get("N_nonembedding")):
        row: dict[str, Any] = {"name": variant.name, "n": variant.n, "reason": variant.reason, "law": None}
        if variant.fit is not None:
            best = variant.fit.optimum(target)
            row["law"] = variant.fit.as_dict() | {
                "a": variant.fit.a,
                "C": target,
                "N": best.N,
                "tokens_per_parameter": best.tokens_per_parameter,
                "loss": float(variant.fit.predict(*best)),
            }
        rows.append(row)
    return rows


def _plan(belief: Belief, largest: float, isoflop: Mapping[str, Any], level: float) -> list[dict[str, Any]]:
    """What the law would do with budgets, both methods side by side, and two fixed ratios."""
    rows = []
    for target in TARGETS:
        C = target * largest
        size = belief.best_size(C, level)
        choices: list[tuple[str, float, list[float] | None]] = [("law", size.value, [size.low, size.high])]
        if not isoflop["reason"]:
            choices.append(("isoFLOP minima", isoflop["k"] * C ** isoflop["a"], None))
        choices += [(f"{ratio:g} tokens per parameter", (C / (6 * ratio)) ** 0.5, None) for ratio in RATIOS]
        for name, n, between in choices:
            d = C / (6 * n)
            loss = belief.draws.loss(n, d, level)
            ratios = between and [_tokens_per_parameter(C, end) for end in reversed(between)]
            rows.append(
                {"C": C, "reach": target, "name": name, "N": n, "N_interval": between, "D": d,
                 "tokens_per_parameter": d / n, "tokens_per_parameter_interval": ratios, "loss": loss.value,
                 "low": loss.low, "high": loss.high}
            )  # fmt: skip
    return rows


def _tokens_per_parameter(C: float, N: float) -> float:
    """Of N parameters that spend C = 6·N·D; an interval's end can be NaN, or too small or large to square."""
    return C / 6 / N / N if N > 0 else float("nan")


def _knobs(table: RunTable, laws: Mapping[str, Any], level: float) -> list[dict[str, Any]]:
    """Learning rate and batch against scale, and width against depth, of each recipe that has those columns."""
    found: list[dict[str, Any]] = []
    for recipe in table.recipes:
        runs = table.of(recipe)
        for name in ("lr", "batch"):
            if name in runs.extra and np.unique(runs.extra[name]).size > 1:
                law = best_knob(runs.N, runs.D, runs.extra[name], runs.loss, level=level)
                exponents = {"N": law.n_exponent, "D": law.d_exponent}
                found.append(
                    {"recipe": recipe, "knob": name, "cells": [asdict(cell) for cell in law.cells],
                     "scale": law.scale, "reason": law.reason,
                     "exponents": {key: e and list(e) for key, e in exponents.items()}}
                )  # fmt: skip
        if {"width", "depth"} <= set(runs.extra) and recipe in laws:
            residual = np.log(runs.loss / np.asarray(laws[recipe].predict(runs.N, runs.D)))
            shape = best_aspect(runs.extra["width"], runs.extra["depth"], residual, level=level)
            ratio = (runs.extra["width"] / runs.extra["depth"]).tolist()
            found.append(
                {"recipe": recipe, "knob": "width / depth", "best": shape.best and list(shape.best),
                 "cost": shape.cost and list(shape.cost), "shapes": shape.shapes, "reason": shape.reason,
                 "ratios": ratio, "residuals": residual.tolist()}
            )  # fmt: skip
    return found
