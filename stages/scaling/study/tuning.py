"""The best value of something tuned (learning rate, batch) at each scale, and how it moves with scale."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from stages.base.errors import InputError
from stages.scaling.laws.interval import Estimate, estimate, of_resamples
from stages.scaling.laws.minimum import Method, lowest
from stages.scaling.laws.runs import positive

SAME = 0.02  # runs whose N and D differ by less, relatively, are one cell
APART = 0.1  # in log units


@dataclass(frozen=True)
class Best:
    """One cell's answer; refused ones keep their place with `value` and `loss` NaN and the reason."""

    N: float
    D: float
    tried: int  # distinct values
    value: float
    loss: float
    reason: str


@dataclass(frozen=True)
class KnobLaw:
    """best = scale · N^n_exponent · D^d_exponent; exponents that the cells can't tell are None, as `reason` says."""

    cells: tuple[Best, ...]
    scale: float
    n_exponent: Estimate | None
    d_exponent: Estimate | None
    reason: str

    def predict(self, N: float, D: float) -> float:
        powers = ((N, self.n_exponent), (D, self.d_exponent))
        return self.scale * float(np.prod([x**power.value for x, power in powers if power is not None]))


def best_knob(
    N: ArrayLike, D: ArrayLike, knob: ArrayLike, loss: ArrayLike, *, method: Method = "parabola", level: float = 0.95
) -> KnobLaw:
    """In each cell of equal N and D, the value of least loss; over cells, its power law in N and D by least squares.

    Of runs that share a value the best one counts: whatever else was tuned beside it (the batch beside the learning
    rate) is then at its own best. Where N and D move together, only the exponent of N is told and stands for both.
    Raises InputError for bad values.
    """
    names = ("N", "D", "knob", "loss")
    n, d, value, reached = (positive(name, c) for name, c in zip(names, (N, D, knob, loss), strict=True))
    if len({column.size for column in (n, d, value, reached)}) != 1:
        raise InputError(f"columns differ in length: N {n.size}, D {d.size}, knob {value.size}, loss {reached.size}")
    cells = []
    for rows in _cells(n, d):
        distinct, inverse = np.unique(np.round(np.log(value[rows]), 6), return_inverse=True)
        best = np.full(distinct.size, np.inf)
        np.minimum.at(best, inverse, reached[rows])
        found = lowest(distinct, best, method, "values")
        reason = found.reason.replace(" at this budget", "")
        size, tokens = (float(np.exp(np.log(column[rows]).mean())) for column in (n, d))
        cells.append(Best(size, tokens, distinct.size, float(np.exp(found.at)), found.loss, reason))
    return _power_law(tuple(cells), level)


def _cells(n: np.ndarray, d: np.ndarray) -> list[np.ndarray]:
    """Indices of the runs of each cell, by N and then D."""
    cell = np.round(np.column_stack([np.log(n), np.log(d)]) / SAME)
    _, inverse = np.unique(cell, axis=0, return_inverse=True)
    return [np.flatnonzero(inverse == number) for number in range(inverse.max() + 1)]


def _power_law(cells: tuple[Best, ...], level: float) -> KnobLaw:
    used = [cell for cell in cells if not cell.reason]
    if all(cell.tried == 1 for cell in cells):
        return KnobLaw(cells, float("nan"), None, None, "no runs of equal N and D differ in it")
    n, d, best = (np.log([getattr(cell, name) for cell in used]) for name in ("N", "D", "value"))
    told, reason = _told(n, d) if len(used) > 1 else ([], "")
    if len(used) <= len(told) or not told:
        reason = f"{len(used)} of {len(cells)} cells have a best value, too few or too alike for a slope"
        return KnobLaw(cells, float("nan"), None, None, reason)
    design = np.column_stack([np.ones_like(n), *({"N": n, "D": d}[name] for name in told)])
    coefficients, *_ = np.linalg.lstsq(design, best, rcond=None)
    free = best.size - design.shape[1]
    variance = float(((best - design @ coefficients) ** 2).sum() / free) if free else float("nan")
    half = stats.t.ppf(0.5 + level / 2, max(free, 1)) * np.sqrt(variance * np.diag(np.linalg.inv(design.T @ design)))
    exponent = {
        name: Estimate(float(c), float(c - h), float(c + h))
        for name, c, h in zip(told, coefficients[1:], half[1:], strict=True)
    }
    return KnobLaw(cells, float(np.exp(coefficients[0])), exponent.get("N"), exponent.get("D"), reason)


def _told(n: np.ndarray, d: np.ndarray) -> tuple[list[str], str]:
    """Which of N and D (in logs) vary enough, and apart from each other, for an exponent; and a remark."""
    wide = [name for name, column in (("N", n), ("D", d)) if np.ptp(column) > APART]
    if len(wide) == 2:
        slope, level = np.polyfit(n, d, 1)
        if np.abs(d - slope * n - level).max() < APART:
            return ["N"], "N and D move together: the exponent of N stands for both"
    return wide, ""


FEWEST = 5  # distinct proportions: a parabola takes three
RESAMPLES = 1000


@dataclass(frozen=True)
class Aspect:
    """The residual of log loss against log(width / depth) is a parabola: `best` is its lowest point.

    `cost`: share by which the loss rises at four times or a quarter of the best ratio. Both None if refused.
    """

    best: Estimate | None
    cost: Estimate | None
    shapes: int
    reason: str


def best_aspect(
    width: ArrayLike, depth: ArrayLike, residual: ArrayLike, *, level: float = 0.95, seed: int = 0
) -> Aspect:
    """`residual`: log loss reached minus log loss of the law in N and D. Runs of one shape are resampled together.

    Raises InputError for bad values or columns of different lengths.
    """
    wide, deep = positive("width", width), positive("depth", depth)
    gap = np.asarray(residual, dtype=np.float64)
    if not wide.size == deep.size == gap.size:
        raise InputError(f"columns differ in length: width {wide.size}, depth {deep.size}, residual {gap.size}")
    shapes, which = np.unique(np.column_stack([wide, deep]), axis=0, return_inverse=True)
    u = np.log(shapes[:, 0] / shapes[:, 1])
    mean = np.bincount(which, gap) / np.bincount(which)
    if np.unique(np.round(u, 6)).size < FEWEST:
        return Aspect(None, None, len(shapes), f"{np.unique(np.round(u, 6)).size} distinct ratios, {FEWEST} are needed")
    curvature, slope, _ = np.polyfit(u, mean, 2)
    vertex = -slope / (2 * curvature)
    if curvature <= 0 or not u.min() < vertex < u.max():
        return Aspect(None, None, len(shapes), "no best ratio among those tried")
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
    return Aspect(
        estimate(float(np.exp(vertex)), vertices, tails),
        estimate(float(np.expm1(curvature * np.log(4) ** 2)), costs, tails),
        len(shapes),
        "",
    )
