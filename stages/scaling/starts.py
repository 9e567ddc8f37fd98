"""Starting points of a law's fit by variable projection (Golub and Pereyra 1973).

The surface has many poor local minima: of the usual grid of 4,500 starts one in ten reaches the best. But given its two
exponents the law is linear in (E, A, B), so a grid over two numbers, not five, covers it.
"""

import numpy as np

from stages.scaling.solver import Problem, evaluate, objective


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
