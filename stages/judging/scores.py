"""A model's numbers on one split, by the pipeline's verdicts or imported ones, and one model's against another's."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.base.contracts.leaderboard import Comparison
from stages.base.contracts.leaderboard import Row as BoardRow
from stages.base.errors import InputError
from stages.judging.statistics import length_control
from stages.judging.statistics.arena import Ratings, fit_bradley_terry
from stages.judging.statistics.intervals import Bounds, mean_bounds, rate_bounds
from stages.judging.statistics.plain_counts import counts
from stages.judging.statistics.prediction_powered import corrected

Row = dict[str, Any]
SAME = 1e-9  # preferences, or rates, closer than this tie
ELO_SCALE, ELO_MEAN = 400 / math.log(10), 1000.0  # the scale on which people know arena ratings
UNKNOWN = Bounds(math.nan, math.nan)


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


def numbers(
    judged: Judged,
    *,
    itself: bool = False,
    gamed: Any = None,
    difficulty: Any = None,
    truth: Mapping[str, float] | None = None,
) -> tuple[Row, str]:
    """(Win rates in percent with 95 % intervals, exact score and length of one model on one split; why it has no
    length-controlled rate, "" where it has).

    itself: the baseline, whose rates are 50 by definition and have no interval. truth: the right preference of some
    instructions, 0 (the baseline's answer is better) to 1, by id.
    """
    columns = _columns(judged)
    wins = columns["preference"][~np.isnan(columns["preference"])] - 1
    win, discrete = (rate_bounds(part) if len(wins) and not itself else UNKNOWN for part in (wins, _decided(wins)))
    lc, error, bounds, why = math.nan, math.nan, UNKNOWN, ""
    if itself:
        lc, error = 50.0, 0.0
    else:
        try:
            fitted = length_control.fit(columns, gamed=gamed, difficulty=difficulty)
            lc, error, why = fitted.lc_win_rate, fitted.lc_standard_error, fitted.unidentified
            bounds = fitted.interval()
        except InputError as refused:
            why = str(refused)
    known = truth or {}
    right_verdicts = [known.get(row["id"], math.nan) for row in judged.annotations]
    fixed = None if itself else corrected(columns["preference"] - 1, right_verdicts)
    right = [float(row["right"]) for row in judged.exact]
    exact = rate_bounds(right) if right else UNKNOWN
    return {
        "win_rate": 100 * float(wins.mean()) if len(wins) else math.nan,
        "win_rate_low": win.low,
        "win_rate_high": win.high,
        "discrete_win_rate_low": discrete.low,
        "discrete_win_rate_high": discrete.high,
        "lc_win_rate": lc,
        "lc_standard_error": error,
        "lc_low": bounds.low,
        "lc_high": bounds.high,
        "corrected_win_rate": fixed.rate if fixed else None,
        "corrected_low": fixed.low if fixed else None,
        "corrected_high": fixed.high if fixed else None,
        "n_truth": fixed.n if fixed else 0,
        "right": 100 * float(np.mean(right)) if right else math.nan,
        "right_low": exact.low,
        "right_high": exact.high,
        "mean_score": float(np.mean([row["score"] for row in judged.exact])) if judged.exact else math.nan,
        "mean_length": float(columns["len_output"].mean()) if judged.annotations else math.nan,
        "n": len(wins),
        "missing": len(judged.annotations) - len(wins),
        **counts(judged.annotations),
    }, why


def _decided(wins: np.ndarray) -> np.ndarray:
    """1, 0 or a half for a draw."""
    return np.where(wins > 0.5, 1.0, np.where(wins < 0.5, 0.0, 0.5))


def known_verdicts(model: Judged, baseline: Judged) -> dict[str, float]:
    """Id → whether the model's answer has the higher exact score, a half for equal ones; where both are known."""
    theirs = {row["id"]: row["score"] for row in baseline.exact}
    return {
        row["id"]: 0.5 + 0.5 * float(np.sign(row["score"] - theirs[row["id"]]))
        for row in model.exact
        if row["id"] in theirs
    }


def ranked(rows: Sequence[BoardRow]) -> list[BoardRow]:
    """By length-controlled rate, those without one last, and by name among equals. Equal rates share a rank; controls
    stand where their rate puts them, without one."""
    ordered = sorted(rows, key=lambda row: (row.lc_win_rate is None, -(row.lc_win_rate or 0.0), row.model))
    found: list[BoardRow] = []
    place, rank, last = 0, 0, math.nan
    for row in ordered:
        if row.control:
            found.append(row.model_copy(update={"rank": None}))
            continue
        place += 1
        rate = -1.0 if row.lc_win_rate is None else row.lc_win_rate
        if not abs(rate - last) < SAME:
            rank, last = place, rate
        found.append(row.model_copy(update={"rank": rank}))
    return found


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
    """Bradley–Terry over the implied battles; None where there are none."""
    battles = implied_battles(judged, baseline)
    return fit_bradley_terry(battles) if battles["winner"] else None


def ratings_note(fitted: Ratings | None, where: str) -> list[str]:
    """What a reader must know of ratings that have no finite maximum."""
    if not fitted or not fitted.regularised:
        return []
    return [
        f"Bradley–Terry{where}: some models never lost to the others, so that verdicts alone don't say how far apart "
        "they are: rated by penalised likelihood (Firth), which also ends the intervals on that side."
    ]


def strength_columns(fitted: Ratings | None, model: str) -> Row:
    """Bradley–Terry's log-strength with its interval, and the same on the scale of arenas; None without a fit."""
    strength = fitted.ratings.get(model) if fitted else None
    low, high = fitted.intervals[model] if fitted and strength is not None else (None, None)
    row: Row = {}
    for name, value in (("", strength), ("_low", low), ("_high", high)):
        row[f"bradley_terry{name}"] = value
        row[f"arena_rating{name}"] = None if value is None else ELO_MEAN + ELO_SCALE * value
    return row


def difference(judged: Mapping[str, Judged], model: str, against: str, split: str) -> Comparison:
    """`model` minus `against` in points, with a paired 95 % interval: exactly right answers where truth is known, else
    wins against the baseline. Raises InputError where the two answered different instructions."""
    exact = all(judged[name].exact for name in (model, against))
    ours, theirs = (points(judged[name], exact) for name in (model, against))
    if ours.keys() != theirs.keys():
        raise InputError(f"`{model}` and `{against}` were scored on different instructions; run `dvc repro`")
    keys = [key for key in sorted(ours) if not math.isnan(ours[key] + theirs[key])]
    gaps = np.array([ours[k] - theirs[k] for k in keys])
    low, high = mean_bounds((gaps + 100) / 200) if keys else UNKNOWN  # bounded by -100 and 100
    return Comparison(
        model=model,
        against=against,
        metric="right" if exact else "win_rate",
        split=split,
        difference=float(gaps.mean()) if keys else math.nan,
        low=200 * low - 100,
        high=200 * high - 100,
        n=len(keys),
    )


def points(judged: Judged, exact: bool) -> dict[str, float]:
    """Percent by question: exactly right, or by the verdict against the baseline (NaN without one)."""
    if exact:
        return {row["id"]: 100.0 * row["right"] for row in judged.exact}
    return {row["id"]: 100.0 * (row["preference"] - 1) for row in judged.annotations}
