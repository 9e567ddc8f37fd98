"""Comparing a second recipe (here the LSTM) with the fitted one, when its points are too few for a law of their own."""

from dataclasses import dataclass

import numpy as np

from stages.base.errors import InputError
from stages.scaling.laws.law import Law
from stages.scaling.laws.parametric import Bootstrap


@dataclass(frozen=True)
class SharedExponents:
    """The second recipe's law: E, α and β of the first, A and B times `ratio`.

    `compute_multiplier`: how many times the compute the second recipe needs for the same loss, each at its own
    compute-optimal size; along that path L - E falls as C^(-αβ/(α+β)), so it is ratio^((α+β)/αβ).
    """

    law: Law
    ratio: float
    ratio_interval: tuple[float, float]
    compute_multiplier: float
    compute_multiplier_interval: tuple[float, float]
    ratios: tuple[float, ...]  # of each run


def share_exponents(
    law: Law, draws: Bootstrap, N: np.ndarray, D: np.ndarray, loss: np.ndarray, noise: float, level: float, seed: int
) -> SharedExponents:
    """Fit the one number `ratio` = (L - E) / (A·N^-α + B·D^-β), the geometric mean over runs.

    Its interval carries the first law's draws, the runs resampled with replacement, and `noise` (standard deviation of
    log loss between seeds). Raises InputError if a loss lies at or below E, where a ratio has no meaning.
    """
    if loss.size == 0:
        raise InputError("the second recipe has no runs")
    if (loss <= law.E).any():
        raise InputError(f"a run of the second recipe has loss {loss.min():.4g}, not above the fitted E = {law.E:.4g}")
    ratios = (loss - law.E) / (law.A * N**-law.alpha + law.B * D**-law.beta)
    ratio = float(np.exp(np.log(ratios).mean()))
    rng = np.random.default_rng(seed)
    sampled, multipliers = [], []
    for A, B, E, alpha, beta in draws.draws:
        rows = rng.integers(0, loss.size, loss.size)
        noisy = loss[rows] * np.exp(noise * rng.standard_normal(loss.size))
        above = np.maximum(noisy - E, 1e-3 * noisy)
        value = float(np.exp(np.log(above / (A * N[rows] ** -alpha + B * D[rows] ** -beta)).mean()))
        sampled.append(value)
        multipliers.append(value ** ((alpha + beta) / (alpha * beta)))
    tails = [(1 - level) / 2, (1 + level) / 2]
    low, high = np.quantile(sampled, tails)
    cheapest, dearest = np.quantile(multipliers, tails)
    return SharedExponents(
        law=Law(law.A * ratio, law.B * ratio, law.E, law.alpha, law.beta),
        ratio=ratio,
        ratio_interval=(float(low), float(high)),
        compute_multiplier=ratio ** ((law.alpha + law.beta) / (law.alpha * law.beta)),
        compute_multiplier_interval=(float(cheapest), float(dearest)),
        ratios=tuple(ratios.tolist()),
    )
