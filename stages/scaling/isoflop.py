"""IsoFLOP minima (Hoffmann et al. 2022, approach 2): the best size at each budget, and its power law in compute."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.interpolate import Akima1DInterpolator

from stages.scaling.runs import check_runs

GROUP_TOLERANCE = 0.05  # runs whose C differ by less, relatively, belong to one budget
DENSE = 4001


@dataclass(frozen=True)
class Minimum:
    """One budget's answer; refused ones keep their place, with N, D and loss NaN and the reason."""

    C: float
    points: int
    N: float
    D: float
    loss: float
    reason: str  # "" if accepted

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


def fit_isoflop(
    C: ArrayLike, N: ArrayLike, loss: ArrayLike, *, method: Literal["parabola", "akima"] = "parabola"
) -> IsoflopFit:
    """The exponent of compute-optimal size, from runs grouped by budget.

    `parabola`: least squares of loss on (log N)², all points of a budget. `akima`: the lowest point of Akima's
    interpolant through the budget's points (Porian et al. 2024), which a lopsided valley doesn't bias.
    A budget is refused, with a reason, if it has too few distinct sizes or no minimum inside the sizes tried.
    Raises InputError for missing, non-finite or non-positive values; never for budgets that can't be used.
    """
    compute, size, value = check_runs(("C", "N"), C, N, loss)
    order = np.lexsort((size, compute))
    compute, size, value = compute[order], size[order], value[order]
    starts = [0]
    for row in range(1, compute.size):
        if compute[row] > compute[starts[-1]] * (1 + GROUP_TOLERANCE):
            starts.append(row)
    locate = {"parabola": _parabola, "akima": _akima}[method]
    minima = []
    for first, last in zip(starts, [*starts[1:], compute.size], strict=True):
        budget = float(np.exp(np.log(compute[first:last]).mean()))
        log_n, mean_loss = _merge(np.log(size[first:last]), value[first:last])
        at, lowest, reason = locate(log_n, mean_loss)
        n = float(np.exp(at))
        minima.append(Minimum(budget, last - first, n, budget / (6 * n), lowest, reason))
    return _power_law(tuple(minima))


def _merge(log_n: np.ndarray, loss: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Runs of one size at one budget are averaged: interpolation needs distinct abscissae."""
    distinct, inverse = np.unique(np.round(log_n, 9), return_inverse=True)
    return distinct, np.bincount(inverse, loss) / np.bincount(inverse)


def _refuse(reason: str) -> tuple[float, float, str]:
    return float("nan"), float("nan"), reason


def _parabola(log_n: np.ndarray, loss: np.ndarray) -> tuple[float, float, str]:
    if log_n.size < 3:
        return _refuse(f"too few points: {log_n.size} distinct sizes, a parabola needs 3")
    middle = log_n.mean()
    curvature, slope, level = np.polyfit(log_n - middle, loss, 2)
    if curvature <= 0:
        return _refuse("no minimum: the parabola opens downwards")
    vertex = -slope / (2 * curvature)
    if not log_n[0] < vertex + middle < log_n[-1]:
        side = "smaller" if vertex + middle <= log_n[0] else "larger"
        return _refuse(f"no interior minimum: try {side} sizes at this budget")
    return float(vertex + middle), float(level - slope**2 / (4 * curvature)), ""


def _akima(log_n: np.ndarray, loss: np.ndarray) -> tuple[float, float, str]:
    if log_n.size < 5:
        return _refuse(f"too few points: {log_n.size} distinct sizes, Akima's interpolant needs 5")
    dense = np.linspace(log_n[0], log_n[-1], DENSE)
    curve = Akima1DInterpolator(log_n, loss)(dense)
    lowest = int(np.argmin(curve))
    if lowest in (0, DENSE - 1):
        side = "smaller" if lowest == 0 else "larger"
        return _refuse(f"no interior minimum: try {side} sizes at this budget")
    return float(dense[lowest]), float(curve[lowest]), ""


def _power_law(minima: tuple[Minimum, ...]) -> IsoflopFit:
    nan = float("nan")
    used = [minimum for minimum in minima if minimum.accepted]
    if len(used) < 2:
        reason = f"{len(used)} of {len(minima)} budgets have a minimum; a slope needs 2"
        return IsoflopFit(nan, nan, nan, minima, reason)
    slope, level = np.polyfit(np.log([m.C for m in used]), np.log([m.N for m in used]), 1)
    return IsoflopFit(float(slope), float(1 - slope), float(np.exp(level)), minima, "")
