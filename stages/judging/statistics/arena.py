"""Bradley–Terry ratings by maximum likelihood, with profile-likelihood intervals.

P(a beats b) = σ(θ_a - θ_b), ratings with mean 0; a tie is half a win for each (Bradley and Terry 1952; Chatbot Arena,
arXiv:2403.04132). Battles are compressed to win counts per pair, so that a fit's cost doesn't grow with them.

Where battles are separated (a model, or several, never lost to the rest) the likelihood has no finite maximum. Ratings
are then those of the likelihood penalised by Jeffreys' prior (Firth 1993), and an end that the likelihood leaves open
is where the penalised profile likelihood ends (Heinze and Schemper 2002). Both are finite.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from scipy import sparse
from scipy.stats import chi2

from stages.base.errors import InputError
from stages.judging.statistics.battles import Battles, groups, has_maximum, read
from stages.judging.statistics.intervals import Bounds, exact_deviance, likelihood_end, shrunk
from stages.judging.statistics.logistic import log1pexp, sigmoid

WITHIN = float(chi2.ppf(0.95, 1))  # twice the penalised log-likelihood within which a 95 % interval lies
_END = 15.0  # log-strength beyond which nothing is left to learn


@dataclass(frozen=True)
class Ratings:
    """Log-strengths with mean 0 (in each group of models), and their sandwich standard errors."""

    ratings: dict[str, float]
    standard_errors: dict[str, float]
    n_battles: int
    regularised: bool  # the likelihood has no finite maximum without Firth's penalty
    groups: dict[str, int]  # models of different groups never met: their ratings can't be compared
    fits: "list[Fit]" = field(repr=False, compare=False)  # one a group

    @cached_property
    def intervals(self) -> dict[str, Bounds]:
        """95 %. Some milliseconds a model."""
        found = {name: bounds for fitted in self.fits for name, bounds in fitted.intervals().items()}
        return {name: found[name] for name in self.ratings}


def fit_bradley_terry(battles: Any, *, disconnected: Literal["refuse", "separate"] = "refuse") -> Ratings:
    """Ratings from columns model_a, model_b and winner ("model_a", "model_b" or "tie").

    battles: a DataFrame, Arrow table or dict of sequences. An optional column `cluster` names what makes battles
    dependent (one instruction, one voter): standard errors and intervals are then clustered by it.
    disconnected: where groups of models never met, "separate" rates each group by itself (mean 0 in each).

    A finite maximum exists where every model has, through a chain of others, both beaten and lost to every other
    (Ford 1957). Where models are connected but that fails, the likelihood is penalised and `regularised` is true.
    Raises InputError for no battles, an unknown winner, a model against itself, or, by default, models in groups that
    never met.
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
        if self.regularised:
            n = len(self.wins)
            self.theta = _descend(self.wins, np.zeros(n), np.ones(n, bool), penalised=True)[1]
            hessian = information(self.wins + self.wins.T, self.theta)
        else:
            self.theta, hessian = maximum(self.wins)
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
        """By profile likelihood, against what the exact bounds of each model's own record would have. Where some models
        beat all others and never lose to them, the mean that ratings are measured from has no bound in the likelihood:
        the ends that depend on it are those of the penalised one.
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
        widest = games / clusters  # the spread of wins and losses, battles of a cluster as one
        spread, degrees = 1.0, np.inf
        if not won or not lost:
            spread = widest  # nothing shows how battles of a cluster hang together
        elif self.battles.cluster is not None or (self.battles.score == 0.5).any():
            found = float(self.errors[i] ** 2 / self.naive[i, i]) * clusters / max(clusters - 1, 1)
            spread, degrees = min(shrunk(found, clusters), widest), clusters - 1.0
        # However few clusters the spread is estimated from: scores from 0 to 1 have none that is wider.
        ends = (exact_deviance(won, games, spread, degrees), exact_deviance(won, games, widest))
        below, above = (min(pair) for pair in zip(*ends, strict=True))
        step = float(np.sqrt(self.naive[i, i]))
        low, high = -np.inf, np.inf
        if beats_all:
            low = likelihood_end(self._profile(i), float(self.theta[i]), best, -step, below, _END)
        if loses_to_all:
            high = likelihood_end(self._profile(i), float(self.theta[i]), best, step, above, _END)
        if np.isinf([low, high]).any():
            share = self.wins / spread  # as many battles as are independent
            best, theta = _descend(share, self.theta, np.ones(len(self.theta), bool), penalised=True)
            if np.isinf(low):
                low = likelihood_end(self._profile(i, share), float(theta[i]), best, -step, WITHIN, _END)
            if np.isinf(high):
                high = likelihood_end(self._profile(i, share), float(theta[i]), best, step, WITHIN, _END)
        return Bounds(low, high)

    def _profile(self, i: int, share: np.ndarray | None = None) -> Callable[[float], float]:
        """The least negative log-likelihood with a rating of model i; the penalised one of `share` [n, n] of wins."""
        n, rest = len(self.theta), np.arange(len(self.theta)) != i
        last = self.theta

        def loss(at: float) -> float:
            nonlocal last
            start = last - last[rest].mean()
            start[i] = at * n / (n - 1)  # beside others of mean 0
            wins = self.wins if share is None else share
            least, last = _descend(wins, start, rest, penalised=share is not None)
            return least

        return loss

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
    games, total = wins + wins.T, wins.sum(1)
    w = np.zeros(len(wins))
    here = _loss(wins, w)
    for _ in range(200):
        hessian = information(games, w)
        step = np.linalg.solve(hessian, total - (games * sigmoid(w[:, None] - w)).sum(1))
        step -= step.mean()
        if np.abs(step).max() < 1e-11:
            return w + step, hessian
        scale = 1.0
        while (there := _loss(wins, w + scale * step)) > here + 1e-12 * abs(here) and scale > 1e-8:
            scale /= 2
        w, here = w + scale * step, there
    raise InputError("battles: the Bradley–Terry fit doesn't converge; some models are all but unbeaten")


def information(games: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Fisher's, [n, n], with eigenvalue 1 in the direction of equal shifts, of which battles say nothing."""
    p = sigmoid(w[:, None] - w)
    between = games * p * (1 - p)
    return np.diag(between.sum(1)) - between + 1.0 / len(w)


def leverage(games: np.ndarray, w: np.ndarray) -> np.ndarray:
    """[n, n]: of each pair's battles. Firth's correction of the score is that of so many ties more."""
    inverse, p = np.linalg.inv(information(games, w)), sigmoid(w[:, None] - w)
    at = np.diag(inverse)
    return games * p * (1 - p) * (at[:, None] + at - 2 * inverse)


def _descend(
    wins: np.ndarray, start: np.ndarray, free: np.ndarray, penalised: bool = False
) -> tuple[float, np.ndarray]:
    """(The least negative log-likelihood, where), over the free models at their common mean; start: θ [n].
    penalised: less half the log-determinant of the information."""
    games, total = wins + wins.T, wins.sum(1)
    loss = _penalised_loss if penalised else _loss
    w, here = start, loss(wins, start)
    count = int(free.sum())
    for _ in range(200 if count > 1 else 0):
        ties = leverage(games, w) if penalised else np.zeros_like(wins)
        p = sigmoid(w[:, None] - w)
        hessian = (information(games + ties, w) - 1.0 / len(w))[np.ix_(free, free)]
        gradient = (total + ties.sum(1) / 2 - ((games + ties) * p).sum(1))[free]
        step = np.linalg.solve(hessian + 1.0 / count + 1e-9 * np.eye(count), gradient - gradient.mean())
        step -= step.mean()
        step *= min(1.0, 5 / max(float(np.abs(step).max()), 1e-300))
        scale = 1.0
        while scale > 1e-6:
            moved = w.copy()
            moved[free] += scale * step
            if (there := loss(wins, moved)) <= here:
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


def _penalised_loss(wins: np.ndarray, w: np.ndarray) -> float:
    return _loss(wins, w) - float(np.linalg.slogdet(information(wins + wins.T, w))[1]) / 2
