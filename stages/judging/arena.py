"""Bradley–Terry ratings by maximum likelihood, with sandwich intervals.

P(a beats b) = σ(θ_a - θ_b), ratings with mean 0; a tie is half a win for each (Bradley and Terry 1952; Chatbot Arena,
arXiv:2403.04132). Battles are compressed to win counts per pair before the fit, so its cost doesn't grow with them.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse.csgraph import connected_components

from stages.base.errors import InputError

PRIOR_TIES = 1.0  # ties added to each compared pair where a model has won or lost everything
Z95 = 1.959963984540054


@dataclass(frozen=True)
class Ratings:
    """Log-strengths with mean 0, and 95 % intervals from the sandwich covariance."""

    ratings: dict[str, float]
    standard_errors: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    n_battles: int
    regularised: bool  # PRIOR_TIES were added, as the likelihood has no finite maximum without


def fit_bradley_terry(battles: Any) -> Ratings:
    """Ratings from columns model_a, model_b and winner ("model_a", "model_b" or "tie").

    battles: a DataFrame, Arrow table or dict of sequences. An optional column `cluster` names what makes battles
    dependent (one instruction, one voter): standard errors are then clustered by it.

    A finite maximum exists where every model has, through a chain of others, both beaten and lost to every other
    (Ford 1957). Where models are connected but that fails, PRIOR_TIES ties per compared pair are added and
    `regularised` is true. Raises InputError for no battles, an unknown winner, a model against itself, or models in
    groups that never met, whose ratings could not be compared.
    """
    try:
        a, b, winner = (np.asarray(battles[name], dtype=object) for name in ("model_a", "model_b", "winner"))
    except KeyError as error:
        raise InputError(f"battles: column {error} is missing") from None
    score = _scores(winner)
    if not len(score):
        raise InputError("battles: there are none")
    names, codes = np.unique(np.concatenate([a, b]).astype(str), return_inverse=True)
    a, b = codes[: len(a)], codes[len(a) :]
    if (a == b).any():
        raise InputError(f"battles: row {int(np.flatnonzero(a == b)[0])}: `{names[a[a == b][0]]}` meets itself")

    wins = np.zeros((len(names), len(names)))  # wins[i, j]: of i over j, a tie half for each
    np.add.at(wins, (a, b), score)
    np.add.at(wins, (b, a), 1 - score)
    regularised = not _has_maximum(wins, names)
    counts = wins + PRIOR_TIES / 2 * ((wins + wins.T) > 0) if regularised else wins
    theta, hessian = _newton(counts)
    covariance = _sandwich(theta, hessian, a, b, score, _cluster(battles, len(score)))
    errors = np.sqrt(np.diag(covariance))
    return Ratings(
        ratings={str(name): float(value) for name, value in zip(names, theta, strict=True)},
        standard_errors={str(name): float(value) for name, value in zip(names, errors, strict=True)},
        intervals={
            str(name): (float(value - Z95 * error), float(value + Z95 * error))
            for name, value, error in zip(names, theta, errors, strict=True)
        },
        n_battles=len(score),
        regularised=regularised,
    )


def _scores(winner: np.ndarray) -> np.ndarray:
    values = {"model_a": 1.0, "model_b": 0.0, "tie": 0.5}
    try:
        return np.array([values[w] for w in winner.tolist()], dtype=np.float64)
    except (KeyError, TypeError):
        row = next(i for i, w in enumerate(winner.tolist()) if not isinstance(w, str) or w not in values)
        raise InputError(f"battles: row {row}: winner must be model_a, model_b or tie, not {winner[row]!r}") from None


def _cluster(battles: Any, count: int) -> np.ndarray | None:
    columns = battles.keys() if isinstance(battles, dict) else getattr(battles, "column_names", None) or battles.columns
    if "cluster" not in list(columns):
        return None
    codes = np.unique(np.asarray(battles["cluster"]).astype(str), return_inverse=True)[1]
    if len(codes) != count:
        raise InputError(f"battles: `cluster` has {len(codes)} rows, the others {count}")
    return codes


def _has_maximum(wins: np.ndarray, names: np.ndarray) -> bool:
    groups, label = connected_components(wins > 0, directed=True, connection="weak")
    if groups > 1:
        first = ", ".join(names[label == 0][:5])
        other = ", ".join(names[label == 1][:5])
        raise InputError(
            f"battles: {groups} groups of models never met, so they can't be rated together: {first} | {other}"
        )
    return bool(connected_components(wins > 0, directed=True, connection="strong")[0] == 1)


def _newton(wins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(θ with mean 0, Hessian of the negative log-likelihood with the null direction filled)."""
    n = len(wins)
    games = wins + wins.T
    total = wins.sum(1)
    upper = np.triu_indices(n, 1)

    def loss(theta: np.ndarray) -> float:
        gap = theta[:, None] - theta[None, :]
        both = wins * np.logaddexp(0, -gap)
        return float(both[upper].sum() + both.T[upper].sum())

    theta, here = np.zeros(n), loss(np.zeros(n))
    for _ in range(200):
        p = 0.5 * (1 + np.tanh(0.5 * (theta[:, None] - theta[None, :])))
        gradient = total - (games * p).sum(1)
        curvature = games * p * (1 - p)
        hessian = np.diag(curvature.sum(1)) - curvature + 1.0 / n
        step = np.linalg.solve(hessian, gradient)
        step -= step.mean()
        if np.abs(step).max() < 1e-11:
            return theta + step, hessian
        scale = 1.0
        while (there := loss(theta + scale * step)) > here + 1e-12 * abs(here) and scale > 1e-8:
            scale /= 2
        theta, here = theta + scale * step, there
    raise InputError("battles: the Bradley–Terry fit doesn't converge; some models are all but unbeaten")


def _sandwich(
    theta: np.ndarray, hessian: np.ndarray, a: np.ndarray, b: np.ndarray, score: np.ndarray, cluster: np.ndarray | None
) -> np.ndarray:
    """H⁻¹ (Σ g gᵀ) H⁻¹ over battles or clusters, g their score contributions; the null direction is projected out."""
    n = len(theta)
    residual = score - 0.5 * (1 + np.tanh(0.5 * (theta[a] - theta[b])))
    if cluster is None:
        meat = np.zeros((n, n))
        squared = residual**2
        np.add.at(meat, (a, a), squared)
        np.add.at(meat, (b, b), squared)
        np.add.at(meat, (a, b), -squared)
        np.add.at(meat, (b, a), -squared)
    else:
        contribution = np.zeros((int(cluster.max()) + 1, n))
        np.add.at(contribution, (cluster, a), residual)
        np.add.at(contribution, (cluster, b), -residual)
        meat = contribution.T @ contribution
    inverse = np.linalg.inv(hessian) - 1.0 / n  # hessian has eigenvalue 1 in the direction of equal shifts
    return inverse @ meat @ inverse
