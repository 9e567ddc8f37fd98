"""A model's numbers on one split, and what one model's exact score is against another's."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.base.contracts.leaderboard import Comparison
from stages.base.errors import InputError
from stages.base.stats import mean_interval, paired_interval
from stages.judging.statistics import length_control
from stages.judging.statistics.arena import Ratings, fit_bradley_terry

Row = dict[str, Any]
SAME = 1e-9  # preferences closer than this tie
ELO_SCALE, ELO_MEAN = 400 / math.log(10), 1000.0  # the scale on which people know arena ratings


@dataclass(frozen=True)
class Judged:
    """One model's ANNOTATION and EXACT rows of one split."""

    annotations: list[Row]
    exact: list[Row]


def _columns(judged: Judged) -> dict[str, np.ndarray]:
    names = ("instruction_index", "preference", "len_output", "len_baseline")
    return {name: np.array([row[name] for row in judged.annotations], dtype=np.float64) for name in names}


def gamed_rows(padded: Mapping[str, Judged]) -> dict[str, np.ndarray] | None:
    """Regularising rows for `length_control.fit` from the baseline's own padded answers; None where there are none.

    They play the part of AlpacaEval's verbose and concise baseline: whatever they win, they win by length alone.
    """
    tables = []
    for model, judged in sorted(padded.items()):
        columns = _columns(judged)
        known = ~np.isnan(columns["preference"])
        delta = (columns["len_baseline"] - columns["len_output"])[known]
        if known.sum() > 1 and delta.std(ddof=1) > 0:
            tables.append((model, delta / delta.std(ddof=1), columns["preference"][known] - 1))
    if not tables:
        return None
    return {
        "model": np.concatenate([np.full(len(delta), model) for model, delta, _ in tables]),
        "std_delta_len": np.concatenate([delta for _, delta, _ in tables]),
        "preference_surrogate_0to1": np.concatenate([wins for _, _, wins in tables]),
    }


def numbers(judged: Judged, gamed: Mapping[str, np.ndarray] | None = None) -> Row:
    """Win rates (percent) with 95 % intervals, exact score and length of one model on one split."""
    columns = _columns(judged)
    fit = length_control.fit(columns, gamed=gamed)
    known = columns["preference"][~np.isnan(columns["preference"])]
    win = mean_interval(100 * (known - 1))
    right = mean_interval([100.0 * row["right"] for row in judged.exact])
    scores = [row["score"] for row in judged.exact]
    return {
        "win_rate": win.mean,
        "win_rate_low": win.low,
        "win_rate_high": win.high,
        "lc_win_rate": fit.lc_win_rate,
        "lc_standard_error": fit.lc_standard_error,
        "lc_low": fit.interval()[0],
        "lc_high": fit.interval()[1],
        "right": right.mean,
        # The normal-theory interval leaves 0..100 where nearly all or none are right. In this order NaN stays NaN.
        "right_low": max(right.low, 0.0),
        "right_high": min(right.high, 100.0),
        "mean_score": float(np.mean(scores)) if scores else math.nan,
        "mean_length": float(columns["len_output"].mean()),
        "n": fit.n,
        "missing": fit.n_missing,
    }


def implied_battles(judged: Mapping[str, Judged], baseline: str) -> dict[str, list[str]]:
    """Every pair of models on every instruction: the one that did better against the baseline wins.

    These battles are implied by the annotations, not judged: the baseline stands in with preference 1.5, equal
    preferences tie, a missing preference makes no battle. `cluster` is the instruction, which all of its battles share.
    """
    preferences = {
        model: {row["id"]: row["preference"] for row in rows.annotations} for model, rows in sorted(judged.items())
    }
    if baseline in preferences:
        preferences[baseline] = dict.fromkeys(preferences[baseline], 1.5)
    battles: dict[str, list[str]] = {"model_a": [], "model_b": [], "winner": [], "cluster": []}
    models = list(preferences)
    for i, a in enumerate(models):
        for b in models[i + 1 :]:
            for key, mine in preferences[a].items():
                other = preferences[b].get(key, math.nan)
                if math.isnan(mine) or math.isnan(other):
                    continue
                winner = "tie" if abs(mine - other) < SAME else "model_a" if mine > other else "model_b"
                for name, value in zip(battles, (a, b, winner, key), strict=True):
                    battles[name].append(value)
    return battles


def ratings(judged: Mapping[str, Judged], baseline: str) -> Ratings | None:
    """Bradley–Terry over the implied battles; None for a single model."""
    return fit_bradley_terry(implied_battles(judged, baseline)) if len(judged) > 1 else None


def strength_columns(fitted: Ratings | None, model: str) -> Row:
    """Bradley–Terry's log-strength with its interval, and the same on the scale of arenas; None without a fit."""
    low, high = fitted.intervals[model] if fitted else (None, None)
    row: Row = {}
    for name, strength in (("", fitted.ratings[model] if fitted else None), ("_low", low), ("_high", high)):
        row[f"bradley_terry{name}"] = strength
        row[f"arena_rating{name}"] = None if strength is None else ELO_MEAN + ELO_SCALE * strength
    return row


def difference(judged: Mapping[str, Judged], model: str, against: str, split: str) -> Comparison:
    """`model` minus `against` in points, with a paired 95 % interval: exactly right answers where truth is known, else
    wins against the baseline. Raises InputError where the two answered different instructions."""
    exact = all(judged[name].exact for name in (model, against))
    ours, theirs = (_points(judged[name], exact) for name in (model, against))
    if ours.keys() != theirs.keys():
        raise InputError(f"`{model}` and `{against}` were scored on different instructions; run `dvc repro`")
    keys = [key for key in sorted(ours) if not math.isnan(ours[key] + theirs[key])]
    interval = paired_interval([ours[k] for k in keys], [theirs[k] for k in keys])
    return Comparison(
        model=model,
        against=against,
        metric="right" if exact else "win_rate",
        split=split,
        difference=interval.mean,
        low=interval.low,
        high=interval.high,
        n=len(keys),
    )


def _points(judged: Judged, exact: bool) -> dict[str, float]:
    if exact:
        return {row["id"]: 100.0 * row["right"] for row in judged.exact}
    return {row["id"]: 100.0 * (row["preference"] - 1) for row in judged.annotations}
