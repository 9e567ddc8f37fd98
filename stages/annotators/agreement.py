"""How far annotators agree, beyond what chance would give: matrices of votes, nominal, with votes missing.

A matrix of votes is [n_pairs, n_annotators]: 1 for the first answer, 2 for the second, 1.5 for a tie, NaN where an
annotator wasn't asked or gave no answer. Agreement takes any other numbers as names of votes, too. Results are shares
(0 … 1) or coefficients (at most 1); NaN where the votes say nothing.
"""

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np

Array = np.ndarray
RESAMPLES, AT_ONCE = 1000, 1_000_000  # draws of the bootstrap; numbers that it holds


class Alpha(NamedTuple):
    value: float
    low: float
    high: float


def nominal(preferences: Array) -> Array:
    """Preferences of 1 … 2 as votes: 1, 1.5 only where it is exactly a draw, or 2."""
    return 1.5 + 0.5 * np.sign(np.asarray(preferences, dtype=np.float64) - 1.5)


def majority(votes: Array) -> Array:
    """What most votes on each pair say, 1 or 2; NaN where they are even, or there are none. Ties weigh nothing."""
    lean = np.nansum(votes - 1.5, axis=1)
    return np.where(lean == 0, np.nan, 1.5 + 0.5 * np.sign(lean))


def matches(votes: Array, target: Array) -> float:
    """Share of the votes that equal the target, where both are known."""
    known = ~np.isnan(votes) & ~np.isnan(target)
    return float((votes == target)[known].mean()) if known.any() else float("nan")


def variance(votes: Array) -> float:
    """Expected share of the votes that differ from the majority of the others' on their pair.

    AlpacaFarm's variability of annotators: the error of one against the mode of the rest (Dubois et al. 2023, section
    4.2). Half a difference is a side where the others are even, and a tie where they name a side; a tie where the
    others are even is none. NaN where no pair has two votes.
    """
    known = ~np.isnan(votes)
    lean = np.where(known, votes - 1.5, 0.0)
    others = 1.5 + 0.5 * np.sign(lean.sum(axis=1, keepdims=True) - lean)
    compared = known & (known.sum(axis=1, keepdims=True) > 1)
    return float(np.abs(votes - others)[compared].mean()) if compared.any() else float("nan")


def percent_agreement(votes: Array) -> float:
    """Share of all couples of votes on one pair that are equal."""
    counts = _counts(votes)
    m = counts.sum(axis=1)
    couples = (m * (m - 1)).sum()
    return float((counts * (counts - 1)).sum() / couples) if couples else float("nan")


def cohen_kappas(votes: Array) -> tuple[Array, Array]:
    """Cohen's κ (1960) of every two annotators, and on how many pairs both have voted: [n_annotators, n_annotators].

    κ = (p_o − p_e) / (1 − p_e), p_e from the two annotators' own shares of each vote on the pairs that both have voted
    on. NaN on the diagonal, and where both always say the same one thing.
    """
    said = [np.asarray(votes == category, dtype=np.float64) for category in _categories(votes)]
    voted = (~np.isnan(votes)).astype(np.float64)
    shared = voted.T @ voted
    with np.errstate(divide="ignore", invalid="ignore"):
        observed = np.sum([one.T @ one for one in said], axis=0) / shared
        chance = np.sum([(one.T @ voted) * (voted.T @ one) for one in said], axis=0) / shared**2
        kappas = np.where(np.isclose(chance, 1), np.nan, (observed - chance) / (1 - chance))
    np.fill_diagonal(kappas, np.nan)
    return kappas, shared


def mean_kappa(votes: Array) -> float:
    """The mean of Cohen's κ over all couples of annotators, by the pairs that they share: Light's κ (1971) where all
    have voted on all."""
    kappas, shared = cohen_kappas(votes)
    couples = np.triu(np.isfinite(kappas), 1)
    return float((kappas * shared)[couples].sum() / shared[couples].sum()) if couples.any() else float("nan")


def krippendorff_alpha(votes: Array, groups: Sequence[Hashable] | None = None, seed: int = 0) -> Alpha:
    """Krippendorff's α for nominal data with missing votes, and its 95 % interval by the bootstrap.

    α = 1 − D_o / D_e (Krippendorff 2011, "Computing Krippendorff's alpha-reliability"): disagreement within pairs over
    that between all votes of pairs with two votes or more. The bootstrap draws groups of pairs, such as those of one
    prompt, with replacement; by default single pairs. NaN where no pair has two votes, or all votes are the same.
    """
    counts = _counts(votes)
    m = counts.sum(axis=1)
    several = m > 1
    if not several.any():
        return Alpha(*[float("nan")] * 3)
    counts, m = counts[several], m[several]
    within = (m**2 - (counts**2).sum(axis=1)) / (m - 1)
    terms = np.column_stack([within, counts])
    names = np.arange(len(m)) if groups is None else _numbered([groups[k] for k in np.flatnonzero(several).tolist()])
    summed = np.zeros((names.max() + 1, terms.shape[1]))
    np.add.at(summed, names, terms)
    n = len(summed)
    resampled = _alpha(_resample(summed, seed))
    resampled = resampled[np.isfinite(resampled)]
    enough = n > 1 and len(resampled) > 0
    low, high = np.quantile(resampled, (0.025, 0.975)) if enough else (float("nan"), float("nan"))
    return Alpha(float(_alpha(terms.sum(axis=0))), float(low), float(high))


def _resample(rows: Array, seed: int) -> Array:
    """Sums of the rows [n, k] of RESAMPLES draws of n rows with replacement: [RESAMPLES, k]."""
    generator, n = np.random.default_rng(seed), len(rows)
    step = max(1, AT_ONCE // n)
    sizes = [min(step, RESAMPLES - start) for start in range(0, RESAMPLES, step)]
    return np.concatenate([generator.multinomial(n, np.full(n, 1 / n), size=size) @ rows for size in sizes])


def _alpha(terms: Array) -> Array:
    """Of sums over pairs [..., 1 + n_categories]: the disagreement within pairs, and the number of each vote."""
    within, counts = terms[..., 0], terms[..., 1:]
    total = counts.sum(axis=-1)
    between = total**2 - (counts**2).sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(between > 0, 1 - (total - 1) * within / between, np.nan)


def _counts(votes: Array) -> Array:
    """How many votes of each category a pair has: [n_pairs, n_categories]."""
    return np.stack([(votes == name).sum(axis=1, dtype=np.float64) for name in _categories(votes)], axis=1)


def _categories(votes: Array) -> list[float]:
    return np.unique(votes[~np.isnan(votes)]).tolist() or [1.0]


def _numbered(names: Sequence[Hashable]) -> Array:
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in names])
