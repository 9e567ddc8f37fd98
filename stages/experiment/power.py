"""What a plan can see: the smallest effect that so many seeds and items show, and how many a margin needs.

Variances are of a contrast of two arms, in the metric's unit squared: between seeds, between items, and of what is left
in one item of one seed. Their mean over both has the variance seed / S + item / I + residual / (S · I) for S seeds and
I items. Power is of the two-sided t test, by the noncentral t distribution.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

from scipy.special import ndtri

from stages.base.contracts.claim import Comparison
from stages.base.crossed import smallest_visible

MOST_SEEDS = 1000


class Noise(NamedTuple):
    """Variances of a contrast of two arms. A metric that is one number a run has a seed variance alone."""

    seed: float
    item: float = 0.0
    residual: float = 0.0


def noise_of(comparisons: Iterable[Comparison]) -> Noise | None:
    """Pooled over comparisons of one metric that were made over seeds, each weighing by its seeds; None without any."""
    total, weight = [0.0, 0.0, 0.0], 0
    for one in comparisons:
        if one.seed_variance is None or one.n_seeds < 2 or not one.b:
            continue
        weight += one.n_seeds - 1
        for place, variance in enumerate((one.seed_variance, one.item_variance, one.residual_variance)):
            total[place] += (one.n_seeds - 1) * (variance or 0.0)
    return Noise(*(value / weight for value in total)) if weight else None


def error_and_df(noise: Noise, seeds: int, items: int = 1) -> tuple[float, float]:
    """Standard error of the mean contrast and Satterthwaite's degrees of freedom, as they are expected."""
    both = noise.residual / (seeds * items)
    by_seed, by_item = noise.seed / seeds + both, noise.item / items + both
    variance = by_seed + by_item - both
    if items == 1:
        return math.sqrt(by_seed + noise.item), seeds - 1
    if variance == 0:
        return 0.0, seeds - 1
    spread = by_seed**2 / (seeds - 1) + by_item**2 / (items - 1) + both**2 / ((seeds - 1) * (items - 1))
    return math.sqrt(variance), variance**2 / spread


def visible_effect(noise: Noise, seeds: int, items: int = 1, alpha: float = 0.05, power: float = 0.8) -> float:
    """The smallest true difference that is called one with this power; infinite for one seed."""
    if seeds < 2:
        return math.inf
    error, df = error_and_df(noise, seeds, items)
    return smallest_visible(error, df, alpha, power)


def seeds_needed(noise: Noise, margin: float, items: int = 1, alpha: float = 0.05, power: float = 0.8) -> int | None:
    """Seeds at which `margin` is visible; None if even MOST_SEEDS don't do, as the items' own spread stays."""
    if visible_effect(noise, MOST_SEEDS, items, alpha, power) > margin:
        return None
    low, high = 1, MOST_SEEDS  # visible at high, not at low
    while high - low > 1:
        middle = (low + high) // 2
        if visible_effect(noise, middle, items, alpha, power) <= margin:
            high = middle
        else:
            low = middle
    return high


def hidden(noise: Noise, margin: float, seeds: int, items: int = 1, alpha: float = 0.05, power: float = 0.8) -> str:
    """Why a claim with this margin can't be decided, with the remedy; "" where it can."""
    smallest = visible_effect(noise, seeds, items, alpha, power)
    if smallest <= margin:
        return ""
    needed = seeds_needed(noise, margin, items, alpha, power)
    remedy = (
        f"it takes {needed} seeds"
        if needed
        else f"more seeds don't help, as {items} items differ too much among themselves: add items"
    )
    return (
        f"the noise hides the margin: {seeds} seed{'s' * (seeds != 1)} see differences from {smallest:.3g} on with "
        f"power {power:g}, the margin is {margin:.3g}; {remedy}, or a larger margin"
    )


def items_needed(
    between: float,
    within_a: float,
    within_b: float,
    effect: float,
    *,
    samples_a: int = 1,
    samples_b: int = 1,
    alpha: float = 0.05,
    power: float = 0.8,
) -> int:
    """Items of a paired comparison of two fixed models (Miller 2024, "Adding error bars to evals", section 5):

    n = (z_{α/2} + z_β)² (ω² + σ_A²/K_A + σ_B²/K_B) / δ²

    between: ω², variance over items of the difference of the two models' expected scores; within: σ², mean variance of
    one model's score on one item over its samples, of which K are averaged; effect: δ.
    """
    z = float(ndtri(1 - alpha / 2) + ndtri(power))
    return math.ceil(z**2 * (between + within_a / samples_a + within_b / samples_b) / effect**2)
