"""The verdict of a claim: its rule, applied to what its runs gave, and nothing else.

In this order: a declaration that was edited after runs had started is `deviated`; one that the check refused, or whose
rule can't be asked of these outcomes, `inadmissible`; one whose runs aren't all there waits (`undecided`); else the
word that the rule makes of the numbers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from stages.base.contracts.claim import Comparison, Look, Verdict, Word
from stages.base.crossed import holm
from stages.base.errors import ParamError
from stages.experiment.declaration import BASELINE, Declaration, Looks, MetricFile
from stages.experiment.power import noise_of, seeds_needed, visible_effect
from stages.experiment.rule import parse_rule
from stages.experiment.statistics import sequential
from stages.experiment.statistics.analyses import Finding, Inadmissible, Terms, analyse, beside
from stages.experiment.statistics.outcomes import Outcomes, cluster_means, ordered, read_outcomes

SIDED = ("difference", "trend", "ordering", "scaling")
"""Analyses that looks are for: they ask which side of a value the effect is on."""
Given = Declaration | Mapping[str, Any]


def decide(
    declaration: Given,
    outcomes: Any,
    *,
    deviated: str = "",
    refused: Sequence[str] = (),
    waits: Sequence[str] = (),
) -> Verdict:
    """declaration: read from a file, or a mapping with the same keys, of which `rule` alone must be there. outcomes:
    rows of arm, seed, value and, where there are such, item, cluster, compute, predicted (a DataFrame, a pyarrow Table,
    rows or columns). deviated: what was edited after runs had started. refused: why the check refused it. waits: runs
    that aren't there, each with its reason.

    Raises InputError naming the arm, seed and item for a value that is no finite number, for cells given twice and for
    items that are missing; ParamError for a rule that can't be read.
    """
    asked = _read(declaration)
    if deviated:
        return _without("deviated", f"the declaration was edited after runs had started: {deviated}", asked)
    if refused:
        return _without("inadmissible", "; ".join(refused), asked)
    if waits and (outcomes is None or len(outcomes) == 0):
        return _without("undecided", f"waits for {'; '.join(waits)}", asked)
    table = read_outcomes(outcomes, asked.metric)
    try:
        if (pair := asked.content.get("pair")) and "cluster" in pair and "item" not in pair:
            table = _by_cluster(table, asked.metric)
        terms = _terms(asked, table)
        missing, extra = _missing(asked, terms, table)
        if extra:
            raise Inadmissible(extra)
        missing = [run for run in missing if not any(f"{told} ".startswith(f"{run} ") for told in waits)]
        if asked.looks is not None:
            return _at_looks(asked, terms, table, [*waits, *missing])
        if waits or missing:
            return _without("undecided", f"waits for {'; '.join([*waits, *missing])}", asked)
        return _verdict(analyse(table, terms), terms, table)
    except Inadmissible as why:
        return _without("inadmissible", str(why), asked)


class Asked(NamedTuple):
    """The keys of a declaration that its verdict needs."""

    content: Mapping[str, Any]
    metric: str
    looks: Looks | None
    seeds: list[str] | None
    """Labels of the declared runs; None where none are declared."""

    @property
    def alpha(self) -> float:
        return float(self.content.get("alpha") or 0.05)


def _read(declaration: Given) -> Asked:
    if isinstance(declaration, Declaration):
        content = {name: getattr(declaration, name) for name in type(declaration).model_fields}
    else:
        content = dict(declaration)
    if not content.get("rule"):
        raise ParamError("`rule` is missing: without it there is nothing to decide")
    metric, looks = content.get("metric") or "the metric", content.get("looks")
    if isinstance(metric, Mapping):
        metric = MetricFile.model_validate(dict(metric))
    if isinstance(metric, MetricFile):
        from stages.experiment.metrics import of_file

        metric = of_file(metric).name
    if isinstance(looks, Mapping):
        looks = Looks.model_validate(dict(looks))
    return Asked(content, str(metric), looks, _labels(content.get("seeds")))


def _labels(seeds: Any) -> list[str] | None:
    """Names of the declared runs in order, as `runs.outcomes.seed_label` makes them; None if none are declared."""
    if seeds is None:
        return None
    axes = seeds if isinstance(seeds, Mapping) else {"": seeds}
    values = [list(range(1, n + 1)) if isinstance(n, int) else list(n) for n in axes.values()]
    if len(axes) == 1:
        return [str(value) for value in values[0]]
    return [
        ", ".join(f"{axis} {value}" for axis, value in zip(axes, row, strict=True)) for row in zip(*values, strict=True)
    ]


def _terms(asked: Asked, table: Outcomes) -> Terms:
    content = asked.content
    rule = parse_rule(content["rule"])
    present = dict.fromkeys(table.arm)
    arms = tuple(content.get("arms") or present)
    unknown = [arm for arm in [*rule.arms, *present] if arm not in arms]
    if unknown:
        raise ParamError(f"arm `{unknown[0]}` isn't declared; the arms are {', '.join(arms)}")
    baseline = BASELINE if BASELINE in arms else arms[0]
    per_item = bool((table.item != "").any())
    pair = content.get("pair")
    if pair is not None and "item" in pair and not per_item:
        raise Inadmissible(f"`pair` names item, but {asked.metric} is one number a run")
    labels = [set(table.seeds(arm)) for arm in arms if arm in present]
    same_seeds = bool(set.intersection(*labels)) if labels else True
    pair_seeds = same_seeds if pair is None else "seed" in pair
    one_each = max((len(one) for one in labels), default=0) == 1
    levels = content.get("levels") or {}
    return Terms(
        metric=asked.metric,
        arms=arms,
        baseline=baseline,
        rule=rule,
        pair_seeds=pair_seeds,
        pair_items=per_item and (pair is None or "item" in pair or "cluster" in pair),
        over_seeds=not (pair is not None and "seed" not in pair and one_each and per_item),
        alpha=asked.alpha,
        power=float(content.get("power") or 0.8),
        margin=content.get("margin"),
        levels=tuple(float(levels[arm]) for arm in arms) if levels else tuple(map(float, range(len(arms)))),
    )


def _by_cluster(table: Outcomes, metric: str) -> Outcomes:
    """What is paired by cluster alone: a cluster's mean takes the place of its items."""
    if "" in table.cluster:
        raise Inadmissible(f"`pair` names cluster, but items of {metric} are in none")
    return cluster_means(table)


def _missing(asked: Asked, terms: Terms, table: Outcomes) -> tuple[list[str], str]:
    """(Runs that the rule needs and that aren't there; what is there and was not declared)."""
    needed = terms.rule.arms or terms.arms
    everywhere = ordered([seed for arm in needed for seed in table.seeds(arm)])
    declared = asked.seeds
    named = declared is not None and set(everywhere) <= set(declared)
    expected = (declared or []) if named else everywhere if terms.pair_seeds else []
    missing = []
    for arm in needed:
        seeds = table.seeds(arm)
        lacking = [seed for seed in expected if seed not in seeds]
        more = len(declared or []) - len(seeds) - len(lacking)
        if lacking:
            missing.append(f"arm {arm}, seed{'s' * (len(lacking) > 1)} {', '.join(lacking)}")
        if more > 0:
            missing.append(f"arm {arm}, {more} more seed{'s' * (more > 1)}")
        if declared is not None and len(seeds) > len(declared):
            return [], (
                f"arm {arm} has {len(seeds)} seeds and {len(declared)} are declared: seeds that are added after a look "
                "at the first ones change the error rate; declare `looks`"
            )
    return missing, ""


def _at_looks(asked: Asked, terms: Terms, table: Outcomes, waits: list[str]) -> Verdict:
    """The first look that decides, on its own seeds alone; the last one decides in any case."""
    assert asked.looks is not None
    if terms.rule.analysis not in SIDED:
        raise Inadmissible(f"`looks` are for rules about a side, and `{terms.rule.text}` is {terms.rule.analysis}")
    at = asked.looks.at
    bounds = sequential.bounds([n / at[-1] for n in at], terms.alpha, asked.looks.spending)
    seeds = {arm: table.seeds(arm) for arm in terms.rule.arms or terms.arms}
    union = ordered([seed for names in seeds.values() for seed in names])
    order = asked.seeds if asked.seeds and set(union) <= set(asked.seeds) else union
    for number, (n, bound) in enumerate(zip(at, bounds, strict=True), 1):
        chosen = {
            arm: [s for s in order[:n] if s in names] if terms.pair_seeds else [s for s in order if s in names][:n]
            for arm, names in seeds.items()
        }
        if any(len(names) < n for names in chosen.values()):
            so_far = f", {number - 1} of {len(at)} left it open" if number > 1 else ""
            told = "; ".join(waits) or "its runs"
            return _without("undecided", f"waits for {told} (the next look is at {n} seeds{so_far})", asked)
        kept = np.array([s in chosen.get(a, ()) for a, s in zip(table.arm, table.seed, strict=True)])
        last = number == len(at)
        here = replace(terms, alpha=bound.level, margin=terms.margin if last else None)
        finding = analyse(table.only(kept), here)
        if last or finding.word in ("supported", "contradicted"):
            look = Look(at=n, number=number, of=len(at), spent=bound.spent, level=bound.level)
            return _verdict(finding, here, table.only(kept), look)
    raise AssertionError("the last look returns")


def _verdict(finding: Finding, terms: Terms, table: Outcomes, look: Look | None = None) -> Verdict:
    first, how = finding.comparisons[0], finding.estimator
    notes = list(finding.notes)
    if finding.word == "undecided" and (told := _power_note(first, terms)):
        notes.append(told)
    if look:
        how += (
            f" Look {look.number} of {look.of}, at {look.at} seeds: tested at {look.level:.2g}, as the looks up to "
            f"here may spend {look.spent:.2g} (Lan and DeMets)."
        )
    return Verdict(
        verdict=finding.word,
        sentence=f"{finding.word.capitalize()}: {_numbers(first, terms)}; {finding.why}.",
        analysis=terms.rule.analysis,
        effect=first.effect,
        low=first.low,
        high=first.high,
        p=first.p,
        df=first.df,
        level=terms.level,
        null=finding.null,
        n_seeds=first.n_seeds,
        n_items=first.n_items,
        estimator=how,
        comparisons=[*finding.comparisons, *beside(table, terms)],
        look=look,
        notes=list(dict.fromkeys(notes)),
    )


def _without(word: Word, why: str, asked: Asked) -> Verdict:
    """A verdict that no number made."""
    analysis = parse_rule(asked.content["rule"]).analysis
    sided = 1 if analysis in SIDED else 2
    return Verdict(
        verdict=word, sentence=f"{word.capitalize()}: {why}.", analysis=analysis, level=1 - sided * asked.alpha
    )


def _numbers(one: Comparison, terms: Terms) -> str:
    runs = f"{one.n_seeds} seed{'s' * (one.n_seeds != 1)}"
    if one.n_items:
        runs += f" × {one.n_items} items" + (f" in {one.n_clusters} clusters" if one.n_clusters else "")
    p = "" if one.p is None else "p < 0.0001, " if one.p < 1e-4 else f"p = {one.p:.2g}, "
    interval = f"{100 * terms.level:.4g} % interval {_told(one.low)} to {_told(one.high)}"
    return f"{one.label} is {_told(one.effect)} in {terms.metric} ({interval}, {p}{runs})"


def _told(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3g}".replace("-", "−")


def _power_note(one: Comparison, terms: Terms) -> str:
    """What so many seeds and items can see, and what the margin would take, by the noise of these very runs."""
    noise = noise_of([one])
    if noise is None or terms.rule.analysis not in ("difference", "ordering"):
        return ""
    items = max(one.n_items, 1)
    plan: dict[str, Any] = {"items": items, "alpha": terms.alpha, "power": terms.power}
    smallest = visible_effect(noise, one.n_seeds, **plan)
    if not smallest:
        return ""
    told = f"By this noise {one.n_seeds} seeds show a difference of {smallest:.3g} with power {terms.power:g}"
    if terms.margin is None or smallest <= terms.margin:
        return f"{told}."
    needed = seeds_needed(noise, terms.margin, **plan)
    takes = f"takes {needed} seeds" if needed else "takes more items: these differ too much among themselves"
    return f"{told}; to see the margin of {terms.margin:.3g} {takes}."


def over_suite(verdicts: Mapping[str, Verdict]) -> dict[str, Verdict]:
    """The same verdicts with p values adjusted for being asked together (Holm 1979), those without a p value as they
    are. A claim's own rule binds: one that the suite as a whole doesn't bear out gets a note."""
    tested = {name: verdict for name, verdict in verdicts.items() if verdict.p is not None}
    adjusted = dict(zip(tested, holm([verdict.p or 0.0 for verdict in tested.values()]).tolist(), strict=True))
    found = {}
    for name, verdict in verdicts.items():
        if name not in tested:
            found[name] = verdict
            continue
        alpha = (1 - verdict.level) / (1 if verdict.analysis in SIDED else 2)
        notes = list(verdict.notes)
        if verdict.verdict in ("supported", "contradicted") and adjusted[name] >= alpha:
            notes.append(
                f"Among {len(tested)} claims asked together p is {adjusted[name]:.2g} (Holm): chance may have given it."
            )
        found[name] = verdict.model_copy(update={"adjusted_p": adjusted[name], "notes": notes})
    return found
