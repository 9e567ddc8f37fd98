"""Arms compared by their scaling laws: how much less compute one needs for the other's loss.

Each arm's ladder at each seed is fitted by log(L − E) = c − γ · log C (least squares; L loss, C compute in FLOPs) over
its compute-efficient points, those that no cheaper point beats. E, the irreducible loss, is one number for all arms and
seeds; γ is each fit's own. What the laws say at the largest compute that all arms reach is compared there, so that
nothing is extrapolated upwards. Seeds make the interval: a number per seed, and Student's t over them. With one seed an
arm, every point of the ladder being a training of its own, it comes from how far the points lie from their laws.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from stages.base.crossed import Estimate, contrast
from stages.base.errors import InputError

FEWEST_FOR_FLOOR = 3  # different computes of a ladder, below which E is taken as 0
SHARES = np.linspace(0.0, 0.98, 50)  # of the least loss, tried as E


class Ladder(NamedTuple):
    """Points of one arm at one seed, by rising compute."""

    compute: np.ndarray
    loss: np.ndarray


class Law(NamedTuple):
    """log(L − E) at the reference compute, and how fast it falls with log C."""

    height: float
    exponent: float
    spread: np.ndarray
    """[2, 2]: (XᵀX)⁻¹ of the fit, which times the points' variance is the covariance of height and exponent."""
    squares: float
    """Sum of squared residuals."""
    n: int
    """Points."""


Quantity = Callable[[Law, Law], float]
"""What two laws are compared by."""


class Laws(NamedTuple):
    """reference: compute in FLOPs at which arms are compared; laws: arm → one a seed, in the order of the ladders."""

    reference: float
    lowest: float
    floor: float
    laws: dict[str, list[Law]]
    notes: list[str]


def frontier(compute: np.ndarray, loss: np.ndarray) -> Ladder:
    """Points that no point of the same or less compute beats."""
    order = np.lexsort((loss, compute))
    c, y = compute[order], loss[order]
    best = np.minimum.accumulate(y)
    first = np.append(True, (best[1:] < best[:-1]) & (c[1:] > c[:-1]))
    return Ladder(c[first], y[first])


def fit_laws(ladders: Mapping[str, Sequence[tuple[np.ndarray, np.ndarray]]], floor: float | None = None) -> Laws:
    """ladders: arm → (compute, loss) of each seed. floor: E, known beforehand; None estimates it where every ladder
    has FEWEST_FOR_FLOOR points. Raises InputError naming the arm whose ladder can't be fitted."""
    kept = {arm: [frontier(*points) for points in seeds] for arm, seeds in ladders.items()}
    for arm, seeds in kept.items():
        for points in seeds:
            if len(points.compute) < 2:
                raise InputError(
                    f"outcomes: arm {arm}: a ladder whose loss doesn't fall with compute has no law; it needs two or "
                    "more sizes"
                )
            if points.compute[0] <= 0 or points.loss.min() <= 0:
                raise InputError(f"outcomes: arm {arm}: compute and loss of a ladder must be positive")
    every = [points for seeds in kept.values() for points in seeds]
    reference = min(float(points[0].max()) for seeds in ladders.values() for points in seeds)
    lowest = max(float(points[0].min()) for seeds in ladders.values() for points in seeds)
    if lowest >= reference:
        raise InputError("outcomes: the arms' ladders have no compute in common; let them cover the same budgets")
    notes = []
    if floor is None:
        floor = 0.0
        if min(len(points.compute) for points in every) >= FEWEST_FOR_FLOOR:
            least = min(float(points.loss.min()) for points in every)
            floors = SHARES * least
            floor = float(floors[np.argmin(sum(_misfit(points, floors) for points in every))])
        else:
            notes.append(f"Ladders of fewer than {FEWEST_FOR_FLOOR} sizes: their laws have no irreducible loss.")
    laws = {arm: [_fit(points, floor, reference) for points in seeds] for arm, seeds in kept.items()}
    for arm, found in laws.items():
        if min(law.exponent for law in found) <= 0:
            raise InputError(f"outcomes: arm {arm}: loss doesn't fall with compute, so no law can be compared")
    return Laws(reference, lowest, floor, laws, notes)


def _fit(points: Ladder, floor: float, reference: float) -> Law:
    x = np.log(points.compute / reference)
    design = np.stack([np.ones_like(x), -x], axis=1)
    y = np.log(points.loss - floor)
    spread = np.linalg.inv(design.T @ design)
    height, exponent = spread @ (design.T @ y)
    residual = y - design @ (height, exponent)
    return Law(float(height), float(exponent), spread, float(residual @ residual), len(x))


def _misfit(points: Ladder, floors: np.ndarray) -> np.ndarray:
    """Of each floor the squared errors of log loss, whatever the floor, so that floors can be compared."""
    x = np.log(points.compute)
    x = x - x.mean()
    y = np.log(points.loss - floors[:, None])
    line = y.mean(1, keepdims=True) + (y @ x / (x @ x))[:, None] * x
    return ((np.log(points.loss) - np.log(np.exp(line) + floors[:, None])) ** 2).sum(1)


def log_multiplier(a: Law, b: Law) -> float:
    """Log of the compute that b needs over the compute that a needs for equal loss: for the loss that the worse arm
    has at the reference compute, which both reach."""
    better = a if a.height <= b.height else b
    return (b.height - a.height) / better.exponent


def slope_gap(a: Law, b: Law) -> float:
    """Slope of log(L − E) over log C, which is −γ, of a minus that of b: below 0 where a's loss falls more steeply."""
    return b.exponent - a.exponent


def slope(a: Law, _: Law) -> float:
    return -a.exponent


def compare(quantity: Quantity, a: Sequence[Law], b: Sequence[Law], pair_seeds: bool) -> Estimate:
    """quantity(a, b) with Student's t over seeds. Unpaired: each arm's seeds vary it beside the other arm's mean law,
    and the two variances add (Welch)."""
    if pair_seeds:
        values = np.array([quantity(x, y) for x, y in zip(a, b, strict=True)])
        return contrast([values[:, None]], [1.0])
    mean_a, mean_b = mean_law(a), mean_law(b)
    ours = np.array([quantity(x, mean_b) for x in a])
    theirs = np.array([quantity(mean_a, y) for y in b])
    spread = contrast([ours[:, None], theirs[:, None]], [1.0, 1.0], pair_seeds=False)
    return Estimate(
        quantity(mean_a, mean_b),
        spread.standard_error,
        spread.df,
        seed_variance=spread.seed_variance,
        n_seeds=spread.n_seeds,
    )


def compare_points(quantity: Quantity, a: Law, b: Law, floor: float) -> Estimate:
    """The same of one seed an arm: by the delta method over the least-squares errors of both laws, whose points have
    one variance. Raises InputError where two laws through so few points leave none."""
    df = a.n + b.n - 4 - (floor > 0)
    if df < 1:
        raise InputError(
            f"outcomes: with one seed, ladders of {a.n} and {b.n} points leave nothing to tell noise by; add sizes or "
            "seeds"
        )
    variance = (a.squares + b.squares) / df
    total = 0.0
    for which, law in enumerate((a, b)):
        gradient = []
        for field in ("height", "exponent"):
            step = 1e-6 * max(abs(getattr(law, field)), 1e-3)
            ends = [law._replace(**{field: getattr(law, field) + side * step}) for side in (1, -1)]
            high, low = (quantity(end, b) if which == 0 else quantity(a, end) for end in ends)
            gradient.append((high - low) / (2 * step))
        total += variance * float(np.array(gradient) @ law.spread @ np.array(gradient))
    return Estimate(quantity(a, b), float(np.sqrt(total)), float(df), n_seeds=1)


def mean_law(laws: Sequence[Law]) -> Law:
    height, exponent = np.mean([(law.height, law.exponent) for law in laws], axis=0).tolist()
    return laws[0]._replace(height=height, exponent=exponent)


def crossover(laws: Laws, a: str, b: str) -> float | None:
    """Compute at which the two arms' mean laws cross, None if not between the least and the largest one in common."""
    one, other = mean_law(laws.laws[a]), mean_law(laws.laws[b])
    if one.exponent == other.exponent:
        return None
    away = (one.height - other.height) / (one.exponent - other.exponent)
    at = laws.reference * float(np.exp(np.clip(away, -700, 700)))
    return at if laws.lowest <= at <= laws.reference else None
