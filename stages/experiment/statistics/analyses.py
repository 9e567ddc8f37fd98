"""The analyses that a rule can ask for: outcomes → comparisons of arms and the word that the rule makes of them.

Error rates, at alpha: a difference or a trend that isn't there is called either way in alpha of all experiments
(two-sided interval at 1 − alpha). Equivalence holds falsely in alpha (two one-sided tests, each at alpha; their
interval is at 1 − 2·alpha) and is contradicted falsely in alpha. An ordering holds where every neighbouring pair does,
each at 1 − alpha (intersection–union, Berger 1982: no adjustment is due), and is contradicted where a pair is reversed
at alpha by Holm's adjustment.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from stages.base.contracts.claim import Comparison, Word
from stages.base.crossed import Estimate, contrast, holm, slope_weights
from stages.base.errors import InputError, TrainyardError
from stages.experiment.rule import Analysis, Rule
from stages.experiment.statistics import scaling_law
from stages.experiment.statistics.outcomes import Outcomes, arm_tables

FEW_CLUSTERS = 6
NOT_A_RERUN = "This interval covers the choice of items and not a rerun: each arm is one trained run."


class Inadmissible(TrainyardError):
    """The rule can't be asked of these outcomes; the message says why."""


@dataclass(frozen=True)
class Terms:
    """What a declaration says of its verdict."""

    metric: str
    arms: tuple[str, ...]
    baseline: str
    rule: Rule
    pair_seeds: bool
    pair_items: bool
    over_seeds: bool
    """Whether the seeds' variance is in the question: not so for one seed of arms that are paired by item alone."""
    alpha: float
    power: float
    margin: float | None
    levels: tuple[float, ...]
    """Of a trend, an arm each."""

    @property
    def level(self) -> float:
        return 1 - (2 if self.rule.analysis in ("equivalence", "predicted") else 1) * self.alpha


@dataclass
class Finding:
    """comparisons: the first decides. why: the rest of the sentence, after the word and the numbers."""

    word: Word
    comparisons: list[Comparison]
    why: str
    estimator: str
    null: float = 0.0
    notes: list[str] = field(default_factory=list)


def measure(outcomes: Outcomes, terms: Terms, arms: Sequence[str], weights: Sequence[float]) -> tuple[Estimate, str]:
    """A weighted sum of the arms' means, and what it is worth knowing of it. Raises Inadmissible where seeds or groups
    are too few to tell, and InputError for outcomes with gaps."""
    read = arm_tables(outcomes, arms, pair_seeds=terms.pair_seeds, pair_items=terms.pair_items)
    seeds = min(len(table) for table in read.tables)
    items = min(table.shape[1] for table in read.tables)
    if seeds < 2 and terms.over_seeds:
        raise Inadmissible(
            "one seed says nothing of the next one, and a test over seeds needs two or more; "
            "add seeds, or say `pair: [item]` for an interval over items alone"
        )
    tables = read.tables if terms.over_seeds else [table[:1] for table in read.tables]
    if items < 2 and not terms.over_seeds:
        raise Inadmissible("one seed and one number a run: there is no spread to judge a difference by; add seeds")
    notes = list(read.notes)
    if read.clusters[0] is not None:
        groups = min(int(group.max()) + 1 for group in read.clusters if group is not None)
        if groups < 2:
            raise Inadmissible("all items are in one cluster, so nothing tells how the next one would differ")
        if groups < FEW_CLUSTERS:
            notes.append(f"{groups} clusters of items: the interval is wide, as it rests on {groups - 1} differences.")
    if not terms.over_seeds:
        notes.append(NOT_A_RERUN)
    elif seeds == 2:
        notes.append("Two seeds an arm leave one degree of freedom: the interval is many times wider than with five.")
    pairing = {"pair_seeds": terms.pair_seeds, "pair_items": terms.pair_items}
    found = contrast(tables, weights, clusters=read.clusters, **pairing)
    if found.standard_error == 0 and found.effect != 0:
        notes.append("The difference is the same for every seed and item: it is exact, and says nothing beyond them.")
    elif found.standard_error == 0:
        notes.append("The arms gave the same values in every run: what tells them apart doesn't reach this metric.")
    return found, " ".join(notes)


def row(label: str, a: str, b: str, found: Estimate, level: float, p: float) -> Comparison:
    low, high = found.interval(level)
    return Comparison(
        label=label, a=a, b=b, effect=found.effect, low=low, high=high, standard_error=found.standard_error,
        df=found.df, p=p, n_seeds=found.n_seeds, n_items=found.n_items, n_clusters=found.n_clusters,
        seed_variance=found.seed_variance, item_variance=found.item_variance,
        residual_variance=found.residual_variance,
    )  # fmt: skip


def estimator(found: Estimate, terms: Terms) -> str:
    df = f"Student's t with {found.df:.3g} degrees of freedom"
    items = "items" if not found.n_clusters else "clusters of items"
    if found.item_variance is None:
        return f"Mean over seeds of the paired difference; {df}." if terms.pair_seeds else (
            f"Difference of the arms' means over independent seeds (Welch); {df}."
        )  # fmt: skip
    if found.seed_variance is None:
        return f"Mean over {items} of the paired difference; {df}."
    how = "two-way, V_seed + V_item − V_both" if found.n_seeds > 2 else "V_seed + V_item, as two seeds can't tell more"
    seeds = "the same seeds in every arm" if terms.pair_seeds else "independent seeds in each arm (Welch)"
    paired = f"the same {items}" if terms.pair_items else f"{items} of its own in each arm"
    return (
        f"Difference of means with variance from seeds and {items} at once ({how}): "
        f"{seeds}, {paired}; {df} (Satterthwaite)."
    )


def difference(outcomes: Outcomes, terms: Terms) -> Finding:
    """`a > b`, `a > b + 2`: by where the two-sided interval of a − b lies."""
    (a, b), null = terms.rule.arms, terms.rule.threshold
    found, note = measure(outcomes, terms, (a, b), (1.0, -1.0))
    decided = row(f"{a} − {b}", a, b, found, terms.level, found.p_two_sided(null))
    word, why = _against(found, null, terms)
    return Finding(word, [decided], why, estimator(found, terms), null, [note] if note else [])


def _against(found: Estimate, null: float, terms: Terms) -> tuple[Word, str]:
    (low, high), margin = found.interval(terms.level), terms.margin
    if margin is not None and -margin < low - null and high - null < margin:
        around = f"{null:.3g} ± {margin:.3g}" if null else f"± {margin:.3g}"
        return "equivalent", f"the interval lies within {around}, the smallest effect that matters"
    if found.p_two_sided(null) < terms.alpha:
        above = bool(found.effect > null)
        word: Word = "supported" if above == (terms.rule.direction > 0) else "contradicted"
        return word, f"the interval is {'above' if above else 'below'} {null:.3g}"
    return "undecided", f"the interval holds {null:.3g}"


def equivalence(outcomes: Outcomes, terms: Terms) -> Finding:
    a, b = terms.rule.arms
    found, note = measure(outcomes, terms, (a, b), (1.0, -1.0))
    return _within(f"{a} − {b}", a, b, found, terms, estimator(found, terms), [note] if note else [])


def _within(label: str, a: str, b: str, found: Estimate, terms: Terms, how: str, notes: list[str]) -> Finding:
    """Two one-sided tests against ± the rule's threshold."""
    margin = terms.rule.threshold
    p = float(found.p_equivalent(margin))
    low, high = found.interval(terms.level)
    if p < terms.alpha:
        word, why = "supported", f"the interval lies within ± {margin:.3g}"
    elif low >= margin or high <= -margin:
        word, why = "contradicted", f"the interval lies outside ± {margin:.3g}"
    else:
        word, why = "undecided", f"the interval is partly within ± {margin:.3g} and partly outside"
    how = f"{how} Two one-sided tests at {terms.alpha:.3g} each, whose interval is at {100 * terms.level:.3g} %."
    return Finding(word, [row(label, a, b, found, terms.level, p)], why, how, 0.0, notes)  # type: ignore[arg-type]


def trend(outcomes: Outcomes, terms: Terms) -> Finding:
    """`increasing`, `decreasing`: the slope of the arms' means over their levels, or over 0, 1, 2 …"""
    found, note = measure(outcomes, terms, terms.arms, slope_weights(terms.levels).tolist())
    decided = row("slope over " + " → ".join(terms.arms), terms.arms[-1], terms.arms[0], found, terms.level,
                  found.p_two_sided())  # fmt: skip
    word, why = _against(found, 0.0, terms)
    notes = [note] if note else []
    means = [float(outcomes.value[outcomes.arm == arm].mean()) for arm in terms.arms]
    steps = np.sign(np.diff([m for _, m in sorted(zip(terms.levels, means, strict=True))]))
    if word in ("supported", "contradicted") and len(set(steps) - {0.0}) > 1:
        notes.append("The slope has a sign, but the arms' means don't all follow it: look at the neighbours.")
    how = "Least-squares slope of the arms' means over their levels. " + estimator(found, terms)
    return Finding(word, [decided], why, how, 0.0, notes)


def ordering(outcomes: Outcomes, terms: Terms) -> Finding:
    """`a > b > c`: every neighbouring pair by itself (intersection–union)."""
    sign = terms.rule.direction
    pairs = terms.rule.pairs()
    measured = [measure(outcomes, terms, pair, (1.0, -1.0)) for pair in pairs]
    found = [one for one, _ in measured]
    reversed_p = holm([float(one.p_below() if sign > 0 else one.p_above()) for one in found])
    rows = [
        row(f"{a} − {b}", a, b, one, terms.level, one.p_two_sided()).model_copy(update={"adjusted_p": float(p)})
        for (a, b), one, p in zip(pairs, found, reversed_p, strict=True)
    ]
    ahead = [bool(one.p_two_sided() < terms.alpha and sign * one.effect > 0) for one in found]
    if all(ahead):
        word, why = "supported", "every neighbouring pair is in this order"
        first = int(np.argmax([one.p_two_sided() for one in found]))
    elif reversed_p.min() < terms.alpha:
        word, first = "contradicted", int(np.argmin(reversed_p))
        why = f"{pairs[first][0]} and {pairs[first][1]} are in the opposite order"
    else:
        word, first = "undecided", next(i for i, fine in enumerate(ahead) if not fine)
        why = f"{pairs[first][0]} and {pairs[first][1]} can't be told apart"
    how = (
        f"{estimator(found[first], terms)} Every neighbouring pair must hold by itself (intersection–union); "
        "adjusted p values are of the opposite order (Holm)."
    )
    notes = list(dict.fromkeys(note for _, note in measured if note))
    return Finding(word, [rows[first], *rows[:first], *rows[first + 1 :]], why, how, 0.0, notes)  # type: ignore[arg-type]


def scaling(outcomes: Outcomes, terms: Terms) -> Finding:
    """`multiplier(a, b) > 1.2`, `slope(a) < slope(b)`. A margin, in the metric's unit, has no meaning here."""
    terms = replace(terms, margin=None)
    a, b = terms.rule.arms
    laws = _laws(outcomes, terms)
    compare = partial(_compare, laws, terms)
    log = compare(scaling_law.log_multiplier, a, b)
    gap = compare(scaling_law.slope_gap, a, b)
    threshold = terms.rule.threshold
    null = float(np.log(threshold)) if terms.rule.quantity == "multiplier" else 0.0
    low, high = np.exp(log.interval(terms.level))
    multiplier = Comparison(
        label=f"compute multiplier of {a} over {b}", a=a, b=b, effect=float(np.exp(log.effect)), low=low, high=high,
        standard_error=None, df=log.df, p=log.p_two_sided(null), n_seeds=log.n_seeds, n_items=0,
        seed_variance=log.seed_variance,
    )  # fmt: skip
    slopes = row(f"slope of {a} − slope of {b}", a, b, gap, terms.level, gap.p_two_sided())
    each = []
    for arm in (a, b):
        one = compare(scaling_law.slope, arm, arm)
        each.append(row(f"slope of {arm}", arm, "", one, terms.level, one.p_two_sided()))
    at = scaling_law.crossover(laws, a, b)
    cross = Comparison(label="compute where the laws cross", a=a, b=b, effect=at, low=None, high=None,
                       standard_error=None, df=None, p=None, n_seeds=log.n_seeds, n_items=0)  # fmt: skip
    within = f"{laws.lowest:.2e} and {laws.reference:.2e} FLOPs, the compute that all arms have in common"
    notes = [*laws.notes, f"The laws {'cross' if at else 'do not cross'} between {within}."]
    if terms.rule.quantity == "multiplier":
        word, why = _against(log, null, terms)
        why = f"the interval {'holds' if word == 'undecided' else 'is above' if log.effect > null else 'is below'} " + (
            f"{threshold:.3g}, at {laws.reference:.2e} FLOPs"
        )
        rows = [multiplier, slopes]
    else:
        word, why = _against(gap, 0.0, terms)
        rows = [slopes, multiplier]
    one_seed = len(laws.laws[a]) == 1
    if one_seed:
        notes.append(
            "One seed an arm: the interval comes from how far the trainings of a ladder lie from their law, and "
            "doesn't cover what they share, such as the data drawn for that seed."
        )
    seeds = "one seed" if one_seed else f"{'paired' if terms.pair_seeds else 'independent'} seeds"
    scale = ", on the log scale of the multiplier" if terms.rule.quantity == "multiplier" else ""
    how = (
        f"Each seed's ladder of each arm fitted by log(L − {laws.floor:.3g}) over log C; {seeds}, Student's t with "
        f"{log.df:.3g} degrees of freedom{scale}."
    )
    null = threshold if terms.rule.quantity == "multiplier" else 0.0
    return Finding(word, [*rows, *each, cross], why, how, null, notes)


def _laws(outcomes: Outcomes, terms: Terms) -> scaling_law.Laws:
    if outcomes.compute is None:
        raise InputError(f"outcomes: no column `compute`; `{terms.metric}` has no scaling law, ladder/loss has")
    ladders = {}
    for arm in terms.rule.arms:
        mine = outcomes.only(outcomes.arm == arm)
        assert mine.compute is not None
        seeds = outcomes.seeds(arm)
        ladders[arm] = [(mine.compute[mine.seed == seed], mine.value[mine.seed == seed]) for seed in seeds]
    return scaling_law.fit_laws(ladders)


def _compare(laws: scaling_law.Laws, terms: Terms, quantity: scaling_law.Quantity, a: str, b: str) -> Estimate:
    if len(laws.laws[a]) == 1:
        return scaling_law.compare_points(quantity, laws.laws[a][0], laws.laws[b][0], laws.floor)
    return scaling_law.compare(quantity, laws.laws[a], laws.laws[b], terms.pair_seeds)


def predicted(outcomes: Outcomes, terms: Terms) -> Finding:
    """`reached = predicted ± 0.05`: of every arm, the gap of each seed's number from its own forecast."""
    if outcomes.predicted is None:
        raise InputError(f"outcomes: no column `predicted`; `{terms.metric}` comes without a forecast")
    findings = []
    for arm in terms.arms:
        mine = outcomes.only(outcomes.arm == arm)
        gap = [float((mine.value - mine.predicted)[mine.seed == seed].mean()) for seed in outcomes.seeds(arm)]
        if len(gap) < 2:
            raise Inadmissible("one seed says nothing of the next one, and a test over seeds needs two or more")
        found = contrast([np.array(gap)[:, None]], [1.0])
        how = f"Mean over seeds of reached − predicted; Student's t with {found.df:.3g} degrees of freedom."
        findings.append(_within(f"{arm}: reached − predicted", arm, "", found, terms, how, []))
    words = [one.word for one in findings]
    order = ("contradicted", "undecided", "supported")
    decides = min(findings, key=lambda one: (order.index(one.word), -float(one.comparisons[0].p or 0.0)))
    decides.comparisons += [one.comparisons[0] for one in findings if one is not decides]
    if len(words) > 1:
        decides.estimator += " The rule must hold for every arm (intersection–union)."
    return decides


ANALYSES = {
    "difference": difference, "equivalence": equivalence, "trend": trend, "ordering": ordering,
    "scaling": scaling, "predicted": predicted,
}  # fmt: skip


def analyse(outcomes: Outcomes, terms: Terms) -> Finding:
    kind: Analysis = terms.rule.analysis
    return ANALYSES[kind](outcomes, terms)


def beside(outcomes: Outcomes, terms: Terms) -> list[Comparison]:
    """Arms that the rule doesn't name against the baseline, p values by Holm: reported, not ruled on. An arm whose
    seeds aren't all there is left out."""
    named, seeds = {*terms.rule.arms, terms.baseline}, outcomes.seeds(terms.baseline)
    others = [arm for arm in terms.arms if arm not in named and outcomes.seeds(arm) == seeds]
    if terms.rule.analysis not in ("difference", "equivalence", "ordering") or not others:
        return []
    found = [(arm, measure(outcomes, terms, (arm, terms.baseline), (1.0, -1.0))[0]) for arm in others]
    adjusted = holm([float(one.p_two_sided()) for _, one in found])
    return [
        row(f"{arm} − {terms.baseline}", arm, terms.baseline, one, terms.level, one.p_two_sided()).model_copy(
            update={"adjusted_p": float(p)}
        )
        for (arm, one), p in zip(found, adjusted, strict=True)
    ]
