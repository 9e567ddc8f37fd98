"""Group-sequential looks: how strict each test must be for all of them together to have the error rate alpha.

Lan and DeMets (1983): a function says how much of alpha is spent by the time a share t of the seeds is in, and the
bound of each look is the z value at which exactly this much is spent. Computed by numerical integration of the density
of the Brownian motion that hasn't crossed yet (Armitage, McPherson and Rowe 1969). For small samples a look's two-sided
level is kept and Student's t takes the place of z (Jennison and Turnbull 2000, section 4.4).
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

Spending = Literal["obrien_fleming", "pocock"]
NODES = 256  # of Gauss and Legendre, between the bounds of a look
FARTHEST = 12.0  # a z value that nothing crosses


class Bound(NamedTuple):
    z: float
    level: float
    """Two-sided, of this look's own test: 2 · (1 − Φ(z))."""
    spent: float
    """Two-sided, up to and with this look."""


def spent(share: float, alpha: float, spending: Spending) -> float:
    """Two-sided error spent by `share` of the information, each side by its half of alpha."""
    side = alpha / 2
    if spending == "pocock":
        return 2 * side * math.log1p((math.e - 1) * share)
    return 4 * float(ndtr(ndtri(side / 2) / math.sqrt(share)))


def bounds(shares: Sequence[float], alpha: float, spending: Spending) -> list[Bound]:
    """shares: of the information at each look, rising, the last one 1."""
    if list(shares) != sorted(set(shares)) or not shares[0] > 0 or shares[-1] != 1:
        raise ValueError(f"shares of information must rise to 1, got {list(shares)}")
    points, weights = np.polynomial.legendre.leggauss(NODES)
    found: list[Bound] = []
    at = density = np.zeros(1)
    mass, before, so_far = np.ones(1), 0.0, 0.0
    for share in shares:
        total = spent(share, alpha, spending)
        step = math.sqrt(share - before)
        z = _crossing(at, mass, step, math.sqrt(share), total - so_far)
        found.append(Bound(z, 2 * float(ndtr(-z)), total))
        edge = z * math.sqrt(share)
        nodes = points * edge
        density = np.exp(-0.5 * ((nodes[:, None] - at) / step) ** 2) @ mass / (step * math.sqrt(2 * math.pi))
        at, mass = nodes, density * weights * edge
        before, so_far = share, total
    return found


def _crossing(at: np.ndarray, mass: np.ndarray, step: float, root: float, goal: float) -> float:
    """The z value beyond which, on either side, `goal` of the paths that are at `at` with `mass` arrive."""

    def beyond(z: float) -> float:
        edge = z * root
        return float((ndtr((at - edge) / step) + ndtr((-edge - at) / step)) @ mass)

    def excess(z: float) -> float:
        return math.log(max(beyond(z), 1e-300)) - math.log(max(goal, 1e-300))

    return FARTHEST if excess(FARTHEST) > 0 else float(brentq(excess, 0.0, FARTHEST, xtol=1e-12))
