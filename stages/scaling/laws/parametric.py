"""Fitting the parametric law to runs, and how sure one may be of it."""

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri, stdtrit  # scipy.stats takes a second to import

from stages.base.errors import InputError
from stages.base.progress import Progress
from stages.scaling.laws.law import NAMES, Law, Runs, columns_of, losses, optima
from stages.scaling.laws.solver import DATA, FLOOR, SIZE, Problem, evaluate, polish, projected_starts

LAD_DELTA = 1e-6  # in log loss: far below any residual, so that Huber's sum is least absolute deviations
GRID = 24
STARTS = 12
CELLS = 120_000  # resamples × runs that are fitted at once: their arrays fit a processor's cache
PARAMETERS = 5
SAMPLE = 2_000  # runs that starts are sought on: they needn't be exact, and on 20,000 runs the search takes minutes
NO_SLOPE = 1e-6  # an exponent below it is zero but for rounding
RAY = 0.01  # log D this near to a straight line in log N
TERMS = (SIZE, DATA, FLOOR, SIZE, DATA)  # of a, b, e, alpha, beta
UNBOUNDED = 1e300
FURTHEST = 0.01  # share of resamples beyond the estimate, below which its bias isn't corrected further
CLEAR = 3.0  # standard errors that a loss must fall by, over the runs, to be said to fall


class Estimate(NamedTuple):
    value: float
    low: float
    high: float


class Tails(NamedTuple):
    """How an interval ends: the share of draws beyond each end, and whether resampling's bias is corrected."""

    below: float
    corrected: bool


def of_resamples(level: float, n: int, parameters: int) -> Tails:
    """For a fit of `parameters` parameters refitted on n runs drawn with replacement.

    Resampling shows (n - parameters) / n of the variance, so percentiles are expanded, as Hesterberg 2015 ("What
    teachers should know about the bootstrap") does for a mean; and they are corrected for bias (Efron 1981).
    Plain percentiles of 36 runs' 95 % intervals cover the truth between 92 and 99 times in 100, these 95 to 98.
    """
    below, free = (1 - level) / 2, max(1, n - parameters)
    return Tails(float(ndtr(stdtrit(free, below) * (n / free) ** 0.5)), corrected=True)


def estimate(value: float, draws: np.ndarray, tails: Tails) -> Estimate:
    """NaN ends where no draw has a value; a draw without bound counts as one."""
    known = np.clip(draws[~np.isnan(draws)], -UNBOUNDED, UNBOUNDED)
    if not known.size:
        return Estimate(float(value), float("nan"), float("nan"))
    ends = np.array([tails.below, 1 - tails.below])
    if tails.corrected:
        under = (np.mean(known < value) + np.mean(known <= value)) / 2
        bias = ndtri(np.clip(under, FURTHEST, 1 - FURTHEST))
        ends = ndtr(2 * bias + ndtri(ends))
    low, high = np.quantile(known, ends)
    return Estimate(float(value), float(low), float(high))


class Prior(NamedTuple):
    """Independent normal priors, for ladders too small to identify five parameters: (mean, standard deviation).

    `noise` is the standard deviation of log loss between runs that differ in their seed only; it sets what a prior
    weighs against a run. The prior on E is on log E (nats per token).
    """

    alpha: tuple[float, float]
    beta: tuple[float, float]
    log_E: tuple[float, float]
    noise: float


@dataclass(frozen=True)
class ParametricFit(Law):
    """A fitted law; `objective` is the sum of the loss function over the runs (and the prior's term, if any)."""

    objective: float = float("nan")
    n: int = 0
    delta: float = 1e-3
    log_residual: bool = True
    residuals: tuple[float, ...] = ()

    @property
    def rms(self) -> float:
        """Root mean square of the residuals."""
        return float(np.sqrt(np.mean(np.square(self.residuals))))


@dataclass(frozen=True)
class Bootstrap:
    """Laws drawn around `fit`; `draws` has shape (resamples, 5) in the order A, B, E, alpha, beta.

    `n`: how many runs were resampled; None if the draws are of a posterior.
    """

    draws: np.ndarray
    objectives: np.ndarray
    fit: Law
    n: int | None = None

    @property
    def standard_errors(self) -> dict[str, float]:
        return dict(zip(NAMES, self.draws.std(axis=0, ddof=1).tolist(), strict=True))

    def tails(self, level: float) -> Tails:
        return Tails((1 - level) / 2, corrected=False) if self.n is None else of_resamples(level, self.n, PARAMETERS)

    def interval(self, level: float = 0.95) -> dict[str, tuple[float, float]]:
        """Interval of each parameter, and of the exponent a of N* in C."""
        a = self.draws[:, 4] / (self.draws[:, 3] + self.draws[:, 4])
        found = {}
        for name, values in zip((*NAMES, "a"), [*self.draws.T, a], strict=True):
            _, low, high = estimate(getattr(self.fit, name), values, self.tails(level))
            found[name] = (low, high)
        return found

    def loss(self, N: float, D: float, level: float = 0.95) -> Estimate:
        """The law's loss at one point with its interval; noise of a new run isn't in it."""
        return estimate(float(self.fit.predict(N, D)), self.predict(N, D), self.tails(level))

    def predict(self, N: ArrayLike, D: ArrayLike) -> np.ndarray:
        """Loss of every resample, (resamples,), at one point or at a point of its own."""
        return losses(self.draws, N, D)

    def optimum(self, C: float) -> np.ndarray:
        """Compute-optimal (N, D) of every resample, shape (resamples, 2)."""
        return optima(self.draws, C)


def fit_parametric(
    N: ArrayLike,
    D: ArrayLike,
    loss: ArrayLike,
    *,
    huber_delta: float = 1e-3,
    residual: Literal["log", "linear"] = "log",
    estimator: Literal["huber", "lad"] = "huber",
    prior: Prior | None = None,
    exponents: tuple[float, float] = (0.05, 1.5),
) -> ParametricFit:
    """L(N, D) = E + A·N^-α + B·D^-β by Huber's loss on log residuals (Hoffmann et al. 2022, equation 3).

    The *sum* of Huber terms is minimised: with the mean, quasi-Newton methods stop early. `estimator="lad"` is least
    absolute deviations, what Besiroglu et al. 2024 in effect report. `exponents` bounds the grid of starts, not the
    answer. Raises InputError for bad values, fewer than 5 runs (without a prior), runs that don't vary in N and D, or a
    loss that doesn't fall with both.
    """
    runs = Runs(*columns_of(N=N, D=D, loss=loss))
    centre, problem = _problem(*runs, huber_delta, residual, estimator, prior)
    grid = np.geomspace(*exponents, GRID)
    starts = projected_starts(_sample(problem), (grid, grid), STARTS)
    theta, value = _anneal(starts, problem, estimator)
    best = theta[[int(np.argmin(value))]]
    best, value = polish(best, problem, iterations=3000, tolerance=1e-15)
    gaps = evaluate(best, problem, problem.z).residual
    objective = float(value[0])
    if estimator == "lad":
        objective = float(np.abs(gaps).sum())
    law = _natural(best, centre)
    if not falling(law)[0]:
        rising = " or ".join(name for name, exponent in zip("ND", law[0, 3:], strict=True) if not exponent > NO_SLOPE)
        raise InputError(f"the loss doesn't fall with {rising or 'N or D'}, so there is no law; check those columns")
    A, B, E, alpha, beta = law[0].tolist()
    return ParametricFit(
        A=A,
        B=B,
        E=E,
        alpha=alpha,
        beta=beta,
        objective=objective,
        n=runs.loss.size,
        delta=problem.delta,
        log_residual=problem.log,
        residuals=tuple(gaps[0].tolist()),
    )


def bootstrap(
    N: ArrayLike,
    D: ArrayLike,
    loss: ArrayLike,
    *,
    resamples: int = 4000,
    seed: int = 0,
    indices: ArrayLike | None = None,
    huber_delta: float = 1e-3,
    residual: Literal["log", "linear"] = "log",
    estimator: Literal["huber", "lad"] = "huber",
    fit: ParametricFit | None = None,
) -> Bootstrap:
    """Refit on runs drawn with replacement; `indices` (resamples, n) fixes the draws, else `seed` makes them.

    `fit`: of the same runs with the same options, where it is known already.
    Every resample starts from the full fit; on Hoffmann's runs that misses a better optimum about once in 4,000.
    Raises InputError as `fit_parametric` does.
    """
    runs = Runs(*columns_of(N=N, D=D, loss=loss))
    centre, problem = _problem(*runs, huber_delta, residual, estimator, None)
    if fit is None:
        fit = fit_parametric(*runs, huber_delta=huber_delta, residual=residual, estimator=estimator)
    size = runs.loss.size
    if indices is None:
        drawn = np.random.default_rng(seed).integers(0, size, (resamples, size))
    else:
        drawn = np.asarray(indices)
        if drawn.ndim != 2 or drawn.min() < 0 or drawn.max() >= size:
            raise InputError(f"bootstrap indices must have shape (resamples, n) and lie in [0, {size})")
    counts = np.zeros((len(drawn), size))
    np.add.at(counts, (np.arange(len(drawn))[:, None], drawn), 1.0)
    start = _centred(fit, centre)
    parts, together = [], max(1, CELLS // size)
    with Progress(len(counts), "resampling the law", unit="resamples") as bar:
        for first in range(0, len(counts), together):
            block = counts[first : first + together]
            parts.append(_anneal(np.repeat(start[None], len(block), 0), problem, estimator, block, 150, 1e-9))
            bar.advance(len(block))
    theta = np.concatenate([part[0] for part in parts])
    return Bootstrap(_natural(theta, centre), np.concatenate([part[1] for part in parts]), fit, size)


def posterior(runs: Runs, fit: ParametricFit, prior: Prior, *, resamples: int, seed: int) -> Bootstrap:
    """Laws drawn by randomise-then-optimise (Bardsley et al. 2014): noise on losses and on the prior's means, refit.

    For few runs, where resampling them would leave the law unidentified. `fit` is of these runs under this prior. The
    noise is the larger of the prior's and the root mean square of the fit's residuals, so a law that doesn't fit
    widens its own interval.
    """
    centre, problem = _problem(*runs, fit.delta, "log", "huber", prior)
    noise = max(prior.noise, fit.rms)
    rng = np.random.default_rng(seed)
    target = problem.z + noise * rng.standard_normal((resamples, problem.z.size))
    spread = np.array([0.0, 0.0, prior.log_E[1], prior.alpha[1], prior.beta[1]])
    means = problem.prior_mean + spread * rng.standard_normal((resamples, PARAMETERS))
    starts = np.repeat(_centred(fit, centre)[None], resamples, 0)
    theta, value = polish(starts, problem._replace(prior_mean=means), target=target, iterations=200, tolerance=1e-9)
    return Bootstrap(_natural(theta, centre), value, fit)


def falling(laws: np.ndarray) -> np.ndarray:
    """Which of the laws (A, B, E, α, β), (n, 5), are finite and fall with N and D: others have no optimum."""
    return np.isfinite(laws).all(axis=1) & (laws[:, 3:] > NO_SLOPE).all(axis=1)


# What published fits say: α, β of .34/.28, .35/.37, .26/.30 ..., E of 1.1 to 2 nats per token; 1 % between seeds.
PUBLISHED = Prior(alpha=(0.35, 0.1), beta=(0.35, 0.1), log_E=(0.4, 0.4), noise=0.01)


@dataclass(frozen=True)
class Options:
    """How laws are fitted. `prior_below`: fewer runs than these take the prior; None: any number does."""

    huber_delta: float = 1e-3
    level: float = 0.9
    draws: int = 1000
    prior: Prior = PUBLISHED
    prior_below: int | None = 20
    seed: int = 0


@dataclass(frozen=True)
class FittedLaw:
    """A recipe's law, laws drawn around it, and the prior that it rests on, if any."""

    fit: ParametricFit
    draws: Bootstrap
    prior: Prior | None

    @property
    def noise(self) -> float:
        """Standard deviation of log loss of a run around the law: its residuals', and at least the prior's."""
        return self.fit.rms if self.prior is None else max(self.fit.rms, self.prior.noise)

    def new_run(self, N: float, D: float, level: float, seed: int) -> Estimate:
        """The loss one new run would reach: the law's uncertainty, and the noise of runs around it."""
        values = self.draws.predict(N, D)
        noisy = values * np.exp(self.noise * np.random.default_rng(seed).standard_normal(values.size))
        return estimate(float(self.fit.predict(N, D)), noisy, self.draws.tails(level))

    def best_size(self, C: float, level: float) -> Estimate:
        """N* at C FLOPs."""
        return estimate(self.fit.optimum(C).N, self.draws.optimum(C)[:, 0], self.draws.tails(level))


def fit_law(runs: Runs, options: Options) -> FittedLaw:
    """The law of one recipe's runs: from the runs alone where they are many, with a prior where they are few.

    Draws that rise with N or D have no optimum, and are left out.
    Raises InputError for runs that no law can be fitted to, or of whose draws most would be left out.
    """
    few = options.prior_below is None or runs.loss.size < options.prior_below
    prior = options.prior if few else None
    # A prior is weighed against squared residuals: with δ below the noise it would outweigh the runs.
    delta = options.huber_delta if prior is None else max(options.huber_delta, 2 * prior.noise)
    fit = fit_parametric(*runs, huber_delta=delta, prior=prior)
    # With a prior, runs too few to show that the loss falls are no reason to refuse the law: the prior says it does.
    if prior is None and (flat := _flat(runs, fit)):
        raise InputError(f"the loss doesn't fall with {' or '.join(flat)}, so there is no law; check those columns")
    if prior is None:
        drawn = bootstrap(*runs, resamples=options.draws, seed=options.seed, huber_delta=delta, fit=fit)
    else:
        drawn = posterior(runs, fit, prior, resamples=options.draws, seed=options.seed)
    kept = falling(drawn.draws)
    if 2 * kept.sum() < kept.size:
        raise InputError(
            f"{kept.size - kept.sum()} of {kept.size} laws drawn from these runs don't fall with both N and D; "
            "train sizes and lengths further apart"
        )
    drawn = replace(drawn, draws=drawn.draws[kept], objectives=drawn.objectives[kept])
    return FittedLaw(fit, drawn, prior)


def _flat(runs: Runs, fit: ParametricFit) -> list[str]:
    """Of N and D, those along which the law falls, over the range of the runs, by too little beside their scatter."""
    error = float(np.linalg.norm(fit.residuals)) / len(fit.residuals)  # standard, of the mean
    falls = {
        name: scale * float(x.min() ** -exponent - x.max() ** -exponent) / float(np.median(runs.loss))
        for name, x, scale, exponent in (("N", runs.N, fit.A, fit.alpha), ("D", runs.D, fit.B, fit.beta))
    }
    return [name for name, fall in falls.items() if fall < CLEAR * error]


def _sample(problem: Problem) -> Problem:
    size = problem.z.size
    if size <= SAMPLE:
        return problem
    rows = np.random.default_rng(0).choice(size, SAMPLE, replace=False)
    return problem._replace(covariates=problem.covariates[:, rows], z=problem.z[rows])


def _problem(
    N: np.ndarray, D: np.ndarray, loss: np.ndarray, delta: float, residual: str, estimator: str, prior: Prior | None
) -> tuple[tuple[float, float], Problem]:
    if residual not in ("log", "linear") or estimator not in ("huber", "lad"):
        raise InputError(f"residual must be log or linear, estimator huber or lad; got {residual!r}, {estimator!r}")
    if not delta > 0:
        raise InputError(f"huber_delta must be positive, got {delta!r}")
    if prior is None and loss.size < PARAMETERS:
        raise InputError(f"{loss.size} runs can't identify {PARAMETERS} parameters; train more runs or give a prior")
    for name, values in (("N", N), ("D", D)):
        if np.unique(values).size < (2 if prior else 3):
            raise InputError(f"the runs have {np.unique(values).size} distinct {name}; its exponent can't be fitted")
    x, y = np.log(N), np.log(D)
    if np.abs(y - np.polyval(np.polyfit(x, y, 1), x)).max() < RAY:  # a prior on exponents doesn't divide A from B
        raise InputError(
            "N and D move together, so a loss can't be divided between them; train some sizes on more or fewer tokens"
        )
    centre = (float(x.mean()), float(y.mean()))  # centred, so that a and α are nearly orthogonal
    mean, precision = np.zeros(PARAMETERS), np.zeros(PARAMETERS)
    if prior is not None:
        for index, (value, spread) in ((2, prior.log_E), (3, prior.alpha), (4, prior.beta)):
            mean[index], precision[index] = value, (prior.noise / spread) ** 2
    chosen = LAD_DELTA if estimator == "lad" else delta
    one = np.ones_like(x)
    covariates = np.stack([one, one, one, centre[0] - x, centre[1] - y])
    return centre, Problem(covariates, TERMS, np.log(loss), chosen, residual == "log", mean, precision)


def _anneal(
    starts: np.ndarray,
    problem: Problem,
    estimator: str,
    counts: np.ndarray | None = None,
    iterations: int = 300,
    tolerance: float = 1e-11,
) -> tuple[np.ndarray, np.ndarray]:
    """Least absolute deviations are approached through ever narrower Huber zones, as their kinks stall every method."""
    if estimator == "lad":
        for delta in (1e-2, 1e-3, 1e-4, 1e-5):
            starts, _ = polish(starts, problem._replace(delta=delta), counts, None, iterations, tolerance)
    return polish(starts, problem, counts, None, iterations, tolerance)


def _natural(theta: np.ndarray, centre: tuple[float, float]) -> np.ndarray:
    """Rows (A, B, E, α, β) of rows (a, b, e, α, β) on centred axes."""
    a, b, e, alpha, beta = theta.T
    with np.errstate(over="ignore"):  # resamples of too few runs may leave an exponent without bound
        A, B = np.exp(a + alpha * centre[0]), np.exp(b + beta * centre[1])
    return np.column_stack([A, B, np.exp(e), alpha, beta])


def _centred(fit: Law, centre: tuple[float, float]) -> np.ndarray:
    a, b = np.log(fit.A) - fit.alpha * centre[0], np.log(fit.B) - fit.beta * centre[1]
    return np.array([a, b, np.log(fit.E), fit.alpha, fit.beta])
