"""The lowest point of a loss curve over the logarithm of something tried: a size, a learning rate, a batch."""

from typing import Literal, NamedTuple

import numpy as np
from scipy.interpolate import Akima1DInterpolator

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
