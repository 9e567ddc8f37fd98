"""Length-controlled win rates: the AlpacaEval 2 estimator, with standard errors of the whole estimate.

Dubois et al. 2024 (arXiv:2404.04475), `glm_winrate.py` of the official package. For one model against one baseline,

    logit P(model wins on i) = w_length · tanh(Δ_i / std(Δ)) + w_difficulty · d_i + w_bias,
    Δ_i = len_baseline - len_output

is fitted to the soft preferences; the length-controlled rate is the mean of σ(w_difficulty · d_i + w_bias): what the
model would win if all its answers had the baseline's length. Plain maximum likelihood by Newton steps stands for the
official cross-validated L1 fit, from which it differs by less than 0.12 points on the public models.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.stats import norm

from stages.base.errors import InputError
from stages.judging.statistics.columns import column
from stages.judging.statistics.length_design import Align, Design, prepare
from stages.judging.statistics.logistic import Estimate, l1, maximum_likelihood, sigmoid


@dataclass(frozen=True)
class LengthControlled:
    """One model against its baseline; rates and standard errors in percent."""

    win_rate: float
    standard_error: float  # of win_rate
    lc_win_rate: float
    lc_standard_error: float  # sandwich: all that the annotations decide, given difficulty and gamed rows
    weights: dict[str, float]  # length, style features, difficulty (only where one was given), bias
    n: int  # rows with a preference
    n_missing: int  # rows without one (NaN): left out of every number here
    separated: bool  # the likelihood has no maximum; a weak ridge made it finite
    index: np.ndarray = field(repr=False, compare=False)  # [n], instructions
    influence: np.ndarray = field(repr=False, compare=False)  # [n, k], of each instruction on each weight

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Of lc_win_rate, by the delta method on the logit: it stays within 0..100, and widens towards 50."""
        p, error = self.lc_win_rate / 100, self.lc_standard_error / 100
        if error == 0 or not 0 < p < 1:
            return self.lc_win_rate, self.lc_win_rate
        half = float(norm.ppf(0.5 + level / 2)) * error / (p * (1 - p))
        low, high = sigmoid(np.log(p / (1 - p)) + np.array([-half, half]))
        return 100 * float(low), 100 * float(high)


@dataclass(frozen=True)
class Versus:
    """One model's predicted length-controlled rate against another, in percent."""

    lc_win_rate: float
    lc_standard_error: float


def fit(
    annotations: Any,
    *,
    difficulty: Any = None,
    gamed: Any = None,
    align: Align = "index",
    style: Sequence[str] = (),
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
    style: further features to hold equal, each with columns `<name>_output` and `<name>_baseline` (`style.counted`
    makes them), and `std_delta_<name>` in `gamed`.
    l1_c: the official penalty, |w|₁ + C · loss, at this C; by default there is none. The official C is chosen by
    cross-validation among `np.logspace(-4, 4, 10)`.

    Raises InputError for no usable rows, duplicate instructions, preferences out of bounds, or unknown difficulties.
    """
    design = prepare(annotations, difficulty, gamed, align, style)
    n, k = len(design.y), len(design.names)
    if design.by_definition:
        nothing = np.zeros((n, k))
        zero = dict.fromkeys(design.names, 0.0)
        return LengthControlled(50.0, 0.0, 50.0, 0.0, zero, n, design.n_missing, False, design.index, nothing)
    estimate = estimated(design, l1_c)
    influence = weight_influence(design, estimate)
    predicted = predict(design, estimate.weights)
    m = len(predicted)
    gradient = (predicted * (1 - predicted)) @ design.predicted / m
    on_rate = (predicted - predicted.mean()) / m
    on_rate[design.judged] += influence[:, len(design.controlled) :] @ gradient
    on_rate -= on_rate.mean()
    return LengthControlled(
        win_rate=100 * float(design.y.mean()),
        standard_error=100 * float(design.y.std(ddof=1)) / n**0.5,
        lc_win_rate=100 * float(predicted.mean()),
        lc_standard_error=100 * float(np.sqrt((on_rate**2).sum() * m / (m - 1))),
        weights=dict(zip(design.names, map(float, estimate.weights), strict=True)),
        n=n,
        n_missing=design.n_missing,
        separated=estimate.separated,
        index=design.index,
        influence=influence,
    )


def estimated(design: Design, l1_c: float | None = None) -> Estimate:
    """Weights of a design, in the order of its names."""
    x, y, weights = design.x, design.y, np.ones(len(design.y))
    if design.extra is not None:
        x, y = np.vstack([x, design.extra.x]), np.concatenate([y, design.extra.y])
        weights = np.concatenate([weights, design.extra.weights])
    if l1_c is None:
        return maximum_likelihood(x, y, weights)
    if not l1_c > 0:
        raise InputError(f"l1_c must be above 0, not {l1_c}")
    return l1(x, y, weights, l1_c)


def predict(design: Design, weights: np.ndarray) -> np.ndarray:
    """P(model wins) on each predicted row where no controlled feature differs."""
    return sigmoid(design.predicted @ weights[len(design.controlled) :])


def weight_influence(design: Design, estimate: Estimate) -> np.ndarray:
    """[n, k]: what each instruction adds to each weight, through the likelihood and through the scale of its deltas."""
    x, w = design.x, estimate.weights
    n, c = len(x), len(design.controlled)
    p = sigmoid(x @ w)
    score = (design.y - p)[:, None] * x
    scales = np.where(design.scales > 0, design.scales, np.inf)
    slope = -(1 - x[:, :c] ** 2) * design.deltas / scales**2  # of x with its scale
    centred = design.deltas - design.deltas.mean(0)
    on_scale = (centred**2 - design.scales**2) / (2 * scales * n)
    for feature in range(c):
        moved = -(x.T @ (p * (1 - p) * w[feature] * slope[:, feature]))
        moved[feature] += (design.y - p) @ slope[:, feature]
        score = score + np.outer(on_scale[:, feature], moved)
    active = np.flatnonzero(w) if not estimate.separated else np.arange(len(w))  # L1 holds the others at 0
    influence = np.zeros_like(x)
    if len(active):
        inverse = np.linalg.pinv(estimate.hessian[np.ix_(active, active)], hermitian=True)
        influence[:, active] = score[:, active] @ inverse
    return influence


def predicted_rate(weights: Mapping[str, float], against: Mapping[str, float], difficulty: Any = None) -> float:
    """Length-controlled rate of one model against any other, in percent, from both models' weights; nothing is fitted.

    weights, against: `difficulty` and `bias`, as in `LengthControlled.weights`; a model has 50 against itself, and the
    baseline's weights are 0. difficulty: as for `fit`; the mean is over all its instructions.
    """
    return 100 * float(_predictions(weights, against, _instructions(difficulty)[1]).mean())


def versus(model: LengthControlled, other: LengthControlled, difficulty: Any = None) -> Versus:
    """`predicted_rate` of two fits to the same baseline, with the error that they share instructions counted in."""
    index, values = _instructions(difficulty)
    predictions = _predictions(model.weights, other.weights, values)
    slope = predictions * (1 - predictions)
    gradients = {"difficulty": float((slope * values).mean()), "bias": float(slope.mean())}
    rows = sorted({*index.tolist(), *model.index.tolist(), *other.index.tolist()})
    place = {row: i for i, row in enumerate(rows)}
    total = np.zeros(len(rows))
    for sign, side in ((1.0, model), (-1.0, other)):
        share = sum(gradients[name] * side.influence[:, k] for k, name in enumerate(side.weights) if name in gradients)
        total[[place[row] for row in side.index.tolist()]] += sign * np.asarray(share)
    if difficulty is not None:
        total[[place[row] for row in index.tolist()]] += (predictions - predictions.mean()) / len(predictions)
    n = len(rows)
    error = float(np.sqrt(((total - total.mean()) ** 2).sum() * n / (n - 1)))
    return Versus(100 * float(predictions.mean()), 100 * error)


def _instructions(difficulty: Any) -> tuple[np.ndarray, np.ndarray]:
    if difficulty is None:
        return np.zeros(0, np.int64), np.zeros(1)
    names = (("instruction_index", np.int64), ("instruction_difficulty", np.float64))
    index, values = (column(difficulty, name, dtype, "difficulty") for name, dtype in names)
    return index, values


def _predictions(weights: Mapping[str, float], against: Mapping[str, float], values: np.ndarray) -> np.ndarray:
    steeper = weights.get("difficulty", 0.0) - against.get("difficulty", 0.0)
    return sigmoid(weights["bias"] - against["bias"] + steeper * values)
