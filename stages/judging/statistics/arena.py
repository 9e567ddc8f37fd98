"""Bradley–Terry ratings by maximum likelihood, with sandwich intervals, style control and ranks.

P(a beats b) = σ(θ_a - θ_b + style), ratings with mean 0; a tie is half a win for each (Bradley and Terry 1952; Chatbot
Arena, arXiv:2403.04132). Without style, battles are compressed to win counts per pair before the fit, so that its cost
doesn't grow with them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from scipy import sparse

from stages.base.errors import InputError
from stages.judging.statistics.battles import Battles, groups, has_maximum, read
from stages.judging.statistics.logistic import sigmoid

PRIOR_TIES = 1.0  # ties added to each compared pair where a model has won or lost everything
Z95 = 1.959963984540054


@dataclass(frozen=True)
class Ratings:
    """Log-strengths with mean 0 (in each group of models), and 95 % intervals from the sandwich covariance."""

    ratings: dict[str, float]
    standard_errors: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    n_battles: int
    regularised: bool  # PRIOR_TIES were added, as the likelihood has no finite maximum without
    groups: dict[str, int]  # models of different groups never met: their ratings can't be compared
    style: dict[str, tuple[float, float]]  # weight and standard error, per standard deviation of the difference
    covariance: np.ndarray = field(repr=False, compare=False)  # [n, n], in the order of `ratings`


@dataclass(frozen=True)
class Rows:
    """Battles, or sums of battles between the same two models."""

    a: np.ndarray
    b: np.ndarray
    games: np.ndarray
    wins: np.ndarray  # of a, ties half
    features: np.ndarray  # [rows, k]


def fit_bradley_terry(
    battles: Any, *, style: Sequence[str] = (), disconnected: Literal["refuse", "separate"] = "refuse"
) -> Ratings:
    """Ratings from columns model_a, model_b and winner ("model_a", "model_b" or "tie").

    battles: a DataFrame, Arrow table or dict of sequences. An optional column `cluster` names what makes battles
    dependent (one instruction, one voter): standard errors are then clustered by it.
    style: features held equal, with columns `<name>_a` and `<name>_b` (counts; `style.counted` makes them). As in
    Arena's style control each enters as (a - b) / (a + b), here divided by its standard deviation but not centred:
    centring would give side a an advantage.
    disconnected: where groups of models never met, "separate" rates each group by itself (mean 0 in each).

    A finite maximum exists where every model has, through a chain of others, both beaten and lost to every other
    (Ford 1957). Where models are connected but that fails, PRIOR_TIES ties per compared pair are added and
    `regularised` is true. Raises InputError for no battles, an unknown winner, a model against itself, or, by default,
    models in groups that never met.
    """
    parsed = read(battles, style)
    wins = parsed.wins()
    label = groups(wins)
    if label.max() == 0:
        return _fit_group(parsed, wins, tuple(style))
    if disconnected == "refuse":
        first, other = (", ".join(np.array(parsed.names)[label == group][:5]) for group in (0, 1))
        raise InputError(
            f"battles: {label.max() + 1} groups of models never met, so they can't be rated together: {first} | {other}"
        )
    if style:
        raise InputError("battles: style is held equal over models that can be compared; rate the groups one by one")
    return _together([_fit_group(g, g.wins(), ()) for g in (parsed.only(label[parsed.a] == i) for i in set(label))])


def ranks(fitted: Ratings, z: float = Z95) -> dict[str, tuple[int, int]]:
    """Best and worst rank of each model in its group: how many are above it, or not below it, beyond doubt.

    Models are compared by the standard error of their difference, which their separate intervals overstate or
    understate; each comparison stands by itself (no correction for their number).
    """
    names = list(fitted.ratings)
    theta = np.array(list(fitted.ratings.values()))
    variance = np.diag(fitted.covariance)
    error = np.sqrt(np.maximum(variance[:, None] + variance - 2 * fitted.covariance, 0))
    group = np.array(list(fitted.groups.values()))
    same = group[:, None] == group
    above = (theta[None, :] - theta[:, None] > z * error) & same  # above[i, j]: j is above i
    np.fill_diagonal(above, False)
    return {
        name: (1 + int(above[i].sum()), int(same[i].sum()) - int(above[:, i].sum())) for i, name in enumerate(names)
    }


def compressed(battles: Battles) -> Rows:
    """One row a pair where there is no style; else one a battle."""
    if battles.features.shape[1]:
        return Rows(battles.a, battles.b, np.ones(len(battles.a)), battles.score, battles.features)
    wins = battles.wins()
    a, b = np.nonzero(np.triu(wins + wins.T))
    return Rows(a, b, (wins + wins.T)[a, b], wins[a, b], np.zeros((len(a), 0)))


def with_prior(rows: Rows) -> Rows:
    """PRIOR_TIES more ties between every two models that met, in equal style."""
    pairs = np.unique(np.sort(np.column_stack([rows.a, rows.b]), axis=1), axis=0)
    count = len(pairs)
    return Rows(
        np.concatenate([rows.a, pairs[:, 0]]),
        np.concatenate([rows.b, pairs[:, 1]]),
        np.concatenate([rows.games, np.full(count, PRIOR_TIES)]),
        np.concatenate([rows.wins, np.full(count, PRIOR_TIES / 2)]),
        np.vstack([rows.features, np.zeros((count, rows.features.shape[1]))]),
    )


def maximum(rows: Rows, n: int, start: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """([n + k]: θ with mean 0 and style weights; Hessian of the negative log-likelihood, its null direction filled)."""
    k = rows.features.shape[1]

    def logit(w: np.ndarray) -> np.ndarray:
        return w[rows.a] - w[rows.b] + rows.features @ w[n:]

    def loss(w: np.ndarray) -> float:
        z = logit(w)
        return float(rows.games @ np.logaddexp(0, z) - rows.wins @ z)

    w = np.zeros(n + k) if start is None else start.copy()
    here = loss(w)
    for _ in range(200):
        p = sigmoid(logit(w))
        gradient = _scatter(rows, rows.wins - rows.games * p, n).sum(0)
        hessian = _curvature(rows, rows.games * p * (1 - p), n)
        step = np.linalg.solve(hessian, gradient)
        step[:n] -= step[:n].mean()
        if np.abs(step).max() < 1e-11:
            return w + step, hessian
        scale = 1.0
        while (there := loss(w + scale * step)) > here + 1e-12 * abs(here) and scale > 1e-8:
            scale /= 2
        w, here = w + scale * step, there
    raise InputError("battles: the Bradley–Terry fit doesn't converge; some models are all but unbeaten")


def _curvature(rows: Rows, weight: np.ndarray, n: int) -> np.ndarray:
    k = rows.features.shape[1]
    between = np.bincount(rows.a * n + rows.b, weight, n * n).reshape(n, n)
    between += between.T
    hessian = np.zeros((n + k, n + k))
    hessian[:n, :n] = np.diag(between.sum(1)) - between + 1.0 / n
    for j in range(k):
        weighted = weight * rows.features[:, j]
        cross = np.bincount(rows.a, weighted, n) - np.bincount(rows.b, weighted, n)
        hessian[:n, n + j] = hessian[n + j, :n] = cross
    hessian[n:, n:] = (rows.features * weight[:, None]).T @ rows.features
    return hessian


def _scatter(rows: Rows | Battles, residual: np.ndarray, n: int) -> sparse.csr_array:
    """[rows, n + k]: each row's share of the gradient."""
    count, k = len(residual), rows.features.shape[1]
    at = np.arange(count)
    styled = residual[:, None] * rows.features
    return sparse.csr_array(
        (
            np.concatenate([residual, -residual, styled.ravel()]),
            (
                np.concatenate([at, at, np.repeat(at, k)]),
                np.concatenate([rows.a, rows.b, np.tile(n + np.arange(k), count)]),
            ),
        ),
        shape=(count, n + k),
    )


def _fit_group(battles: Battles, wins: np.ndarray, style: tuple[str, ...]) -> Ratings:
    n = len(battles.names)
    rows = compressed(battles)
    regularised = not has_maximum(wins)
    estimate, hessian = maximum(with_prior(rows) if regularised else rows, n)
    covariance = _sandwich(battles, estimate, hessian)
    errors = np.sqrt(np.diag(covariance))
    values = dict(zip(battles.names, zip(estimate[:n].tolist(), errors[:n].tolist(), strict=True), strict=True))
    return Ratings(
        ratings={name: theta for name, (theta, _) in values.items()},
        standard_errors={name: error for name, (_, error) in values.items()},
        intervals={name: (theta - Z95 * error, theta + Z95 * error) for name, (theta, error) in values.items()},
        n_battles=len(battles.score),
        regularised=regularised,
        groups=dict.fromkeys(battles.names, 0),
        style={name: (float(estimate[n + j]), float(errors[n + j])) for j, name in enumerate(style)},
        covariance=covariance[:n, :n],
    )


def _sandwich(battles: Battles, estimate: np.ndarray, hessian: np.ndarray) -> np.ndarray:
    n = len(battles.names)
    p = sigmoid(estimate[battles.a] - estimate[battles.b] + battles.features @ estimate[n:])
    share = _scatter(battles, battles.score - p, n)
    if battles.cluster is not None:
        count = len(battles.score)
        member = sparse.csr_array((np.ones(count), (battles.cluster, np.arange(count))))
        share = member @ share
    meat = (share.T @ share).toarray()
    inverse = np.linalg.inv(hessian)
    inverse[:n, :n] -= 1.0 / n  # hessian has eigenvalue 1 in the direction of equal shifts
    return inverse @ meat @ inverse


def _together(parts: list[Ratings]) -> Ratings:
    named = {name: (part, i) for i, part in enumerate(parts) for name in part.ratings}
    names = sorted(named)
    covariance = np.zeros((len(names), len(names)))
    for part in parts:
        places = np.array([names.index(name) for name in part.ratings])
        covariance[np.ix_(places, places)] = part.covariance
    return Ratings(
        ratings={name: named[name][0].ratings[name] for name in names},
        standard_errors={name: named[name][0].standard_errors[name] for name in names},
        intervals={name: named[name][0].intervals[name] for name in names},
        n_battles=sum(part.n_battles for part in parts),
        regularised=any(part.regularised for part in parts),
        groups={name: named[name][1] for name in names},
        style={},
        covariance=covariance,
    )
