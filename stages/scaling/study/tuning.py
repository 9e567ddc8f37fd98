"""What was tuned: the best learning rate or batch at each scale and how it moves, and the best width over depth."""

from collections.abc import Iterator

import numpy as np
from scipy.special import stdtrit

from stages.base.contracts.study import Aspect, Cell, Knob, Measured
from stages.scaling.laws.isoflop import lowest
from stages.scaling.laws.law import Law
from stages.scaling.laws.parametric import estimate, of_resamples
from stages.scaling.tables.table import RunTable

SAME = 0.02  # runs whose N and D differ by less, relatively, are one cell
APART = 0.1  # in log units
FEWEST = 5  # distinct proportions: a parabola takes three
RESAMPLES = 1000


def knobs(recipe: str, runs: RunTable, level: float) -> Iterator[Knob]:
    """In each cell of equal N and D, the value of least loss; over cells, its power law in N and D by least squares.

    Of runs that share a value the best one counts: whatever else was tuned beside it (the batch beside the learning
    rate) is then at its own best. Where N and D move together, only the exponent of N is told and stands for both.
    """
    for name in ("lr", "batch"):
        value = runs.extra.get(name)
        if value is None or np.unique(value).size < 2:
            continue
        cells = []
        for rows in _cells(runs.N, runs.D):
            distinct, inverse = np.unique(np.round(np.log(value[rows]), 6), return_inverse=True)
            best = np.full(distinct.size, np.inf)
            np.minimum.at(best, inverse, runs.loss[rows])
            found = lowest(distinct, best, "parabola", "values")
            n, d = (float(np.exp(np.log(column[rows]).mean())) for column in (runs.N, runs.D))
            reason = found.reason.replace(" at this budget", "")
            cells.append(Cell(N=n, D=d, tried=distinct.size, value=float(np.exp(found.at)), reason=reason))
        exponents, reason = _exponents(cells, level)
        yield Knob(
            recipe=recipe, knob=name, cells=cells, reason=reason, n_exponent=exponents.get("N"),
            d_exponent=exponents.get("D"),
        )  # fmt: skip


def _cells(n: np.ndarray, d: np.ndarray) -> list[np.ndarray]:
    """Indices of the runs of each cell, by N and then D."""
    cell = np.round(np.column_stack([np.log(n), np.log(d)]) / SAME)
    _, inverse = np.unique(cell, axis=0, return_inverse=True)
    return [np.flatnonzero(inverse == number) for number in range(inverse.max() + 1)]


def _exponents(cells: list[Cell], level: float) -> tuple[dict[str, Measured], str]:
    """Exponents of N and D, as far as the cells determine them, with t intervals; and why not both."""
    used = [cell for cell in cells if not cell.reason]
    if all(cell.tried == 1 for cell in cells):
        return {}, "no runs of equal N and D differ in it"
    n, d, best = (np.log([getattr(cell, name) for cell in used]) for name in ("N", "D", "value"))
    told, reason = _told(n, d) if len(used) > 1 else ([], "")
    if len(used) <= len(told) or not told:
        return {}, f"{len(used)} of {len(cells)} cells have a best value, too few or too alike for a slope"
    design = np.column_stack([np.ones_like(n), *({"N": n, "D": d}[name] for name in told)])
    coefficients, *_ = np.linalg.lstsq(design, best, rcond=None)
    free = best.size - design.shape[1]
    variance = float(((best - design @ coefficients) ** 2).sum() / free) if free else float("nan")
    half = stdtrit(max(free, 1), 0.5 + level / 2) * np.sqrt(variance * np.diag(np.linalg.inv(design.T @ design)))
    return {
        name: Measured(float(c), float(c - h), float(c + h))
        for name, c, h in zip(told, coefficients[1:], half[1:], strict=True)
    }, reason


def _told(n: np.ndarray, d: np.ndarray) -> tuple[list[str], str]:
    """Which of N and D (in logs) vary enough, and apart from each other, for an exponent; and a remark."""
    wide = [name for name, column in (("N", n), ("D", d)) if np.ptp(column) > APART]
    if len(wide) == 2:
        slope, level = np.polyfit(n, d, 1)
        if np.abs(d - slope * n - level).max() < APART:
            return ["N"], "N and D move together: the exponent of N stands for both"
    return wide, ""


def aspect(recipe: str, runs: RunTable, law: Law, level: float, seed: int = 0) -> Aspect:
    """The lowest point of the law's residuals over log(width / depth), and what a wrong ratio costs.

    Runs of one shape are resampled together.
    """
    width, depth = runs.extra["width"], runs.extra["depth"]
    residual = np.log(runs.loss / np.asarray(law.predict(runs.N, runs.D)))
    shapes, which = np.unique(np.column_stack([width, depth]), axis=0, return_inverse=True)
    u = np.log(shapes[:, 0] / shapes[:, 1])
    mean = np.bincount(which, residual) / np.bincount(which)
    ratios, residuals = (width / depth).tolist(), residual.tolist()

    def told(best: Measured | None, cost: Measured | None, reason: str) -> Aspect:
        return Aspect(
            recipe=recipe, best=best, cost=cost, shapes=len(shapes), reason=reason, ratios=ratios, residuals=residuals
        )

    distinct = np.unique(np.round(u, 6)).size
    if distinct < FEWEST:
        return told(None, None, f"{distinct} distinct ratios, {FEWEST} are needed")
    curvature, slope, _ = np.polyfit(u, mean, 2)
    vertex = -slope / (2 * curvature)
    if curvature <= 0 or not u.min() < vertex < u.max():
        return told(None, None, "no best ratio among those tried")
    rng = np.random.default_rng(seed)
    vertices, costs = np.full(RESAMPLES, np.nan), np.full(RESAMPLES, np.nan)
    for i in range(RESAMPLES):
        rows = rng.integers(0, u.size, u.size)
        if np.unique(u[rows]).size < 3:
            continue
        c, s, _ = np.polyfit(u[rows], mean[rows], 2)
        vertices[i] = np.exp(np.clip(-s / (2 * c), u.min(), u.max())) if c > 0 else np.nan
        costs[i] = np.expm1(c * np.log(4) ** 2)
    tails = of_resamples(level, u.size, 3)
    best = estimate(float(np.exp(vertex)), vertices, tails)
    cost = estimate(float(np.expm1(curvature * np.log(4) ** 2)), costs, tails)
    return told(Measured(*best), Measured(*cost), "")
