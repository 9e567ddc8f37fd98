"""The plain counts of AlpacaEval's leaderboard, the judge's leaning to one side, and what the verdicts cost."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Row = Mapping[str, Any]


def counts(annotations: Sequence[Row]) -> dict[str, Any]:
    """Columns by AlpacaEval's names, from one model's ANNOTATION rows; rates in percent.

    A preference of 0 is a draw, as there; NaN is left out (and counted as `missing` elsewhere). `standard_error` is
    that of the mean preference over instructions.
    """
    known = np.array([row["preference"] for row in annotations], dtype=np.float64)
    known = known[~np.isnan(known)]
    wins = np.where(known == 0, 0.5, known - 1)
    n = len(wins)
    won, lost = int((wins > 0.5).sum()), int((wins < 0.5).sum())
    usd = sum(row["usd"] for row in annotations)
    asked = len([row for row in annotations if row["annotator"] not in ("", "identical")])
    seconds = [row["seconds"] for row in annotations if not math.isnan(row["seconds"])]
    return {
        "standard_error": 100 * float(wins.std(ddof=1)) / math.sqrt(n) if n > 1 else math.nan,
        "n_wins": won,
        "n_wins_base": lost,
        "n_draws": n - won - lost,
        "n_total": n,
        "discrete_win_rate": 100 * (won + (n - won - lost) / 2) / n if n else math.nan,
        "prefers_first": prefers_first(annotations),
        "usd": usd,
        "usd_per_1000": 1000 * usd / asked if asked else 0.0,
        "seconds_per_1000": 1000 * float(np.mean(seconds)) if seconds else math.nan,
    }


def prefers_first(annotations: Sequence[Row]) -> float:
    """Percent of the verdicts, undecided ones apart, that go to the answer shown first; NaN without any."""
    first = [row["baseline_first"] < 1.5 for row in annotations if _decided(row["baseline_first"])]
    first += [row["output_first"] > 1.5 for row in annotations if _decided(row["output_first"])]
    return 100 * sum(first) / len(first) if first else math.nan


def _decided(preference: float) -> bool:
    return not math.isnan(preference) and preference not in (0.0, 1.5)
