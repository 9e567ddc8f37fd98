"""`fit.json`: the law of the ladder's Transformers, and the recipe it holds for; the plan is made from it."""

from typing import Literal

from stages.base.contracts import Contract
from stages.base.recipe import Recipe


class Law(Contract):
    """L(N, D) = E + A·N^-alpha + B·D^-beta, nats per token of text."""

    A: float
    B: float
    E: float
    alpha: float
    beta: float


class Fit(Contract):
    """data/scaling/fit/fit.json"""

    law: Law
    draws: list[tuple[float, float, float, float, float]]
    """Laws (A, B, E, alpha, beta) drawn around the fitted one, for intervals."""
    noise: float
    """Standard deviation of log loss of a run around the law: the assumed one, or the residuals' where it is larger."""
    level: float
    """Of intervals."""
    count: Literal["total", "non_embedding"]
    """Which parameters N counts."""
    recipe: Recipe
    """Of all points, architecture included: the law predicts no other run."""
    largest_flops: float
    """Of the ladder's Transformers, attention included: how far a plan extrapolates."""
    withheld_error: float | None
    """Mean absolute relative error on the runs of most compute under a law fitted without them; null if not tested."""
