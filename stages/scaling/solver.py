"""Batched robust fit of log L = logsumexp(a - αx, b - βy, e), x = log N, y = log D.

The surface has many poor local minima (one start in ten of the usual grid reaches the best), so starts come from
variable projection (Golub and Pereyra 1973): given the exponents the law is linear in (E, A, B), so a grid over two
numbers, not five, covers it. Each start is then polished by Levenberg-Marquardt on iteratively reweighted squares
(weights min(1, δ/|r|) make it Huber's M-estimator), all starts or bootstrap resamples at once.
"""

from typing import NamedTuple

import numpy as np

PARAMETERS = 5  # a, b, e, alpha, beta


class Problem(NamedTuple):
    """x, y, z = log N, log D, log loss, each of shape (n,); residuals are in log loss, or in loss if not `log`."""

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    delta: float
    log: bool
    prior_mean: np.ndarray  # (5,) or (batch, 5)
    prior_precision: np.ndarray  # (5,): weight of (θ - mean)² / 2 in the objective, 0 for no prior


def huber(residual: np.ndarray, delta: float) -> np.ndarray:
    size = np.abs(residual)
    return np.where(size <= delta, 0.5 * residual**2, delta * (size - 0.5 * delta))


def residuals(theta: np.ndarray, problem: Problem, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Residuals (batch, n) and the shares (batch, n, 3) of the N, D and E terms in the prediction."""
    a, b, e, alpha, beta = (theta[:, i : i + 1] for i in range(PARAMETERS))
    size_term, data_term = a - alpha * problem.x, b - beta * problem.y
    terms = np.stack([size_term, data_term, np.broadcast_to(e, size_term.shape)], axis=-1)
    top = terms.max(axis=-1, keepdims=True)
    shares = np.exp(terms - top)
    total = shares.sum(axis=-1, keepdims=True)
    shares /= total
    prediction = (np.log(total) + top)[..., 0]
    if problem.log:
        return prediction - target, shares
    return np.exp(prediction) - np.exp(target), shares * np.exp(prediction)[..., None]


def objective(theta: np.ndarray, residual: np.ndarray, counts: np.ndarray, problem: Problem) -> np.ndarray:
    """Sum (not mean) of Huber terms, each counted as often as it was drawn, plus the prior: shape (batch,)."""
    prior = 0.5 * ((theta - problem.prior_mean) ** 2 * problem.prior_precision).sum(axis=1)
    return (counts * huber(residual, problem.delta)).sum(axis=1) + prior


def polish(
    starts: np.ndarray,
    problem: Problem,
    counts: np.ndarray | None = None,
    target: np.ndarray | None = None,
    iterations: int = 300,
    tolerance: float = 1e-11,
) -> tuple[np.ndarray, np.ndarray]:
    """Minimise from every start: θ (batch, 5) and objective (batch,).

    `counts` (batch, n) weights the runs (bootstrap); `target` (batch, n) replaces the log losses (simulated data).
    """
    theta = np.array(starts, dtype=np.float64)
    size, n = len(theta), problem.x.size
    counts = np.ones((1, n)) if counts is None else counts
    counts = np.broadcast_to(counts, (size, n))
    target = np.broadcast_to(problem.z if target is None else target, (size, n))
    mean = np.broadcast_to(problem.prior_mean, (size, PARAMETERS))
    damping = np.full(size, 1e-3)
    quiet = np.zeros(size, dtype=int)
    value = np.full(size, np.inf)
    active = np.arange(size)
    eye = np.eye(PARAMETERS)
    here = problem._replace(prior_mean=mean)
    residual, shares = residuals(theta, here, target)
    value = objective(theta, residual, counts, here)
    for _ in range(iterations):
        weight = counts[active] * np.minimum(1.0, problem.delta / np.maximum(np.abs(residual), 1e-300))
        jacobian = np.concatenate([shares, shares[..., :2] * np.stack([-problem.x, -problem.y], -1)], axis=-1)
        weighted = jacobian * weight[..., None]
        hessian = weighted.transpose(0, 2, 1) @ jacobian + np.diag(problem.prior_precision)
        gradient = (weighted * residual[..., None]).sum(axis=1)
        gradient += (theta[active] - mean[active]) * problem.prior_precision
        diagonal = np.einsum("bii->bi", hessian)
        ridge = damping[active, None] * diagonal + 1e-14 * diagonal.max(axis=1, keepdims=True) + 1e-300
        step = np.linalg.solve(hessian + ridge[:, :, None] * eye, -gradient[..., None])[..., 0]
        trial = theta[active] + np.clip(step, -2.0, 2.0)
        local = here._replace(prior_mean=mean[active])
        trial_residual, trial_shares = residuals(trial, local, target[active])
        trial_value = objective(trial, trial_residual, counts[active], local)
        better = trial_value < value[active]
        gain = np.where(better, value[active] - trial_value, 0.0)
        small = gain <= tolerance * (np.abs(value[active]) + 1e-30)
        chosen = active[better]
        theta[chosen], value[chosen] = trial[better], trial_value[better]
        residual = np.where(better[:, None], trial_residual, residual)
        shares = np.where(better[:, None, None], trial_shares, shares)
        damping[active] = np.clip(np.where(better, damping[active] * 0.2, damping[active] * 5.0), 1e-12, 1e8)
        quiet[active] = np.where(small, quiet[active] + 1, 0)
        go_on = quiet[active] < 8
        active, residual, shares = active[go_on], residual[go_on], shares[go_on]
        if not active.size:
            break
    return theta, value


def projected_starts(
    problem: Problem, exponents: tuple[np.ndarray, np.ndarray], keep: int, sweeps: int = 6
) -> np.ndarray:
    """The `keep` best (a, b, e, α, β) of a grid of exponents, (E, A, B) by reweighted least squares at each."""
    alpha, beta = (grid.ravel() for grid in np.meshgrid(*exponents, indexing="ij"))
    loss = np.exp(problem.z)
    size_term, data_term = np.exp(-alpha[:, None] * problem.x), np.exp(-beta[:, None] * problem.y)
    columns = np.stack([size_term, data_term, np.ones_like(size_term)], axis=-1)
    scale = loss if problem.log else np.ones_like(loss)
    design, response = columns / scale[:, None], loss / scale
    weight = np.ones((alpha.size, problem.x.size))
    floor = 1e-6 * loss.min()
    coefficients = np.zeros((alpha.size, 3))
    for _ in range(sweeps):
        weighted = design * weight[..., None]
        normal = weighted.transpose(0, 2, 1) @ design
        ridge = 1e-13 * np.einsum("bii->bi", normal)[:, :, None] * np.eye(3)
        coefficients = np.linalg.solve(normal + ridge, weighted.transpose(0, 2, 1) @ response[:, None])[..., 0]
        # A negative term has no logarithm: it is held at a small positive share of the loss instead.
        coefficients = np.maximum(coefficients, floor / columns.mean(axis=1))
        gap = (design @ coefficients[..., None])[..., 0] - response
        weight = np.minimum(1.0, problem.delta / np.maximum(np.abs(gap), 1e-300))
    theta = np.column_stack([np.log(coefficients), alpha, beta])
    residual, _ = residuals(theta, problem, np.broadcast_to(problem.z, (len(theta), problem.z.size)))
    value = objective(theta, residual, np.ones((1, problem.z.size)), problem)
    return theta[np.argsort(value, kind="stable")[:keep]]
