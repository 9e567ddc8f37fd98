"""Models compared on the same items: paired differences, what they could have shown, tiers, orders that turn.

Two models' scores on the same items are correlated, and their difference is known better than either (Miller 2024,
"Adding error bars to evals", section 4). The estimator is `base.crossed`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.special import betaincinv

from stages.base.crossed import contrast, tiers

LEVEL = 0.95


def cluster_ids(clusters: Sequence[str]) -> np.ndarray | None:
    """Integers for `crossed.contrast`; None where no two items share a group."""
    own = [name or f"\0{place}" for place, name in enumerate(clusters)]
    names, ids = np.unique(own, return_inverse=True)
    return ids if len(names) < len(own) else None


@dataclass(frozen=True)
class Difference:
    """One model's score minus another's over the items that both answered."""

    n: int
    clusters: int
    difference: float
    low: float
    high: float
    p: float  # two-sided, of no difference
    visible: float  # the smallest true difference that such data show with a power of 80 %
    correlation: float  # of the two models' values over the items; NaN where one of them never varies

    def items_needed(self, effect: float) -> int:
        """Items of this kind at which a difference of `effect` is visible, by the square root of their number."""
        return int(np.ceil(self.n * (self.visible / effect) ** 2))


def difference(
    a: Mapping[str, float], b: Mapping[str, float], clusters: Mapping[str, str] | None = None
) -> Difference | None:
    """a − b by item, paired; None for fewer than two items in common (or all of one group).

    Where the difference is the same on every item its spread is 0, and Student's interval has no width. Of scores from
    0 to 1 the bounds are then those of a share: of n items (groups) none went another way, so at most 1 − .025^(1/n) of
    all items do (Clopper and Pearson 1934); p is that of the sign test.
    """
    shared = sorted(a.keys() & b.keys())
    if len(shared) < 2:
        return None
    x, y = (np.array([[one[item] for item in shared]]) for one in (a, b))
    groups = cluster_ids([clusters.get(item, "") for item in shared]) if clusters else None
    if groups is not None and groups.max() == 0:
        return None
    found = contrast([x, y], [1.0, -1.0], clusters=[groups, groups])
    (low, high), p, visible = found.interval(LEVEL), found.p_two_sided(), found.visible()
    if found.standard_error == 0 and min(x.min(), y.min()) >= 0 and max(x.max(), y.max()) <= 1:
        (low, high), p, visible = _unanimous(float(found.effect), int(found.n_clusters) or len(shared))
    varies = np.ptp(x) > 0 and np.ptp(y) > 0
    return Difference(
        n=len(shared),
        clusters=int(found.n_clusters),
        difference=float(found.effect),
        low=float(low),
        high=float(high),
        p=float(p),
        visible=visible,
        correlation=float(np.corrcoef(x[0], y[0])[0, 1]) if varies else float("nan"),
    )


def _unanimous(effect: float, n: int) -> tuple[tuple[float, float], float, float]:
    """Interval, p and smallest visible difference where n independent items all differ by `effect`.

    A difference shows once so many items go one way and none the other that the sign test calls it one.
    """
    others = 1 - ((1 - LEVEL) / 2) ** (1 / n)
    needed = int(np.ceil(1 - np.log2(1 - LEVEL)))
    visible = float(betaincinv(needed, n - needed + 1, 0.8)) if n >= needed else 1.0
    p = 1.0 if effect == 0 else min(1.0, 2 * 0.5**n)
    return (max(-1.0, effect - others), min(1.0, effect + others)), p, visible


def compare(
    values: Mapping[str, Mapping[str, float]], clusters: Mapping[str, str] | None = None
) -> tuple[dict[tuple[str, str], Difference], dict[str, int]]:
    """(Differences of all pairs of models, better one first; model → tier) of model → item → value.

    Tiers go by accuracy on the items, with Holm's adjustment over all pairs (`crossed.tiers`). A model that shares
    items with no other has none.
    """
    means = {model: float(np.mean(list(own.values()))) for model, own in values.items() if own}
    order = sorted(means, key=lambda model: (-means[model], model))
    found = {(a, b): difference(values[a], values[b], clusters) for a, b in combinations(order, 2)}
    differences = {pair: one for pair, one in found.items() if one is not None}
    met = {model for pair in differences for model in pair}
    p = {pair: 1.0 if one is None else one.p for pair, one in found.items() if met.issuperset(pair)}
    return differences, tiers({model: mean for model, mean in means.items() if model in met}, p, 1 - LEVEL)


def rank_flips(scores: Mapping[str, Mapping[str, float]]) -> list[tuple[str, str, str, str]]:
    """(protocol, another, model, model) wherever the first model is ahead under the first protocol and behind under the
    other one. scores: protocol → model → mean."""
    flips = []
    for one, other in combinations(scores, 2):
        for a, b in combinations(sorted(scores[one].keys() & scores[other].keys()), 2):
            here, there = scores[one][a] - scores[one][b], scores[other][a] - scores[other][b]
            if here * there < 0:
                flips.append((one, other, *((a, b) if here > 0 else (b, a))))
    return flips


def win_rates(means: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """HELM's mean win rate (Liang et al. 2022, §5): over tasks, the share of other models that a model is ahead of;
    equal means count half. means: task → model → main metric, larger is better. Only models that all tasks have."""
    models = set.intersection(*(set(one) for one in means.values())) if means else set()
    if len(models) < 2:
        return {}
    return {
        model: float(np.mean([_ahead(one, model, models - {model}) for one in means.values()]))
        for model in sorted(models)
    }


def _ahead(means: Mapping[str, float], model: str, others: set[str]) -> float:
    return float(np.mean([(means[model] > means[one]) + (means[model] == means[one]) / 2 for one in others]))
