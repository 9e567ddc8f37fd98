"""Width against depth: what a model's proportions cost beside what its size says, on one validation set."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from stages.base.errors import InputError
from stages.scaling.interval import Estimate, estimate, of_resamples
from stages.scaling.runs import positive

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
