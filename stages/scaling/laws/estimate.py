"""A recipe's law with draws around it: from its runs alone where they are many, with a prior where they are few."""

from dataclasses import dataclass, replace

import numpy as np

from stages.base.errors import InputError
from stages.scaling.laws.interval import Estimate, estimate
from stages.scaling.laws.law import Law
from stages.scaling.laws.parametric import (
    Bootstrap,
    ParametricFit,
    Prior,
    bootstrap,
    falling,
    fit_parametric,
    posterior,
)
from stages.scaling.laws.runs import Runs

# What published fits say: α, β of .34/.28, .35/.37, .26/.30 ..., E of 1.1 to 2 nats per token; 1 % between seeds.
PUBLISHED = Prior(alpha=(0.35, 0.1), beta=(0.35, 0.1), log_E=(0.4, 0.4), noise=0.01)

CLEAR = 3.0  # standard errors that a loss must fall by, over the runs, to be said to fall


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
class Belief:
    fit: ParametricFit
    draws: Bootstrap
    prior: Prior | None

    @property
    def noise(self) -> float:
        """Standard deviation of log loss of a run around the law: its residuals', and at least the prior's."""
        rms = float(np.sqrt(np.mean(np.square(self.fit.residuals))))
        return rms if self.prior is None else max(rms, self.prior.noise)

    def new_run(self, N: float, D: float, level: float, seed: int) -> Estimate:
        """The loss one new run would reach: the law's uncertainty, and the noise of runs around it."""
        values = self.draws.predict(N, D)
        noisy = values * np.exp(self.noise * np.random.default_rng(seed).standard_normal(values.size))
        return estimate(float(self.fit.predict(N, D)), noisy, self.draws.tails(level))

    def best_size(self, C: float, level: float) -> Estimate:
        """N* at C FLOPs."""
        return estimate(Law.optimum(self.fit, C).N, self.draws.optimum(C)[:, 0], self.draws.tails(level))


def believe(runs: Runs, options: Options) -> Belief:
    """Draws that rise with N or D have no optimum, and are left out.

    Raises InputError for runs that no law can be fitted to, or of whose draws most would be left out.
    """
    few = options.prior_below is None or runs.loss.size < options.prior_below
    prior = options.prior if few else None
    # A prior is weighed against squared residuals: with δ below the noise it would outweigh the runs.
    delta = options.huber_delta if prior is None else max(options.huber_delta, 2 * prior.noise)
    fit = fit_parametric(*runs, huber_delta=delta, prior=prior)
    # With a prior the exponents stand on it, too: few runs that don't show a fall don't deny one.
    if prior is None and (flat := _flat(runs, fit)):
        raise InputError(f"the loss doesn't fall with {' or '.join(flat)}, so there is no law; check those columns")
    if prior is None:
        drawn = bootstrap(*runs, resamples=options.draws, seed=options.seed, huber_delta=delta)
    else:
        drawn = posterior(*runs, prior=prior, resamples=options.draws, seed=options.seed, huber_delta=delta)
    kept = falling(drawn.draws)
    if 2 * kept.sum() < kept.size:
        raise InputError(
            f"{kept.size - kept.sum()} of {kept.size} laws drawn from these runs don't fall with both N and D; "
            "train sizes and lengths further apart"
        )
    drawn = replace(drawn, draws=drawn.draws[kept], objectives=drawn.objectives[kept])
    return Belief(fit, drawn, prior)


def _flat(runs: Runs, fit: ParametricFit) -> list[str]:
    """Of N and D, those along which the law falls, from end to end of the runs, by no more than their scatter."""
    error = float(np.linalg.norm(fit.residuals)) / len(fit.residuals)  # standard, of the mean
    falls = {
        name: scale * float(x.min() ** -exponent - x.max() ** -exponent) / float(np.median(runs.loss))
        for name, x, scale, exponent in (("N", runs.first, fit.A, fit.alpha), ("D", runs.second, fit.B, fit.beta))
    }
    return [name for name, fall in falls.items() if fall < CLEAR * error]
