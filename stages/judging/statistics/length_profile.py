"""Intervals of length-controlled rates by profile likelihood.

For each rate that might be true there is a likelihood of the best weights that predict it; the interval holds the rates
whose likelihood is near enough the maximum. It stays within 0..100, reaches an end that the annotations don't rule out,
and needs no curvature at the estimate, which fails where a model wins or loses nearly everything. Near enough is what
`intervals.exact_deviance` says, so that with no weight on length it is Clopper and Pearson's interval.
"""

import numpy as np

from stages.judging.statistics.intervals import Bounds, exact_deviance, likelihood_end, shrunk
from stages.judging.statistics.length_design import Design
from stages.judging.statistics.logistic import log1pexp, maximum_likelihood, sigmoid

_END = 15.0  # logit of a rate that is 0 or 100 to seven digits
_FAR = 40.0  # a weight beyond this diverges: the likelihood is at its bound
_STEPS = 60


def profile_bounds(design: Design, error: float, level: float = 0.95) -> Bounds:
    """Of the length-controlled rate, in percent; error: its sandwich standard error, at 0..1."""
    profile, n, k = _Profile(design), len(design.y), len(design.names)
    weights, hessian, separated = maximum_likelihood(*design.rows())
    shares = sigmoid(design.predicted @ weights[1:])
    rate = float(shares.mean())
    slope = max(rate * (1 - rate), 1e-12)  # of the rate with its logit
    start = float(np.clip(_logit(rate), 1 - _END, _END - 1))
    best = profile.loss(weights)
    if separated:  # the ridge keeps the estimate away from the likelihood's bound
        best = min(best, *(profile(at, weights[:-1])[0] for at in (-_END, start, _END)))
    gradient = np.append(0.0, (shares * (1 - shares)) @ design.predicted / len(shares)) / slope
    step = float(np.sqrt(gradient @ np.linalg.pinv(hessian, hermitian=True) @ gradient))
    hard = np.isin(design.y, (0.0, 1.0)).all()
    spread = 1.0 if hard else shrunk(min(_spread(design, weights, (error / slope / step) ** 2), 1.0), n - k)
    below, above = exact_deviance(float(design.y.sum()), n, spread, n - k, level)
    free = weights[:-1]

    def loss(at: float) -> float:
        nonlocal free
        least, free = profile(at, free)
        return least

    ends = [likelihood_end(loss, start, best, *side, _END) for side in ((-step, below), (step, above))]
    return Bounds(*(100 * float(end) for end in sigmoid(np.array(ends))))


def _spread(design: Design, weights: np.ndarray, relative: float) -> float:
    """Variance of soft preferences over that of wins and losses with the same means: Pearson's, or what the sandwich
    says where that is more."""
    p, (n, k) = sigmoid(design.x @ weights), design.x.shape
    pearson = float(((design.y - p) ** 2).sum()) / max(float((p * (1 - p)).sum()), 1e-12) * n / max(n - k, 1)
    return max(pearson, relative)


class _Profile:
    """The least loss of weights that predict a mean rate, by its logit."""

    def __init__(self, design: Design) -> None:
        self.x, self.y, self.weights = design.rows()
        self.difficulty = design.predicted[:, :-1]  # [m, 0 or 1]

    def loss(self, w: np.ndarray) -> float:
        """Negative log-likelihood; w [k]."""
        z = self.x @ w
        return float(self.weights @ (log1pexp(z) - self.y * z))

    def __call__(self, goal: float, start: np.ndarray) -> tuple[float, np.ndarray]:
        """(Loss, all weights but the bias, which follows from them), by Newton's method; start [k - 1]."""
        free = np.clip(start, -_FAR / 2, _FAR / 2)
        w, slope = self._with_bias(free, goal)
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
                moved, turned = self._with_bias(free + scale * step, goal)
                there = self.loss(moved)
                if there <= here:
                    break
                scale /= 2
            else:
                return here, free
            gained = here - there
            free, w, slope, here = free + scale * step, moved, turned, there
            if gained < 1e-7 or np.abs(free).max() > _FAR:
                return here, free
        return here, free

    def _with_bias(self, free: np.ndarray, goal: float) -> tuple[np.ndarray, np.ndarray]:
        """(All weights [k], the bias being what gives the mean rate; how the bias moves with each of the others)."""
        slope = np.zeros(len(free))
        if not self.difficulty.shape[1]:
            return np.append(free, goal), slope
        steep = self.difficulty @ free[1:]
        low, high = goal - float(steep.max()), goal - float(steep.min())
        bias, rate = goal - float(steep.mean()), float(sigmoid(np.array(goal)))
        for _ in range(50):
            p = sigmoid(bias + steep)
            gap, curve = float(p.mean()) - rate, p * (1 - p)
            low, high = (low, bias) if gap > 0 else (bias, high)
            # On the logit of the mean rate, which is close to a line in the bias.
            mean = float(p.mean())
            step = (_logit(mean) - goal) * mean * (1 - mean) / max(float(curve.mean()), 1e-300)
            if abs(step) < 1e-10:
                break
            bias = bias - step if low <= bias - step <= high else (low + high) / 2
        curve = sigmoid(bias + steep)
        curve = curve * (1 - curve)
        slope[1:] = -(curve @ self.difficulty) / max(float(curve.sum()), 1e-300)
        return np.append(free, bias), slope


def _logit(p: float) -> float:
    p = min(max(p, 1e-12), 1 - 1e-12)
    return float(np.log(p / (1 - p)))
