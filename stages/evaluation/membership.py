"""Was a text in the training data? Signs that need the model's probabilities only, and strings planted to be found.

None of them proves anything of a single text: they rank texts, and their worth is how well known members are told from
known non-members (AUC; .5 is a coin's).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit
from scipy.stats import rankdata

from stages.evaluation.entropy import NextTokens

Array = np.ndarray
SPACE = 10**9  # canaries of nine digits


class Separation(NamedTuple):
    """How well a score tells members from non-members: P(member's > non-member's), ties counted half, with its 95 %
    interval."""

    auc: float
    low: float
    high: float


def min_k(logprobs: Sequence[float] | Array, k: float = 0.2) -> float:
    """Mean log-probability of the share `k` of a text's tokens that are the least likely, at least one: members have
    few tokens that surprise (Shi et al. 2023, "Detecting Pretraining Data", eq. 1). NaN for no tokens.
    """
    return _lowest(np.asarray(logprobs, dtype=np.float64), k)


def min_k_plus_plus(tokens: NextTokens, k: float = 0.2) -> float:
    """The same over (log p − mean) / standard deviation, both of log p under the model's own distribution at that place
    (Zhang et al. 2024, "Min-K%++", eq. 3): whether a token is likely for its place. NaN for no tokens.
    """
    spread = np.sqrt(np.maximum(tokens.variance, 1e-12))  # of a distribution that is all alike, or one token's: 0
    return _lowest((tokens.entropy - tokens.nats) / spread, k)


def _lowest(values: Array, k: float) -> float:
    if not 0 < k <= 1:
        raise ValueError(f"k is a share of a text's tokens, above 0 and at most 1; got {k}")
    if not len(values):
        return math.nan
    return float(np.sort(values)[: max(1, int(len(values) * k))].mean())


def separation(members: Sequence[float] | Array, others: Sequence[float] | Array, level: float = 0.95) -> Separation:
    """AUC of scores that are higher for members, with DeLong's variance (DeLong, DeLong and Clarke-Pearson 1988) and t
    by the smaller group; NaN for a group of none, and NaN bounds for one of one.
    """
    x, y = np.asarray(members, dtype=np.float64), np.asarray(others, dtype=np.float64)
    if not len(x) or not len(y):
        return Separation(math.nan, math.nan, math.nan)
    ranks = rankdata(np.concatenate([x, y]))
    above = (ranks[: len(x)] - rankdata(x)) / len(y)  # share of the others that each member is above
    below = 1 - (ranks[len(x) :] - rankdata(y)) / len(x)
    auc = float(above.mean())
    if min(len(x), len(y)) < 2:
        return Separation(auc, math.nan, math.nan)
    error = math.sqrt(above.var(ddof=1) / len(x) + below.var(ddof=1) / len(y))
    half = float(stdtrit(min(len(x), len(y)) - 1, 0.5 + level / 2)) * error
    return Separation(auc, max(0.0, auc - half), min(1.0, auc + half))


def canaries(seed: int, n: int) -> list[str]:
    """n different random strings of one form, in random order: the first to plant, the others to rank it among.

    Nothing but having read one makes it likelier than the others (Carlini et al. 2019, "The Secret Sharer", §4).
    """
    if not 1 <= n <= SPACE // 2:
        raise ValueError(f"from 1 to {SPACE // 2} canaries, got {n}")
    random = np.random.default_rng(seed)
    drawn: dict[int, None] = {}
    while len(drawn) < n:
        drawn |= dict.fromkeys(random.integers(SPACE, size=n).tolist())
    digits = (f"{number:09d}" for number in list(drawn)[:n])
    return [f"The number of the lost key is {d[:3]} {d[3:6]} {d[6:]}." for d in digits]


def rank_of(planted: float, alternatives: Sequence[float] | Array) -> int:
    """Place of the planted string by its log-likelihood among itself and the alternatives, 1 for the likeliest; what is
    as likely counts against it."""
    return 1 + int((np.asarray(alternatives, dtype=np.float64) >= planted).sum())


def exposure(rank: int, n: int) -> float:
    """log2 n − log2 rank, bits, of a canary that is `rank`-th likeliest of n (Carlini et al. 2019, definition 2): how
    much easier to guess it has become. 1.44 on average for one never seen; log2 n for one known by heart.
    """
    if not 1 <= rank <= n:
        raise ValueError(f"a rank is from 1 to {n}, got {rank}")
    return math.log2(n) - math.log2(rank)
