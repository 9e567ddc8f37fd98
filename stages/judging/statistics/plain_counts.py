"""The plain counts of AlpacaEval's leaderboard, the judge's leanings, and what the verdicts cost."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

Row = Mapping[str, Any]
FEWEST, ONE_SIDED = 20, 40.0  # verdicts; points from 50 beyond which a judge doesn't read the answers
MIN_LENGTH_GAP = 30  # characters; closer pairs say nothing about a preference for length, as in AlpacaEval


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
        "prefers_longer": share(longer(annotations)),
        "consistent": consistent(annotations),
        "usd": usd,
        "usd_per_1000": 1000 * usd / asked if asked else 0.0,
        "seconds_per_1000": 1000 * float(np.mean(seconds)) if seconds else math.nan,
    }


def prefers_first(annotations: Sequence[Row]) -> float:
    """Percent of the verdicts, undecided ones apart, that go to the answer shown first; NaN without any."""
    first = [row["baseline_first"] < 1.5 for row in annotations if _decided(row["baseline_first"])]
    first += [row["output_first"] > 1.5 for row in annotations if _decided(row["output_first"])]
    return share(first)


def longer(annotations: Iterable[Row], side: str = "") -> list[bool]:
    """Whether the longer answer won, of each decided pair whose lengths differ by more than MIN_LENGTH_GAP.

    side: only pairs where the "output", or the "baseline", is the longer one.
    """
    found = []
    for row in annotations:
        gap = row["len_output"] - row["len_baseline"]
        if abs(gap) > MIN_LENGTH_GAP and _decided(row["preference"]) and side != ("baseline" if gap > 0 else "output"):
            found.append((row["preference"] > 1.5) == (gap > 0))
    return found


def consistent(annotations: Sequence[Row]) -> float:
    """Percent of the pairs decided in both orders whose verdicts name the same answer; NaN without any."""
    both = [r for r in annotations if _decided(r["baseline_first"]) and _decided(r["output_first"])]
    return share([(row["baseline_first"] > 1.5) == (row["output_first"] > 1.5) for row in both])


def length_note(annotations: Sequence[Row]) -> list[str]:
    """A judge goes by length alone where the longer answer nearly always wins, be it the model's or the baseline's."""
    sides = [longer(annotations, side) for side in ("output", "baseline")]
    if min(map(len, sides)) < FEWEST or min(map(share, sides)) < 50 + ONE_SIDED:
        return []
    return [
        f"The judge goes by length: the longer answer wins {share(sides[0]):.0f} % of comparisons where it is the "
        f"model's, and {share(sides[1]):.0f} % where it is the baseline's."
    ]


def share(said: Sequence[bool]) -> float:
    """Percent; NaN of nothing."""
    return 100 * sum(said) / len(said) if said else math.nan


def _decided(preference: float) -> bool:
    return not math.isnan(preference) and preference not in (0.0, 1.5)
