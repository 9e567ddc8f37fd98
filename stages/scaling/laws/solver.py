"""Batched robust fit of log L = log(exp n + exp d + exp e), where the three terms n, d, e are linear in the parameters.

One law has n = a - α log N, d = b - β log D, and e: five parameters. Two recipes that share exponents have seven, with
an a and a b each; a power law in N alone has two or three. So a `Problem` says of each parameter which term it enters
and what multiplies it.

The objective is a sum of Huber terms. It is minimised by Levenberg-Marquardt on its own Hessian (Newton), after a few
steps, and wherever Newton's fails, on that of reweighted squares, weights min(1, δ/|r|). Reweighting alone is safe and
slow: with δ far below the residuals it needs ten times the steps. All starts, or all bootstrap resamples, go at once.
"""

from typing import NamedTuple

import numpy as np

SIZE, DATA, FLOOR = 0, 1, 2  # the terms n, d, e
REWEIGHTED_FIRST, REWEIGHTED_AFTER_FAILURE = 4, 2  # steps
QUIET = 3  # steps in a row without a gain, after which a row of the batch is done


class Problem(NamedTuple):
    """Parameter p adds θ_p · covariates[p] to the term terms[p]; residuals are in log loss, or in loss if not `log`."""

    covariates: np.ndarray  # (p, n)
    terms: tuple[int, ...]  # (p,): SIZE, DATA or FLOOR
    z: np.ndarray  # (n,): log loss
    delta: float
    log: bool
    prior_mean: np.ndarray  # (p,) or (batch, p)
    prior_precision: np.ndarray  # (p,): weight of (θ - mean)² / 2 in the objective, 0 for no prior

    def groups(self) -> list[np.ndarray]:
        """Parameters of each term; none for a term that the law hasn't."""
        return [np.flatnonzero(np.equal(self.terms, term)) for term in (SIZE, DATA, FLOOR)]


class Step(NamedTuple):
    """Where a batch stands: residuals (batch, n), each term's share of the prediction (batch, n), prediction."""

    residual: np.ndarray
    shares: list[np.ndarray]
    scale: np.ndarray | None  # the prediction, if residuals are in loss; None if in log loss

    def rows(self, chosen: np.ndarray) -> "Step":
        scale = None if self.scale is None else self.scale[chosen]
        return Step(self.residual[chosen], [share[chosen] for share in self.shares], scale)


def huber(residual: np.ndarray, delta: float) -> np.ndarray:
    size = np.abs(residual)
    inner = np.minimum(size, delta)
    return inner * (size - 0.5 * inner)


def evaluate(theta: np.ndarray, problem: Problem, target: np.ndarray) -> Step:
    """`target`: log losses, (n,) or (batch, n)."""
    absent = np.full((len(theta), problem.z.size), -np.inf)
    logs = [theta[:, group] @ problem.covariates[group] if group.size else absent for group in problem.groups()]
    top = np.maximum(np.maximum(logs[0], logs[1]), logs[2])
    shares = [np.exp(term - top) for term in logs]
    total = shares[0] + shares[1] + shares[2]
    prediction = np.log(total) + top
    for share in shares:
        share /= total
    if problem.log:
        return Step(prediction - target, shares, None)
    scale = np.exp(prediction)
    return Step(scale - np.exp(target), shares, scale)


def objective(theta: np.ndarray, residual: np.ndarray, counts: np.ndarray, problem: Problem) -> np.ndarray:
    """Sum (not mean) of Huber terms, each counted as often as it was drawn, plus the prior: shape (batch,)."""
    prior = 0.5 * ((theta - problem.prior_mean) ** 2 * problem.prior_precision).sum(axis=1)
    return (counts * huber(residual, problem.delta)).sum(axis=1) + prior


def derivatives(
    theta: np.ndarray, step: Step, counts: np.ndarray, problem: Problem, newton: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Gradient (batch, p) and the Hessian (batch, p, p): the objective's own in rows of `newton`, else reweighted.

    With J the residual's gradient and v_k the covariates of term k, log L has the second derivative
    Σ_k share_k v_k v_kᵀ - J Jᵀ, and L has L Σ_k share_k v_k v_kᵀ.
    """
    residual, shares, scale = step
    size = np.abs(residual)
    slope = counts * np.clip(residual, -problem.delta, problem.delta)
    pulled = slope if scale is None else slope * scale
    jacobian = np.empty((len(theta), len(problem.terms), residual.shape[1]))
    for p, term in enumerate(problem.terms):
        np.multiply(shares[term] if scale is None else shares[term] * scale, problem.covariates[p], out=jacobian[:, p])
    gradient = (jacobian @ slope[:, :, None])[..., 0]
    gradient += (theta - problem.prior_mean) * problem.prior_precision
    curved = counts * (size <= problem.delta) - (slope if problem.log else 0.0)
    weighted = counts * np.minimum(1.0, problem.delta / np.maximum(size, 1e-300))
    hessian = (jacobian * np.where(newton[:, None], curved, weighted)[:, None]) @ jacobian.transpose(0, 2, 1)
    hessian += np.diag(problem.prior_precision)
    rows = np.flatnonzero(newton)
    if rows.size:
        for group, share in zip(problem.groups(), shares, strict=True):
            if not group.size:
                continue
            vectors = problem.covariates[group]
            products = (vectors[:, None] * vectors[None]).reshape(group.size**2, -1)
            block = (pulled * share)[rows] @ products.T
            hessian[np.ix_(rows, group, group)] += block.reshape(-1, group.size, group.size)
    return gradient, hessian


def polish(
    starts: np.ndarray,
    problem: Problem,
    counts: np.ndarray | None = None,
    target: np.ndarray | None = None,
    iterations: int = 300,
    tolerance: float = 1e-11,
) -> tuple[np.ndarray, np.ndarray]:
    """Minimise from every start: θ (batch, p) and objective (batch,).

    `counts` (batch, n) weights the runs (bootstrap); `target` (batch, n) replaces the log losses (simulated data).
    """
    theta = np.array(starts, dtype=np.float64)
    size, n = len(theta), problem.z.size
    counts = np.broadcast_to(np.ones((1, n)) if counts is None else counts, (size, n))
    target = np.broadcast_to(problem.z if target is None else target, (size, n))
    mean = np.broadcast_to(problem.prior_mean, theta.shape)
    damping, quiet = np.full(size, 1e-3), np.zeros(size, dtype=int)
    reweighted = np.full(size, REWEIGHTED_FIRST)
    here = problem._replace(prior_mean=mean)
    at = evaluate(theta, here, target)
    value = objective(theta, at.residual, counts, here)
    active = np.arange(size)
    eye = np.eye(theta.shape[1])
    for _ in range(iterations):
        local = here._replace(prior_mean=mean[active])
        inside = (np.abs(at.residual) <= problem.delta).sum(axis=1)  # fewer than parameters: no curvature for Newton
        newton = (reweighted[active] <= 0) & (inside >= theta.shape[1])
        gradient, hessian = derivatives(theta[active], at, counts[active], local, newton)
        diagonal = np.abs(np.einsum("bii->bi", hessian))
        ridge = damping[active, None] * diagonal + 1e-14 * diagonal.max(axis=1, keepdims=True) + 1e-300
        step = np.linalg.solve(hessian + ridge[:, :, None] * eye, -gradient[..., None])[..., 0]
        trial = theta[active] + np.clip(step, -2.0, 2.0)
        there = evaluate(trial, local, target[active])
        trial_value = objective(trial, there.residual, counts[active], local)
        better = trial_value < value[active]
        gain = np.where(better, value[active] - trial_value, 0.0)
        quiet[active] = np.where(gain <= tolerance * (np.abs(value[active]) + 1e-30), quiet[active] + 1, 0)
        moved, failed = active[better], newton & ~better
        theta[moved], value[moved] = trial[better], trial_value[better]
        damping[active] = np.clip(np.where(better, damping[active] * 0.2, damping[active] * 5.0), 1e-12, 1e8)
        damping[active[failed]] = 1e-3
        reweighted[active] = np.where(failed, REWEIGHTED_AFTER_FAILURE, reweighted[active] - 1)
        go_on = quiet[active] < QUIET
        at = _choose(better, there, at).rows(go_on)
        active = active[go_on]
        if not active.size:
            break
    return theta, value


def _choose(better: np.ndarray, new: Step, old: Step) -> Step:
    rows = better[:, None]
    shares = [np.where(rows, a, b) for a, b in zip(new.shares, old.shares, strict=True)]
    scale = None if new.scale is None or old.scale is None else np.where(rows, new.scale, old.scale)
    return Step(np.where(rows, new.residual, old.residual), shares, scale)


def projected_starts(
    problem: Problem, exponents: tuple[np.ndarray, np.ndarray], keep: int, sweeps: int = 6
) -> np.ndarray:
    """The `keep` best (a, b, e, α, β) of a grid of exponents, (E, A, B) by reweighted least squares at each."""
    alpha, beta = (grid.ravel() for grid in np.meshgrid(*exponents, indexing="ij"))
    loss = np.exp(problem.z)
    minus_log_n, minus_log_d = problem.covariates[3], problem.covariates[4]
    size_term, data_term = np.exp(alpha[:, None] * minus_log_n), np.exp(beta[:, None] * minus_log_d)
    columns = np.stack([size_term, data_term, np.ones_like(size_term)], axis=-1)
    scale = loss if problem.log else np.ones_like(loss)
    design, response = columns / scale[:, None], loss / scale
    weight = np.ones((alpha.size, loss.size))
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
    value = objective(theta, evaluate(theta, problem, problem.z).residual, np.ones((1, loss.size)), problem)
    return theta[np.argsort(value, kind="stable")[:keep]]
