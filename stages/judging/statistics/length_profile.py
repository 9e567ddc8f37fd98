"""Intervals of length-controlled rates by profile likelihood.

For each rate that might be true there is a likelihood of the best weights that predict it; the interval holds the rates
whose likelihood is near enough the maximum. It stays within 0..100, reaches an end that the annotations don't rule out,
and needs no curvature at the estimate, which fails where a model wins or loses nearly everything. Near enough is what
`intervals.exact_deviance` says, so that with no weight on length it is Clopper and Pearson's interval.
"""

import numpy as np
from scipy.optimize import brentq

from stages.judging.statistics.intervals import Bounds, dispersion, exact_deviance
from stages.judging.statistics.length_design import Design
from stages.judging.statistics.logistic import sigmoid

_END = 15.0  # logit of a rate that is 0 or 100 to seven digits
_FAR = 40.0  # a weight beyond this diverges: the likelihood is at its bound
_STEPS = 60


def profile_bounds(design: Design, weights: np.ndarray, level: float = 0.95) -> Bounds:
    """Of the length-controlled rate, in percent; weights: the estimate, in the order of the design's names."""
    profile = _Profile(design)
    n, k = len(design.y), len(design.names)
    start = float(np.clip(_logit(float(sigmoid(design.predicted @ weights[1:]).mean())), -_END + 1, _END - 1))
    low_end, here, high_end = (profile(at, weights[:-1]) for at in (-_END, start, _END))
    best = min(low_end, high_end, profile.loss(weights), here)
    shares = sigmoid(design.x @ weights)
    spread = dispersion(design.y, shares, k)
    below, above = exact_deviance(float(design.y.sum()), n, spread, n - k, level)

    def excess(at: float, allowed: float) -> float:
        return 2 * (profile(at, weights[:-1]) - best) - allowed

    low, high = -np.inf, np.inf
    if excess(start, min(below, above)) >= 0:  # the estimate has a ridge, and the likelihood lies elsewhere
        return Bounds(0.0, 100.0)
    if 2 * (low_end - best) > below:
        low = brentq(lambda at: excess(at, below), -_END, start, xtol=1e-5, rtol=1e-8)
    if 2 * (high_end - best) > above:
        high = brentq(lambda at: excess(at, above), start, _END, xtol=1e-5, rtol=1e-8)
    return Bounds(*(100 * float(end) for end in sigmoid(np.array([low, high]))))


class _Profile:
    """The least loss of weights that predict a mean rate, by its logit."""

    def __init__(self, design: Design) -> None:
        self.x, self.y, self.weights = design.rows()
        self.difficulty = design.predicted[:, :-1]  # [m, 0 or 1]

    def loss(self, w: np.ndarray) -> float:
        """Negative log-likelihood; w [k]."""
        z = self.x @ w
        return float(self.weights @ (np.logaddexp(0, z) - self.y * z))

    def __call__(self, logit: float, start: np.ndarray) -> float:
        """Newton's method over all weights but the bias, which follows from them; start [k - 1]."""
        free = np.clip(start, -_FAR / 2, _FAR / 2)
        w, slope = self._with_bias(free, logit)
        here = self.loss(w)
        for _ in range(_STEPS):
            p = sigmoid(self.x @ w)
            z = self.x[:, :-1] + self.x[:, -1:] * slope
            gradient = z.T @ (self.weights * (self.y - p))
            hessian = (z * (self.weights * p * (1 - p))[:, None]).T @ z
            step = np.linalg.solve(hessian + 1e-9 * np.eye(len(free)), gradient)
            step *= min(1.0, 4 / max(float(np.abs(step).max()), 1e-300))
            scale = 1.0
            while scale > 1e-6:
                moved, turned = self._with_bias(free + scale * step, logit)
                there = self.loss(moved)
                if there <= here:
                    break
                scale /= 2
            else:
                return here
            gained = here - there
            free, w, slope, here = free + scale * step, moved, turned, there
            if gained < 1e-7 or np.abs(free).max() > _FAR:
                return here
        return here

    def _with_bias(self, free: np.ndarray, logit: float) -> tuple[np.ndarray, np.ndarray]:
        """(All weights [k], the bias being what gives the mean rate; how the bias moves with each of the others)."""
        slope = np.zeros(len(free))
        if not self.difficulty.shape[1]:
            return np.append(free, logit), slope
        steep = self.difficulty @ free[1:]
        low, high = logit - float(steep.max()), logit - float(steep.min())
        bias, goal = logit - float(steep.mean()), float(sigmoid(np.array(logit)))
        for _ in range(50):
            p = sigmoid(bias + steep)
            gap, curve = float(p.mean()) - goal, p * (1 - p)
            low, high = (low, bias) if gap > 0 else (bias, high)
            # On the logit of the mean rate, which is close to a line in the bias.
            step = (
                (_logit(float(p.mean())) - logit) * float(p.mean() * (1 - p.mean())) / max(float(curve.mean()), 1e-300)
            )
            bias = bias - step if low <= bias - step <= high else (low + high) / 2
            if abs(step) < 1e-10 or high - low < 1e-12:
                break
        curve = sigmoid(bias + steep)
        curve = curve * (1 - curve)
        slope[1:] = -(curve @ self.difficulty) / max(float(curve.sum()), 1e-300)
        return np.append(free, bias), slope


def _logit(p: float) -> float:
    p = min(max(p, 1e-12), 1 - 1e-12)
    return float(np.log(p / (1 - p)))
