"""IsoFLOP minima (Hoffmann et al. 2022, approach 2): the best size at each budget, and its power law in compute."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.interpolate import Akima1DInterpolator

from stages.scaling.laws.law import columns_of

GROUP_TOLERANCE = 0.05  # runs whose C differ by less, relatively, belong to one budget
DENSE = 4001  # points at which the interpolant is looked at

Method = Literal["parabola", "akima"]


class Lowest(NamedTuple):
    """`at` in log units; NaN, with the reason, where there is no answer. `curvature` is of a parabola, else NaN."""

    at: float
    loss: float
    reason: str
    curvature: float = float("nan")


def lowest(log_x: np.ndarray, loss: np.ndarray, method: Method, what: str) -> Lowest:
    """`parabola`: least squares on (log x)². `akima`: Akima's interpolant, which a lopsided valley doesn't bias.

    `what` names x in reasons: "sizes". Equal x are averaged first: interpolation needs distinct abscissae.
    """
    distinct, inverse = np.unique(np.round(log_x, 9), return_inverse=True)
    mean = np.bincount(inverse, loss) / np.bincount(inverse)
    return {"parabola": _parabola, "akima": _akima}[method](distinct, mean, what)


def _refuse(reason: str) -> Lowest:
    return Lowest(float("nan"), float("nan"), reason)


def _parabola(log_x: np.ndarray, loss: np.ndarray, what: str) -> Lowest:
    if log_x.size < 3:
        return _refuse(f"too few points: {log_x.size} distinct {what}, a parabola needs 3")
    middle = log_x.mean()
    curvature, slope, level = np.polyfit(log_x - middle, loss, 2)
    if curvature <= 0:
        return _refuse("no minimum: the parabola opens downwards")
    vertex = -slope / (2 * curvature)
    if not log_x[0] < vertex + middle < log_x[-1]:
        side = "smaller" if vertex + middle <= log_x[0] else "larger"
        return _refuse(f"no interior minimum: try {side} {what} at this budget")
    return Lowest(float(vertex + middle), float(level - slope**2 / (4 * curvature)), "", float(curvature))


def _akima(log_x: np.ndarray, loss: np.ndarray, what: str) -> Lowest:
    if log_x.size < 5:
        return _refuse(f"too few points: {log_x.size} distinct {what}, Akima's interpolant needs 5")
    dense = np.linspace(log_x[0], log_x[-1], DENSE)
    curve = Akima1DInterpolator(log_x, loss)(dense)
    least = int(np.argmin(curve))
    if least in (0, DENSE - 1):
        side = "smaller" if least == 0 else "larger"
        return _refuse(f"no interior minimum: try {side} {what} at this budget")
    return Lowest(float(dense[least]), float(curve[least]), "")


@dataclass(frozen=True)
class Minimum:
    """One budget's answer; refused ones keep their place, with N, D and loss NaN and the reason."""

    C: float
    points: int
    N: float
    D: float
    loss: float
    reason: str  # "" if accepted
    curvature: float = float("nan")  # of the parabola, loss per (log N)²

    @property
    def accepted(self) -> bool:
        return not self.reason


@dataclass(frozen=True)
class IsoflopFit:
    """N* = k·C^a and D* = C/(6N*) = C^b/(6k); NaN with fewer than two accepted minima, as `reason` then says."""

    a: float
    b: float
    k: float
    minima: tuple[Minimum, ...]
    reason: str

    @property
    def accepted(self) -> tuple[Minimum, ...]:
        return tuple(minimum for minimum in self.minima if minimum.accepted)

    def optimum(self, C: float) -> tuple[float, float]:
        """(N*, D*) at C FLOPs."""
        n = self.k * float(C) ** self.a
        return n, float(C) / (6 * n)


def fit_isoflop(C: ArrayLike, N: ArrayLike, loss: ArrayLike, *, method: Method = "parabola") -> IsoflopFit:
    """The exponent of compute-optimal size, from runs grouped by budget.

    `parabola`: least squares of loss on (log N)², all points of a budget (Hoffmann et al. 2022). `akima`: the lowest
    point of Akima's interpolant through the budget's points (Porian et al. 2024), which a lopsided valley doesn't bias.
    A budget is refused, with a reason, if it has too few distinct sizes or no minimum inside the sizes tried.
    Raises InputError for missing, non-finite or non-positive values; never for budgets that can't be used.
    """
    compute, size, value = columns_of(C=C, N=N, loss=loss)
    order = np.lexsort((size, compute))
    compute, size, value = compute[order], size[order], value[order]
    group = budgets(compute)
    minima = []
    for number in range(group.max() + 1):
        rows = group == number
        budget = float(np.exp(np.log(compute[rows]).mean()))
        found = lowest(np.log(size[rows]), value[rows], method, "sizes")
        n = float(np.exp(found.at))
        minima.append(Minimum(budget, int(rows.sum()), n, budget / (6 * n), found.loss, found.reason, found.curvature))
    return _power_law(tuple(minima))


def budgets(C: np.ndarray) -> np.ndarray:
    """The number of each run's budget, (n,), from 0 for the least compute; budgets differ by more than 5 %."""
    order = np.argsort(C, kind="stable")
    numbers, first = np.zeros(C.size, dtype=int), C[order[0]]
    current = 0
    for row in order:
        if C[row] > first * (1 + GROUP_TOLERANCE):
            current, first = current + 1, C[row]
        numbers[row] = current
    return numbers


def _power_law(minima: tuple[Minimum, ...]) -> IsoflopFit:
    nan = float("nan")
    used = [minimum for minimum in minima if minimum.accepted]
    if len(used) < 2:
        reason = f"{len(used)} of {len(minima)} budgets have a minimum; a slope needs 2"
        return IsoflopFit(nan, nan, nan, minima, reason)
    slope, level = np.polyfit(np.log([m.C for m in used]), np.log([m.N for m in used]), 1)
    return IsoflopFit(float(slope), float(1 - slope), float(np.exp(level)), minima, "")


def isoflop_exponents(
    C: ArrayLike, N: ArrayLike, loss: ArrayLike, *, method: Method, resamples: int, seed: int
) -> np.ndarray:
    """The exponent `a` with new noise on every loss: residuals of the budgets' parabolas, drawn with replacement.

    Only the budgets that `fit_isoflop` accepts take part, so that noise doesn't give a refused one a minimum. Runs
    aren't resampled: a budget without its outer sizes would have another minimum, or none.
    Empty if the parabolas leave no residuals, as with three sizes a budget. Draws without two minima are left out.
    """
    compute, size, value = columns_of(C=C, N=N, loss=loss)
    accepted = [minimum.accepted for minimum in fit_isoflop(compute, size, value, method=method).minima]
    kept = np.array(accepted)[budgets(compute)]
    compute, size, value = compute[kept], size[kept], value[kept]
    if not value.size:
        return np.array([])
    group, log_n = budgets(compute), np.log(size)
    gaps, smooth, parabolas = [], value.copy(), 0
    for number in range(group.max() + 1):
        rows = np.flatnonzero(group == number)
        if np.unique(size[rows]).size > 2:
            x = log_n[rows] - log_n[rows].mean()
            smooth[rows] = np.polyval(np.polyfit(x, value[rows], 2), x)
            gaps.append(value[rows] - smooth[rows])
            parabolas += 1
    residuals = np.concatenate([*gaps, np.zeros(0)])
    free = residuals.size - 3 * parabolas
    if free < 1:
        return np.array([])
    residuals *= (residuals.size / free) ** 0.5
    curve = smooth if method == "parabola" else value
    rng = np.random.default_rng(seed)
    found = [
        fit_isoflop(compute, size, curve + rng.choice(residuals, value.size), method=method).a for _ in range(resamples)
    ]
    exponents = np.array(found)
    return exponents[np.isfinite(exponents)]
