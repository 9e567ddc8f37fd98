"""Length-controlled win rates: the AlpacaEval 2 estimator, with standard errors of the whole estimate.

Dubois et al. 2024 (arXiv:2404.04475), `glm_winrate.py` of the official package. For one model against one baseline,

    logit P(model wins on i) = w_length · tanh(Δ_i / std(Δ)) + w_difficulty · d_i + w_bias,
    Δ_i = len_baseline - len_output

is fitted to the soft preferences; the length-controlled rate is the mean of σ(w_difficulty · d_i + w_bias): what the
model would win if all its answers had the baseline's length. Plain maximum likelihood by Newton steps stands for the
official cross-validated L1 fit, from which it differs by less than 0.12 points on the public models.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from stages.base.errors import InputError

GAMED_WEIGHT = 0.2  # total weight of the regularising rows per instruction, spread over the gamed models
SEPARATION_RIDGE = 0.01  # penalty ridge/2·|w|² where the likelihood has no maximum: a prior of standard deviation 10
_LARGE = 30.0  # a logit coefficient beyond this is a diverging fit


@dataclass(frozen=True)
class LengthControlled:
    """One model against its baseline; rates and standard errors in percent."""

    win_rate: float
    standard_error: float  # of win_rate
    lc_win_rate: float
    lc_standard_error: float  # sandwich: parameter error and sampling of instructions, given difficulty and gamed rows
    weights: dict[str, float]  # length, difficulty (only where one was given), bias
    n: int  # rows with a preference
    n_missing: int  # rows without one (NaN): left out of every number here
    separated: bool  # the likelihood has no maximum; a weak ridge made it finite


def fit(
    annotations: Any,
    *,
    difficulty: Any = None,
    gamed: Any = None,
    align: Literal["index", "position"] = "index",
) -> LengthControlled:
    """Fit one model's annotations.

    annotations: columns instruction_index, preference (1 baseline wins .. 2 model wins; 0 counts as a draw, as in
    AlpacaEval; NaN is missing), len_output, len_baseline (characters); a DataFrame, Arrow table or dict of arrays.
    difficulty: columns instruction_index, instruction_difficulty; without it the model is length + bias.
    gamed: regularising rows that tie the length and difficulty weights to the baseline's own gamed versions (columns
    model, std_delta_len, preference_surrogate_0to1 and, with `difficulty`, instruction_difficulty). Without them a
    model whose answers are all much shorter or longer than the baseline's has a badly determined rate.
    align: "position" looks difficulty up by row position, as the official code does; with missing rows that
    misaligns the two, by up to 2.8 points on public models.

    Raises InputError for no usable rows, duplicate instructions, preferences out of bounds, or unknown difficulties.
    """
    index = _column(annotations, "instruction_index", np.int64)
    preference = _column(annotations, "preference", np.float64)
    lengths = _column(annotations, "len_output", np.float64), _column(annotations, "len_baseline", np.float64)
    values, counts = np.unique(index, return_counts=True)
    if (counts > 1).any():
        raise InputError(f"annotations: instruction_index {values[counts > 1][0]} is there {counts.max()} times")
    known = ~np.isnan(preference)
    bad = known & (preference != 0) & ((preference < 1) | (preference > 2))
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise InputError(f"annotations: row {row}: preference {preference[row]} isn't in 1..2")
    if known.sum() < 2:
        raise InputError(
            f"annotations: {int(known.sum())} of {len(known)} rows have a preference; at least 2 are needed"
        )

    y = np.where(preference[known] == 0, 0.5, preference[known] - 1)
    delta = lengths[1][known] - lengths[0][known]
    spread = delta.std(ddof=1)
    length = np.tanh(delta / spread) if spread > 0 else np.zeros_like(delta)
    n, win_rate = len(y), float(y.mean())
    error = float(y.std(ddof=1)) / n**0.5
    if not delta.any() and (y == 0.5).all():  # a model against itself is 50 by definition, whatever regularises
        return LengthControlled(50.0, 0.0, 50.0, 0.0, {"length": 0.0, "bias": 0.0}, n, int((~known).sum()), False)

    names, columns = ["length"], [length]
    if difficulty is not None:
        names.append("difficulty")
        columns.append(_difficulty(difficulty, index[known], align))
    design = np.column_stack([*columns, np.ones(n)])
    rows, targets, weights = design, y, np.ones(n)
    if gamed is not None:
        extra, extra_y = _gamed_rows(gamed, names)
        rows, targets = np.vstack([design, extra]), np.concatenate([y, extra_y])
        models = len(np.unique(np.asarray(gamed["model"])))
        weights = np.concatenate([weights, np.full(len(extra_y), GAMED_WEIGHT / models)])

    w, hessian, separated = _maximum_likelihood(rows, targets, weights)
    controlled = design.copy()
    controlled[:, 0] = 0.0
    predicted = _sigmoid(controlled @ w)
    gradient = (predicted * (1 - predicted)) @ controlled / n
    residual = y - _sigmoid(design @ w)
    # Influence of each instruction on the mean prediction: through the mean itself and through the weights.
    influence = (predicted - predicted.mean()) / n + residual * (design @ (np.linalg.pinv(hessian) @ gradient))
    influence -= influence.mean()
    lc_error = float(np.sqrt((influence**2).sum() * n / (n - 1)))
    return LengthControlled(
        win_rate=100 * win_rate,
        standard_error=100 * error,
        lc_win_rate=100 * float(predicted.mean()),
        lc_standard_error=100 * lc_error,
        weights=dict(zip([*names, "bias"], map(float, w), strict=True)),
        n=n,
        n_missing=int((~known).sum()),
        separated=separated,
    )


def _column(table: Any, name: str, dtype: Any) -> np.ndarray:
    try:
        return np.asarray(table[name], dtype=dtype)
    except KeyError:
        raise InputError(f"annotations: column `{name}` is missing") from None
    except (TypeError, ValueError) as error:
        raise InputError(f"annotations: column `{name}` isn't numeric: {error}") from None


def _difficulty(table: Any, index: np.ndarray, align: str) -> np.ndarray:
    keys = np.asarray(table["instruction_index"], dtype=np.int64)
    values = np.asarray(table["instruction_difficulty"], dtype=np.float64)
    order = np.argsort(keys, kind="stable")
    keys, values = keys[order], values[order]
    wanted = np.arange(len(index)) if align == "position" else index
    if align == "position":
        keys = np.arange(len(keys))
    place = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
    unknown = keys[place] != wanted
    if unknown.any():
        raise InputError(f"difficulty: no instruction_index {wanted[unknown][0]} ({unknown.sum()} are unknown)")
    return values[place]


def _gamed_rows(gamed: Any, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Design rows with the bias column at 0, and their targets."""
    columns = [np.tanh(_column(gamed, "std_delta_len", np.float64))]
    if "difficulty" in names:
        columns.append(_column(gamed, "instruction_difficulty", np.float64))
    return np.column_stack([*columns, np.zeros_like(columns[0])]), _column(
        gamed, "preference_surrogate_0to1", np.float64
    )


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * x))


def _maximum_likelihood(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
    """Weighted logistic regression with soft targets: (weights, Hessian, whether the ridge was needed)."""
    for ridge in (0.0, SEPARATION_RIDGE):
        w, hessian, converged = _newton(x, y, weights, ridge)
        if converged and np.abs(w).max() < _LARGE:
            return w, hessian, ridge > 0
    raise InputError(
        "annotations: the length-controlled fit doesn't converge; look for extreme lengths or difficulties"
    )


def _newton(x: np.ndarray, y: np.ndarray, weights: np.ndarray, ridge: float) -> tuple[np.ndarray, np.ndarray, bool]:
    penalty = ridge * np.eye(x.shape[1])

    def loss(w: np.ndarray) -> float:
        z = x @ w
        return float(weights @ (np.logaddexp(0, z) - y * z) + 0.5 * ridge * (w @ w))

    w, here = np.zeros(x.shape[1]), loss(np.zeros(x.shape[1]))
    hessian = penalty
    for _ in range(100):
        p = _sigmoid(x @ w)
        hessian = (x * (weights * p * (1 - p))[:, None]).T @ x + penalty
        # A column of zeros (all lengths equal) gets weight 0: the pseudo-inverse's least-norm step.
        step = np.linalg.pinv(hessian, hermitian=True) @ (x.T @ (weights * (y - p)) - ridge * w)
        if np.abs(step).max() < 1e-10:
            return w + step, hessian, True
        scale = 1.0
        while (there := loss(w + scale * step)) > here + 1e-12 * abs(here) and scale > 1e-6:
            scale /= 2
        w, here = w + scale * step, there
        if np.abs(w).max() > 2 * _LARGE:
            break
    return w, hessian, False
