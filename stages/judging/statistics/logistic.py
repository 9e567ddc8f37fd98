"""Weighted logistic regression with targets in [0, 1]: maximum likelihood, and an L1 penalty.

Two estimators of a few weights from a few thousand rows, hundreds of times over; Newton steps are exact and cheap
there (statsmodels and scikit-learn give the same weights: tests/conformance/test_length_control.py).
"""

from typing import NamedTuple

import numpy as np

from stages.base.errors import InputError

SEPARATION_RIDGE = 0.01  # penalty ridge/2·|w|² where the likelihood has no maximum: a prior of standard deviation 10
_LARGE = 30.0  # a logit coefficient beyond this is a diverging fit
_STEPS = 100


class Estimate(NamedTuple):
    weights: np.ndarray  # [k]
    hessian: np.ndarray  # [k, k], of the negative log-likelihood (with the ridge where one was needed)
    separated: bool  # the likelihood has no maximum; SEPARATION_RIDGE made it finite


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * x))


def log1pexp(x: np.ndarray) -> np.ndarray:
    """log(1 + e^x) without overflow; ten times as fast as np.logaddexp(0, x)."""
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def maximum_likelihood(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> Estimate:
    """Maximum of Σ weights · (y log p + (1 - y) log(1 - p)), p = σ(x w). x [n, k], y [n] in [0, 1], weights [n] ≥ 0.

    Raises InputError where even a weak ridge leaves the weights unbounded.
    """
    for ridge in (0.0, SEPARATION_RIDGE):
        w, hessian, converged = _newton(x, y, weights, ridge)
        if converged and np.abs(w).max() < _LARGE:
            return Estimate(w, hessian, ridge > 0)
    raise InputError(
        "annotations: the length-controlled fit doesn't converge; look for extreme lengths or difficulties"
    )


def _newton(x: np.ndarray, y: np.ndarray, weights: np.ndarray, ridge: float) -> tuple[np.ndarray, np.ndarray, bool]:
    penalty = ridge * np.eye(x.shape[1])

    def loss(w: np.ndarray) -> float:
        z = x @ w
        return float(weights @ (log1pexp(z) - y * z) + 0.5 * ridge * (w @ w))

    w, here = np.zeros(x.shape[1]), loss(np.zeros(x.shape[1]))
    hessian = penalty
    for _ in range(_STEPS):
        p = sigmoid(x @ w)
        hessian = (x * (weights * p * (1 - p))[:, None]).T @ x + penalty
        gradient = x.T @ (weights * (y - p)) - ridge * w
        try:
            step = np.linalg.solve(hessian, gradient)
        except np.linalg.LinAlgError:  # a column of zeros (all lengths equal) gets weight 0: the least-norm step
            step = np.linalg.pinv(hessian, hermitian=True) @ gradient
        if np.abs(step).max() < 1e-10:
            return w + step, hessian, True
        scale = 1.0
        while (there := loss(w + scale * step)) > here + 1e-12 * abs(here) and scale > 1e-6:
            scale /= 2
        w, here = w + scale * step, there
        if np.abs(w).max() > 2 * _LARGE:
            break
    return w, hessian, False


def l1(x: np.ndarray, y: np.ndarray, weights: np.ndarray, c: float) -> Estimate:
    """Minimum of |w|₁ + c · (negative weighted log-likelihood): scikit-learn's `penalty="l1", C=c` without intercept.

    Proximal Newton: each step minimises the quadratic model plus the penalty by coordinate descent. The Hessian
    returned is the likelihood's alone. Always finite, so never `separated`.
    """
    w = np.zeros(x.shape[1])

    def loss(w: np.ndarray) -> float:
        z = x @ w
        return float(weights @ (log1pexp(z) - y * z) + np.abs(w).sum() / c)

    here = loss(w)
    hessian = np.zeros((len(w), len(w)))
    for _ in range(_STEPS):
        p = sigmoid(x @ w)
        gradient = x.T @ (weights * (p - y))
        hessian = (x * (weights * p * (1 - p))[:, None]).T @ x
        step = _lasso(w, gradient, hessian, 1 / c) - w
        if np.abs(step).max() < 1e-10:
            break
        scale = 1.0
        while (there := loss(w + scale * step)) > here + 1e-12 * abs(here) and scale > 1e-6:
            scale /= 2
        w, here = w + scale * step, there
    return Estimate(w, hessian, False)


def _lasso(start: np.ndarray, gradient: np.ndarray, hessian: np.ndarray, penalty: float) -> np.ndarray:
    """argmin over w of gradient·(w - start) + (w - start)'H(w - start)/2 + penalty·|w|₁."""
    w = start.copy()
    for _ in range(10_000):
        before = w.copy()
        for k in range(len(w)):
            curvature = hessian[k, k]
            if curvature <= 0:  # a column of zeros
                w[k] = 0.0
                continue
            slope = gradient[k] + hessian[k] @ (w - start) - curvature * w[k]
            w[k] = -np.sign(slope) * max(abs(slope) - penalty, 0.0) / curvature
        if np.abs(w - before).max() < 1e-13:
            break
    return w


class Extra(NamedTuple):
    """Rows that no resampling touches."""

    x: np.ndarray  # [m, k]
    y: np.ndarray  # [m]
    weights: np.ndarray  # [m]
