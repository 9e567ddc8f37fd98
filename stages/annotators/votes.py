"""Votes of several annotators on pairs of answers: what they come to, and how far they agree."""

import math
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from stages.annotators.agreement import krippendorff_alpha, majority, matches, mean_kappa, nominal
from stages.annotators.agreement import percent_agreement as agreement
from stages.annotators.agreement import variance as variability
from stages.annotators.sides import Sides, side_preference

NAN = math.nan


@dataclass(frozen=True)
class Vote:
    """What one annotator said of one pair. Preferences are 1 (the first answer wins) … 2 (the second); NaN: none."""

    pair: int  # place of the pair among those that were put to the vote
    annotator: str  # who was asked
    preference: float  # 1.5 is a tie
    error: str = ""  # why there is no preference
    a_first: float = NAN  # when output_a was shown first; NaN if that order wasn't shown, or isn't known
    b_first: float = NAN
    weighted: bool = False  # from log-probabilities
    version: str = ""  # as the annotator's replies name it
    usd: float = 0.0
    seconds: float = NAN
    extra: bool = False  # asked for because others disagreed


@dataclass(frozen=True)
class Tally:
    """What the votes on one pair come to."""

    preference: float  # the mean of the votes; NaN where `reason` says why there is none
    annotators: str  # whose votes count
    reason: str  # "", "tie", "no_preference" (nobody answered) or "one_sided" (nobody who looks at the answers)


def tally(votes: Sequence[Vote], pairs: int, left_out: Collection[str] = ()) -> list[Tally]:
    """For each pair the mean of its votes: of plain votes the majority, soft ones weigh by how sure they are.

    Annotators in `left_out` don't count. A mean of exactly 1.5 is a tie, no preference.
    """
    cast: list[list[Vote]] = [[] for _ in range(pairs)]
    for vote in votes:
        if not math.isnan(vote.preference):
            cast[vote.pair].append(vote)
    return [_tally([vote for vote in on if vote.annotator not in left_out], bool(on)) for on in cast]


def _tally(counted: Sequence[Vote], answered: bool) -> Tally:
    if not counted:
        return Tally(NAN, "", "one_sided" if answered else "no_preference")
    mean = sum(vote.preference for vote in counted) / len(counted)
    names = ", ".join(vote.version or vote.annotator for vote in counted)
    return Tally(NAN, names, "tie") if mean == 1.5 else Tally(mean, names, "")


def one_sided(votes: Sequence[Vote]) -> dict[str, Sides]:
    """Annotators that name the answer shown first, or the other one, in nearly every comparison (`sides`)."""
    shown: dict[str, list[tuple[float, bool]]] = {}
    for vote in votes:
        shown.setdefault(vote.annotator, []).extend([(vote.a_first, False), (vote.b_first, True)])
    sides = {name: side_preference(*zip(*cast, strict=True)) for name, cast in sorted(shown.items())}
    return {name: side for name, side in sides.items() if side.one_sided}


def matrix(votes: Sequence[Vote], pairs: int) -> tuple[list[str], np.ndarray]:
    """Annotators by name, and what each said of each pair: [pairs, annotators] of 1, 1.5, 2 or NaN."""
    names = sorted({vote.annotator for vote in votes})
    column = {name: k for k, name in enumerate(names)}
    table = np.full((pairs, len(names)), NAN)
    for vote in votes:
        table[vote.pair, column[vote.annotator]] = vote.preference
    return names, nominal(table)


def measure(
    votes: Sequence[Vote], groups: Sequence[Hashable], better: np.ndarray | None = None, seed: int = 0
) -> dict[str, float | None]:
    """How far the annotators agree, and what their labels cost; None where nothing can be said.

    groups: of each pair the prompt, by which the interval of α is drawn. better: of each pair the answer that is known
    to be better, 1 or 2, NaN where none is. Shares are 0 … 1.
    `agreement`: of couples of votes on one pair those that are equal; `kappa`, `alpha`: the same beyond chance;
    `variance`: votes that differ from the majority of the others, half where these are even. These are without `extra`
    votes, of which the pairs that annotators disagree on have more. `bias`: majorities that differ from `better`;
    `disputed`: pairs whose votes differ; `usd_per_1000`, `seconds_per_1000`: of 1,000 votes.
    """
    table = matrix(votes, len(groups))[1]
    drawn = matrix([vote for vote in votes if not vote.extra], len(groups))[1]
    cast = [vote for vote in votes if not math.isnan(vote.preference)]
    timed = [vote.seconds for vote in cast if not math.isnan(vote.seconds)]
    alpha = krippendorff_alpha(drawn, groups, seed)
    numbers = {
        "votes": len(cast),
        "votes_missing": len(votes) - len(cast),
        "annotators": len({vote.annotator for vote in cast}),
        "disputed": int((np.nanmax(table, axis=1, initial=1.0) > np.nanmin(table, axis=1, initial=2.0)).sum()),
        "agreement": agreement(drawn),
        "kappa": mean_kappa(drawn),
        "alpha": alpha[0],
        "alpha_low": alpha[1],
        "alpha_high": alpha[2],
        "variance": variability(drawn),
        "bias": NAN if better is None else 1 - matches(majority(table), better),
        "usd_per_1000": 1000 * sum(vote.usd for vote in votes) / len(cast) if cast else NAN,
        "seconds_per_1000": 1000 * fmean(timed) if timed else NAN,
    }
    return {name: None if math.isnan(number) else number for name, number in numbers.items()}
