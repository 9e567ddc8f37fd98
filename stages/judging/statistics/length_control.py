"""Length-controlled win rates: the AlpacaEval 2 estimator, with standard errors of the whole estimate.

Dubois et al. 2024 (arXiv:2404.04475), `glm_winrate.py` of the official package. For one model against one baseline,

    logit P(model wins on i) = w_length · tanh(Δ_i / std(Δ)) + w_difficulty · d_i + w_bias,
    Δ_i = len_baseline - len_output

is fitted to the soft preferences; the length-controlled rate is the mean of σ(w_difficulty · d_i + w_bias): what the
model would win if all its answers had the baseline's length. Plain maximum likelihood by Newton steps stands for the
official cross-validated L1 fit, from which it differs by less than 0.12 points on the public models.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stages.base.errors import InputError
from stages.judging.statistics.intervals import Bounds, rate_bounds
from stages.judging.statistics.length_design import Align, Design, prepare
from stages.judging.statistics.length_profile import profile_bounds
from stages.judging.statistics.logistic import Estimate, l1, maximum_likelihood, sigmoid


@dataclass(frozen=True)
class LengthControlled:
    """One model against its baseline; rates and standard errors in percent."""

    win_rate: float
    standard_error: float  # of win_rate
    lc_win_rate: float  # NaN where `unidentified` says why
    lc_standard_error: float  # sandwich: all that the annotations decide, given difficulty and gamed rows
    weights: dict[str, float]  # length, difficulty (only where one was given), bias
    n: int  # rows with a preference
    n_missing: int  # rows without one (NaN): left out of every number here
    separated: bool  # the likelihood has no maximum; a weak ridge made it finite
    unidentified: str  # why there is no length-controlled rate; "" where there is one
    design: Design = field(repr=False, compare=False)

    def interval(self, level: float = 0.95) -> Bounds:
        """Of lc_win_rate, by profile likelihood (`length_profile`); NaN where there is no rate. Takes some
        milliseconds, which is why it isn't part of the fit."""
        if self.unidentified:
            return Bounds(math.nan, math.nan)
        if self.design.by_definition:
            return rate_bounds(self.design.y, level)
        return profile_bounds(self.design, self.lc_standard_error / 100, level)


def fit(
    annotations: Any,
    *,
    difficulty: Any = None,
    gamed: Any = None,
    align: Align = "index",
    l1_c: float | None = None,
) -> LengthControlled:
    """Fit one model's annotations.

    annotations: columns instruction_index, preference (1 baseline wins .. 2 model wins; 0 counts as a draw, as in
    AlpacaEval; NaN is missing), len_output, len_baseline (characters); a DataFrame, Arrow table or dict of arrays.
    difficulty: columns instruction_index, instruction_difficulty; without it the model is length + bias.
    gamed: regularising rows that tie the length and difficulty weights to the baseline's own gamed versions (columns
    model, std_delta_len, preference_surrogate_0to1 and, with `difficulty`, instruction_difficulty). Without them a
    model whose answers are all much shorter or longer than the baseline's has a badly determined rate.
    align: "position" (or "compat") looks difficulty up by row position, as the official code does; with missing rows
    that misaligns the two, by up to 2.8 points on public models. There, as there, rows without a preference count
    where lengths are scaled and where the rate is predicted.
    l1_c: the official penalty, |w|₁ + C · loss, at this C; by default there is none. The official C is chosen by
    cross-validation among `np.logspace(-4, 4, 10)`.

    Where all differences in length are the same there is no rate, and `unidentified` says so. Raises InputError for no
    usable rows, duplicate instructions, preferences out of bounds, or unknown difficulties.
    """
    design = prepare(annotations, difficulty, gamed, align)
    n = len(design.y)
    why = design.unidentified
    separated, weights = False, np.zeros(len(design.names))
    rate, error = math.nan, math.nan
    if design.by_definition:
        rate, error = 50.0, 0.0
    elif why:
        weights[:] = math.nan
    else:
        estimate = estimated(design, l1_c)
        weights, separated = estimate.weights, estimate.separated
        predicted = predict(design, weights)
        rate, error = 100 * float(predicted.mean()), 100 * _error(design, estimate, predicted)
    return LengthControlled(
        win_rate=100 * float(design.y.mean()),
        standard_error=100 * float(design.y.std(ddof=1)) / n**0.5,
        lc_win_rate=rate,
        lc_standard_error=error,
        weights=dict(zip(design.names, map(float, weights), strict=True)),
        n=n,
        n_missing=design.n_missing,
        separated=separated,
        unidentified=why,
        design=design,
    )


def estimated(design: Design, l1_c: float | None = None) -> Estimate:
    """Weights of a design, in the order of its names."""
    if l1_c is None:
        return maximum_likelihood(*design.rows())
    if not l1_c > 0:
        raise InputError(f"l1_c must be above 0, not {l1_c}")
    return l1(*design.rows(), l1_c)


def predict(design: Design, weights: np.ndarray) -> np.ndarray:
    """P(model wins) on each predicted row at the baseline's length."""
    return sigmoid(design.predicted @ weights[1:])


def _error(design: Design, estimate: Estimate, predicted: np.ndarray) -> float:
    """Standard error of the mean prediction: the sandwich of what each instruction adds to it."""
    m = len(predicted)
    gradient = (predicted * (1 - predicted)) @ design.predicted / m
    on_rate = (predicted - predicted.mean()) / m
    on_rate[design.judged] += _influence(design, estimate)[:, 1:] @ gradient
    on_rate -= on_rate.mean()
    return float(np.sqrt((on_rate**2).sum() * m / (m - 1)))


def _influence(design: Design, estimate: Estimate) -> np.ndarray:
    """[n, k]: what each instruction adds to each weight, through the likelihood and through the scale of its deltas."""
    x, w = design.x, estimate.weights
    p = sigmoid(x @ w)
    score = (design.y - p)[:, None] * x
    if design.scale > 0:
        slope = -(1 - x[:, 0] ** 2) * design.delta / design.scale**2  # of x with its scale
        centred = design.delta - design.delta.mean()
        on_scale = (centred**2 - design.scale**2) / (2 * design.scale * len(x))
        moved = -(x.T @ (p * (1 - p) * w[0] * slope))
        moved[0] += (design.y - p) @ slope
        score = score + np.outer(on_scale, moved)
    active = np.flatnonzero(w) if not estimate.separated else np.arange(len(w))  # L1 holds the others at 0
    influence = np.zeros_like(x)
    if len(active):
        inverse = np.linalg.pinv(estimate.hessian[np.ix_(active, active)], hermitian=True)
        influence[:, active] = score[:, active] @ inverse
    return influence
