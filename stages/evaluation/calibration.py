"""Whether a model's probabilities mean what they say: of 100 answers given with .8, are 80 right?

The expected calibration error (ECE) is Σ over bins of share · |mean confidence − accuracy| (Naeini et al. 2015; Guo et
al. 2017), here in bins of about equal counts, as predictions crowd at some confidences (Nguyen and O'Connor 2015; Nixon
et al. 2019). It is biased upwards: few predictions a bin miss their mean by chance (Roelofs et al. 2022). So it has an
interval, and beside it what a perfectly calibrated model would show with as many predictions (consistency resampling:
Bröcker and Smith 2007).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from stages.base.contracts.evaluation import Bin, Calibration

BINS = 15  # at most
PER_BIN = 20  # predictions, at least: with fewer, a bin's accuracy is chance
RESAMPLES = 1000
Array = np.ndarray


class Errors(NamedTuple):
    """An ECE with its 95 % interval."""

    ece: float
    low: float
    high: float
    by_chance: float  # its mean for a perfectly calibrated model


class Decomposition(NamedTuple):
    """brier = reliability − resolution + uncertainty."""

    brier: float
    reliability: float
    resolution: float
    uncertainty: float


def bin_numbers(confidence: Array, bins: int | None = None) -> Array:
    """Which of at most `bins` bins of about equal counts each prediction is in, [n] int; equal confidences share one.

    By default 15 bins, fewer where they would hold fewer than 20 predictions each.
    """
    bins = bins or min(BINS, max(1, len(confidence) // PER_BIN))
    edges = np.quantile(confidence, np.arange(1, bins) / bins)
    return np.unique(np.searchsorted(edges, confidence, side="left"), return_inverse=True)[1]


def expected_error(
    confidence: Array, hit: Array, owners: Array | None = None, bins: int | None = None, seed: int = 0
) -> Errors:
    """ECE of predictions: confidence [n] in 0..1, hit [n] bool; owners [n] int: which group (a document, a passage)
    each is from, where predictions of a group are not independent.

    Groups get random weights, with the bins as they are (the Bayesian bootstrap, Rubin 1981). By the triangle
    inequality ECE errs by no more than the ECE of the noise in the bins: below, the interval ends where that noise's
    97.5 % quantile does, so that a calibrated model's holds 0; above, at the same quantile of the resampled ECE, which
    errs upwards.
    """
    number = bin_numbers(confidence, bins)
    groups = np.arange(len(confidence)) if owners is None else np.unique(owners, return_inverse=True)[1]
    count, width = groups.max() + 1, number.max() + 1
    cell = groups * width + number
    gaps = np.bincount(cell, weights=confidence - hit, minlength=count * width).reshape(count, width)
    sizes = np.bincount(cell, minlength=count * width).reshape(count, width).astype(np.float64)
    gap, share = gaps.sum(0), sizes.sum(0)
    ece = float(np.abs(gap).sum() / share.sum())
    if count < 2:
        return Errors(ece, math.nan, math.nan, math.nan)
    random = np.random.default_rng(seed)
    noise, drawn_ece = [], []
    centred = gaps - sizes * (gap / share)
    # A bin's own mean was taken from few: the first root; weights vary a little less than counts do: the second.
    members = np.maximum((sizes > 0).sum(0), 2)
    centred *= np.sqrt(members / (members - 1)) * math.sqrt((count + 1) / count)
    for _ in range(0, RESAMPLES, 50):
        weights = random.standard_exponential((50, count))
        weights /= weights.mean(1, keepdims=True)
        drawn = (weights @ sizes).sum(1)
        off = weights @ centred
        noise.append(np.abs(off).sum(1) / drawn)
        drawn_ece.append(np.abs(off + (weights @ sizes) * (gap / share)).sum(1) / drawn)
    tail = np.quantile(np.concatenate(noise), 0.975)
    high = np.quantile(np.concatenate(drawn_ece), 0.975)
    return Errors(ece, max(0.0, ece - float(tail)), max(ece, float(high)), float(np.concatenate(noise).mean()))


def reliability(confidence: Array, hit: Array, bins: int | None = None) -> list[Bin]:
    """The bars of the reliability diagram, by rising confidence."""
    number = bin_numbers(confidence, bins)
    sizes = np.bincount(number)
    means = np.bincount(number, weights=confidence) / sizes
    shares = np.bincount(number, weights=hit.astype(np.float64)) / sizes
    return [
        Bin(confidence=float(mean), accuracy=float(share), count=int(size))
        for mean, share, size in zip(means, shares, sizes, strict=True)
    ]


def decompose(forecast: Array, outcome: Array, items: int, bins: int | None = None) -> Decomposition:
    """Brier score of yes-or-no forecasts, summed over those of an item, and its terms (Murphy 1973).

    forecast [n] in 0..1, outcome [n] 0 or 1, n = forecasts of all items. What forecasts of one bin differ in counts as
    resolution (Stephenson, Coelho and Jolliffe 2008), so that the terms add up exactly.
    """
    number = bin_numbers(forecast, bins)
    sizes = np.bincount(number)
    mean = np.bincount(number, weights=forecast) / sizes
    share = np.bincount(number, weights=outcome.astype(np.float64)) / sizes
    base = float(outcome.mean())
    inside = forecast - mean[number]
    within = 2 * float((inside * (outcome - share[number])).sum()) - float((inside**2).sum())
    return Decomposition(
        float(((forecast - outcome) ** 2).sum()) / items,
        float((sizes * (mean - share) ** 2).sum()) / items,
        (float((sizes * (share - base) ** 2).sum()) + within) / items,
        len(forecast) * base * (1 - base) / items,
    )


def of_events(confidence: Array, hit: Array, owners: Array | None, entropy: float | None = None) -> Calibration:
    """Of predictions that come true or not, such as the likeliest next token; owners as in `expected_error`."""
    return _contract(confidence, hit, owners, decompose(confidence, hit, len(hit)), entropy, "the prediction's own")


def of_choices(
    logprobs: Sequence[Sequence[float]], answers: Sequence[int], clusters: Sequence[str] = ()
) -> Calibration:
    """Of the probabilities among an item's choices: the softmax of their log-likelihoods, nats, as a protocol compares
    them. answers: index of the right choice. clusters: of each item, "" where it stands alone.
    """
    probabilities = [softmax(values) for values in logprobs]
    confidence = np.array([p.max() for p in probabilities])
    hit = np.array([int(p.argmax()) == answer for p, answer in zip(probabilities, answers, strict=True)])
    outcome = [np.arange(len(p)) == answer for p, answer in zip(probabilities, answers, strict=True)]
    names = [name or f"\x00{i}" for i, name in enumerate(clusters)]
    owners = np.unique(names, return_inverse=True)[1] if any(clusters) else None
    brier = decompose(np.concatenate(probabilities), np.concatenate(outcome), len(answers))
    return _contract(
        confidence, hit, owners, brier, float(np.mean([entropy(p) for p in probabilities])), "all choices'"
    )


def softmax(logprobs: Sequence[float]) -> Array:
    """Equal probabilities where all are −∞, as nothing tells the choices apart."""
    values = np.asarray(logprobs, dtype=np.float64)
    if np.isneginf(values).all():
        return np.full(len(values), 1 / len(values))
    weights = np.exp(values - values.max())
    return weights / weights.sum()


def entropy(probabilities: Array) -> float:
    """−Σ p log p, nats."""
    some = probabilities[probabilities > 0]
    return float(-(some * np.log(some)).sum())


def _contract(
    confidence: Array, hit: Array, owners: Array | None, brier: Decomposition, nats: float | None, whose: str
) -> Calibration:
    found = expected_error(confidence, hit, owners)
    bars = reliability(confidence, hit)
    over = "predictions" if owners is None else f"{len(np.unique(owners))} groups of predictions"
    return Calibration(
        n=len(hit),
        ece=found.ece,
        low=found.low,
        high=found.high,
        by_chance=found.by_chance,
        method=f"{len(bars)} bins of about equal counts; Bayesian bootstrap over {over}; Brier score of {whose} "
        "probabilities",
        bins=bars,
        brier=brier.brier,
        reliability=brier.reliability,
        resolution=brier.resolution,
        uncertainty=brier.uncertainty,
        entropy=nats,
    )
