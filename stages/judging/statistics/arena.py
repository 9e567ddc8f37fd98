"""Bradley–Terry ratings by maximum likelihood, with profile-likelihood intervals.

P(a beats b) = σ(θ_a - θ_b), ratings with mean 0; a tie is half a win for each (Bradley and Terry 1952; Chatbot Arena,
arXiv:2403.04132). Battles are compressed to win counts per pair, so that a fit's cost doesn't grow with them.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from scipy import sparse

from stages.base.errors import InputError
from stages.judging.statistics.battles import Battles, groups, has_maximum, read
from stages.judging.statistics.intervals import Bounds, exact_deviance, likelihood_end, shrunk
from stages.judging.statistics.logistic import log1pexp, sigmoid

PRIOR_TIES = 1.0  # ties added to each compared pair where a model has won or lost everything
_END = 15.0  # log-strength beyond which nothing is left to learn


@dataclass(frozen=True)
class Ratings:
    """Log-strengths with mean 0 (in each group of models), and their sandwich standard errors."""

    ratings: dict[str, float]
    standard_errors: dict[str, float]
    n_battles: int
    regularised: bool  # PRIOR_TIES were added, as the likelihood has no finite maximum without
    groups: dict[str, int]  # models of different groups never met: their ratings can't be compared
    fits: "list[Fit]" = field(repr=False, compare=False)  # one a group

    @cached_property
    def intervals(self) -> dict[str, Bounds]:
        """95 %; infinite above (below) for a model that won (lost) everything. Some milliseconds a model."""
        found = {name: bounds for fitted in self.fits for name, bounds in fitted.intervals().items()}
        return {name: found[name] for name in self.ratings}


def fit_bradley_terry(battles: Any, *, disconnected: Literal["refuse", "separate"] = "refuse") -> Ratings:
    """Ratings from columns model_a, model_b and winner ("model_a", "model_b" or "tie").

    battles: a DataFrame, Arrow table or dict of sequences. An optional column `cluster` names what makes battles
    dependent (one instruction, one voter): standard errors and intervals are then clustered by it.
    disconnected: where groups of models never met, "separate" rates each group by itself (mean 0 in each).

    A finite maximum exists where every model has, through a chain of others, both beaten and lost to every other
    (Ford 1957). Where models are connected but that fails, PRIOR_TIES ties per compared pair are added and
    `regularised` is true. Raises InputError for no battles, an unknown winner, a model against itself, or, by default,
    models in groups that never met.
    """
    parsed = read(battles)
    label = groups(parsed.wins())
    if label.max() > 0 and disconnected == "refuse":
        first, other = (", ".join(np.array(parsed.names)[label == group][:5]) for group in (0, 1))
        raise InputError(
            f"battles: {label.max() + 1} groups of models never met, so they can't be rated together: {first} | {other}"
        )
    fits = [Fit(parsed if label.max() == 0 else parsed.only(label[parsed.a] == k)) for k in range(label.max() + 1)]
    rated = {
        name: (float(theta), float(error), k)
        for k, fitted in enumerate(fits)
        for name, theta, error in zip(fitted.battles.names, fitted.theta, fitted.errors, strict=True)
    }
    return Ratings(
        ratings={name: rated[name][0] for name in parsed.names},
        standard_errors={name: rated[name][1] for name in parsed.names},
        n_battles=len(parsed.score),
        regularised=any(fitted.regularised for fitted in fits),
        groups={name: rated[name][2] for name in parsed.names},
        fits=fits,
    )


class Fit:
    """The maximum of one group of models that met, and the likelihood about it."""

    def __init__(self, battles: Battles) -> None:
        self.battles, self.wins = battles, battles.wins()
        self.regularised = not has_maximum(self.wins)
        met = (self.wins + self.wins.T) > 0
        self.theta, hessian = maximum(self.wins + PRIOR_TIES / 2 * met if self.regularised else self.wins)
        n = len(self.theta)
        self.naive = np.linalg.inv(hessian) - 1.0 / n  # hessian has eigenvalue 1 in the direction of equal shifts
        share = self._shares()
        covariance = self.naive @ (share.T @ share).toarray() @ self.naive
        self.errors = np.sqrt(np.diag(covariance))

    def _shares(self) -> sparse.csr_array:
        """[battles or clusters, n]: what each adds to the gradient."""
        battles, n, count = self.battles, len(self.theta), len(self.battles.score)
        residual = battles.score - sigmoid(self.theta[battles.a] - self.theta[battles.b])
        at = np.arange(count)
        places = (np.concatenate([at, at]), np.concatenate([battles.a, battles.b]))
        share = sparse.csr_array((np.concatenate([residual, -residual]), places), shape=(count, n))
        if battles.cluster is None:
            return share
        return sparse.csr_array((np.ones(count), (battles.cluster, at))) @ share

    def intervals(self) -> dict[str, Bounds]:
        """By profile likelihood, against what the exact bounds of each model's own record would have. Nothing is
        added to the battles here: where some models beat all others and never lose to them, the mean that ratings are
        measured from has no bound, and the ends that depend on it are infinite.
        """
        best = _descend(self.wins, self.theta, np.ones(len(self.theta), bool))[0]
        reach = _reachable(self.wins)
        return {
            name: self._interval(i, best, bool(reach[i].all()), bool(reach[:, i].all()))
            for i, name in enumerate(self.battles.names)
        }

    def _interval(self, i: int, best: float, beats_all: bool, loses_to_all: bool) -> Bounds:
        """beats_all, loses_to_all: through whatever chain of others."""
        won, lost = float(self.wins[i].sum()), float(self.wins[:, i].sum())
        games, clusters = won + lost, self._clusters(i)
        spread, degrees = 1.0, np.inf
        if not won or not lost:
            spread = games / clusters  # nothing shows how battles of a cluster hang together: as one
        elif self.battles.cluster is not None or (self.battles.score == 0.5).any():
            found = float(self.errors[i] ** 2 / self.naive[i, i]) * clusters / max(clusters - 1, 1)
            spread, degrees = min(shrunk(found, clusters), games / clusters), clusters - 1.0
        below, above = exact_deviance(won, games, spread, degrees)
        n, rest = len(self.theta), np.arange(len(self.theta)) != i
        last = self.theta

        def loss(at: float) -> float:
            nonlocal last
            start = last - last[rest].mean()
            start[i] = at * n / (n - 1)  # beside others of mean 0
            least, last = _descend(self.wins, start, rest)
            return least

        low, high, here, step = -np.inf, np.inf, float(self.theta[i]), float(np.sqrt(self.naive[i, i]))
        if beats_all:
            low = likelihood_end(loss, here, best, -step, below, _END)
        if loses_to_all:
            last = self.theta
            high = likelihood_end(loss, here, best, step, above, _END)
        return Bounds(low, high)

    def _clusters(self, i: int) -> int:
        """Independent things that the model's record is made of."""
        mine = (self.battles.a == i) | (self.battles.b == i)
        return int(mine.sum()) if self.battles.cluster is None else len(np.unique(self.battles.cluster[mine]))


def _reachable(wins: np.ndarray) -> np.ndarray:
    """[n, n]: whether i has beaten j, through whatever chain of others."""
    reach = (wins > 0) | np.eye(len(wins), dtype=bool)
    for _ in range(len(wins).bit_length()):
        reach = reach @ reach
    return reach


def maximum(wins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(θ [n] with mean 0; Hessian of the negative log-likelihood, its null direction filled); wins [n, n]."""
    n = len(wins)
    games, total = wins + wins.T, wins.sum(1)
    w = np.zeros(n)
    here = _loss(wins, w)
    for _ in range(200):
        p = sigmoid(w[:, None] - w)
        between = games * p * (1 - p)
        hessian = np.diag(between.sum(1)) - between + 1.0 / n
        step = np.linalg.solve(hessian, total - (games * p).sum(1))
        step -= step.mean()
        if np.abs(step).max() < 1e-11:
            return w + step, hessian
        scale = 1.0
        while (there := _loss(wins, w + scale * step)) > here + 1e-12 * abs(here) and scale > 1e-8:
            scale /= 2
        w, here = w + scale * step, there
    raise InputError("battles: the Bradley–Terry fit doesn't converge; some models are all but unbeaten")


def _descend(wins: np.ndarray, start: np.ndarray, free: np.ndarray) -> tuple[float, np.ndarray]:
    """(The least negative log-likelihood, where), over the free models at their common mean; start: θ [n]."""
    games, total = wins + wins.T, wins.sum(1)
    w, here = start, _loss(wins, start)
    count = int(free.sum())
    for _ in range(200 if count > 1 else 0):
        p = sigmoid(w[:, None] - w)
        between = games * p * (1 - p)
        hessian = (np.diag(between.sum(1)) - between)[np.ix_(free, free)]
        gradient = (total - (games * p).sum(1))[free]
        step = np.linalg.solve(hessian + 1.0 / count + 1e-9 * np.eye(count), gradient - gradient.mean())
        step -= step.mean()
        step *= min(1.0, 5 / max(float(np.abs(step).max()), 1e-300))
        scale = 1.0
        while scale > 1e-6:
            moved = w.copy()
            moved[free] += scale * step
            if (there := _loss(wins, moved)) <= here:
                break
            scale /= 2
        else:
            break
        gained, w, here = here - there, moved, there
        if gained < 1e-7:
            break
    return here, w


def _loss(wins: np.ndarray, w: np.ndarray) -> float:
    return float((wins * log1pexp(w - w[:, None])).sum())
