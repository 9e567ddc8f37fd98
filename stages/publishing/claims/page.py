"""The page of one claim, as plain values for its template."""

from typing import Any

from stages.base.contracts.claim import Arm, Claim, Comparison, Word
from stages.publishing.claims.charts import arm_key, effects_chart, runs_chart, seed_effects
from stages.publishing.claims.figures import (
    between,
    duration,
    effect_places,
    effect_unit,
    effect_value,
    metric_places,
    probability,
    shown,
    signed,
    sizes,
    summary_text,
)
from stages.publishing.html.numbers import count

MEANINGS: dict[Word, str] = {
    "supported": "the rule holds",
    "contradicted": "the opposite of the rule holds",
    "undecided": "these runs can't tell",
    "equivalent": "any difference is smaller than what matters",
    "inadmissible": "the rule can't be asked of these data",
    "deviated": "the declaration was edited after runs had started",
}
TOPICS = {
    "data": "Data",
    "tokenizer": "Tokenizer",
    "model": "Model",
    "tuning": "Tuning the recipe",
    "alignment": "Alignment",
    "evaluation": "Evaluation",
    "systems": "Systems",
    "": "Other questions",
}
SHOWN_KEY = 8  # hex digits of a stage instance's key


def claim_view(claim: Claim) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """The view of claim.html, and (id, name) of its sections."""
    verdict = claim.verdict
    view = {
        "claim": claim,
        "meaning": MEANINGS[verdict.verdict],
        "topic": TOPICS.get(claim.topic, claim.topic),
        "tiles": tiles(claim),
        "effects": {
            "chart": effects_chart(claim),
            "legend": effects_legend(claim),
            "table": comparisons_table(claim),
        },
        "runs": {
            "chart": runs_chart(claim),
            "legend": runs_legend(claim),
            "key": arm_key(claim) if any(run.points for run in claim.runs) else [],
        },
        "arms": {"params": params_table(claim), "metrics": metrics_table(claim)},
        "seeds": seeds_table(claim),
        "missing": missing(claim),
        "instances": instances_table(claim),
        "cost": cost_facts(claim),
    }
    sections = [("verdict", "Verdict"), ("runs", "Runs"), ("arms", "Arms"), ("cost", "Cost")]
    return view, [*sections, ("declaration", "Declaration")]


def tiles(claim: Claim) -> list[dict[str, str]]:
    verdict, level = claim.verdict, f"{100 * claim.verdict.level:g}\u202f%"
    found = []
    if verdict.effect is not None:
        decimals = effect_places(verdict)
        unit = f", {effect_unit(claim)}" if effect_unit(claim) else ""
        reach = between(verdict.low, verdict.high, decimals)
        label = f"{_deciding(claim)}{unit}" + (f"; {level} interval {reach}" if reach else "")
        found.append({"value": effect_value(claim, verdict.effect), "label": label})
    if verdict.p is not None:
        against = f"two-sided, against {f'{verdict.null:g}' if verdict.null else 'no effect'}"
        found.append({"value": probability(verdict.p), "label": f"{against}; alpha is {claim.alpha:g}"})
    label = f"an arm; {len(claim.arms)} arms" if verdict.n_seeds else "have a number"
    found.append({"value": sizes(claim), "label": label})
    found.append({"value": duration(claim.cost.cpu_seconds), "label": "of CPU time, shared stages counted once"})
    return found


def _deciding(claim: Claim) -> str:
    """Label of the comparison whose numbers the verdict carries."""
    verdict = claim.verdict
    for one in verdict.comparisons:
        if one.effect == verdict.effect and one.low == verdict.low and one.high == verdict.high:
            return one.label
    return verdict.analysis


def effects_legend(claim: Claim) -> str:
    paired = any(seed_effects(claim, one) for one in claim.verdict.comparisons)
    words = f"Diamonds and bars: effect and {100 * claim.verdict.level:g} % interval. "
    words += "Dots: what each seed shows by itself. " if paired else ""
    null = claim.verdict.null
    words += f"Dotted line: {f'{null:g}, which the rule compares with' if null else 'no effect'}. "
    return words + ("Shaded: effects below the margin." if claim.margin else "")


def runs_legend(claim: Claim) -> str:
    if any(run.points for run in claim.runs):
        return "Each mark is one trained model. Lines join an arm's least losses at each compute."
    dots = "Each dot is one run; the seeds of an arm have heights of their own. "
    if claim.verdict.analysis == "trend" and all(arm.level is not None for arm in claim.arms):
        return "Each dot is one run. Lines join means; bars: intervals over seeds alone."
    dots += "Thin lines join the runs of one seed. " if "seed" in claim.pair else ""
    return f"{dots}Diamonds and bars: mean of the arm and its interval over seeds alone."


def comparisons_table(claim: Claim) -> dict[str, Any]:
    verdict = claim.verdict
    decimals = effect_places(verdict)
    adjusted = any(one.adjusted_p is not None for one in verdict.comparisons)
    head = ["", "Effect", f"{100 * verdict.level:g} % interval", "p", *["Holm's p"] * adjusted, "df"]
    rows = [
        [
            one.label,
            effect_value(claim, one.effect),
            between(one.low, one.high, decimals) or "–",
            probability(one.p).removeprefix("p ").removeprefix("= ") or "–",
            *[probability(one.adjusted_p).removeprefix("p ").removeprefix("= ") or "–"] * adjusted,
            shown(one.df, 1),
        ]
        for one in verdict.comparisons
    ]
    return {
        "head": head,
        "rows": rows,
        "numeric": list(range(1, len(head))),
        "variances": [line for one in verdict.comparisons if (line := _variances(one))],
    }


def _variances(one: Comparison) -> str:
    """What the effect varies with, as standard deviations: what more seeds, or more items, would buy."""
    parts = {
        "between seeds": one.seed_variance,
        "between items": one.item_variance,
        "what is left of an item of one seed": one.residual_variance,
    }
    known = [f"{name} {max(var, 0.0) ** 0.5:.3g}" for name, var in parts.items() if var is not None]
    groups = f"; items come in {count(one.n_clusters)} groups" if one.n_clusters else ""
    return f"{one.label}: standard deviation {', '.join(known)}{groups}" if known else ""


def params_table(claim: Claim) -> dict[str, Any] | None:
    """The params in which arms differ: a row each, a column an arm; None where code alone differs."""
    names = list(dict.fromkeys(name for arm in claim.arms for name in arm.params))
    rows = [[name, *(_plain(arm.params.get(name)) for arm in claim.arms)] for name in names]
    if any(arm.revision for arm in claim.arms):
        rows.append(["revision of the code", *(arm.revision[:12] or "as it stands" for arm in claim.arms)])
    return {"head": ["", *(arm.name for arm in claim.arms)], "rows": rows} if rows else None


def _plain(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


def metrics_table(claim: Claim) -> dict[str, Any]:
    """A row an arm: runs, mean, standard deviation and interval of the ruling metric; mean ± sd of the others."""
    names = list(dict.fromkeys(name for arm in claim.arms for name in arm.metrics))
    others = [name for name in names if name != claim.metric]
    decimals = {name: metric_places(claim, name) for name in names}
    head = ["Arm", "Runs", claim.metric, "sd", f"{100 * claim.verdict.level:g} % interval", *others]
    rows = []
    for arm in claim.arms:
        own = arm.metrics.get(claim.metric)
        cells = ["0", "–", "–", "–"]
        if own is not None:
            places = decimals[claim.metric]
            cells = [
                str(own.n),
                shown(own.mean, places),
                shown(own.sd, places),
                between(own.low, own.high, places) or "–",
            ]
        rows.append([_name(arm), *cells, *(summary_text(arm.metrics.get(name), decimals[name]) for name in others)])
    return {"head": head, "rows": rows, "numeric": list(range(1, len(head)))}


def _name(arm: Arm) -> str:
    return f"{arm.name} (baseline)" if arm.baseline and arm.name != "baseline" else arm.name


def seeds_table(claim: Claim) -> dict[str, Any]:
    """A row a seed, a column an arm, and the difference to the baseline where there are two arms paired by seed."""
    decimals = metric_places(claim, claim.metric)
    runs = {(run.arm, run.seed): run for run in claim.runs}
    pair = next((one for one in claim.verdict.comparisons if one.b), None) if len(claim.arms) == 2 else None
    effects = dict(seed_effects(claim, pair)) if pair else {}
    head = ["Seed", *(arm.name for arm in claim.arms), *([pair.label] if pair and effects else [])]
    rows = []
    for seed in claim.seeds:
        cells = []
        for arm in claim.arms:
            run = runs.get((arm.name, seed))
            done = run is not None and run.status == "finished"
            cells.append(
                shown(run.values.get(claim.metric), decimals) if run and done else run.status if run else "waiting"
            )
        rows.append([seed, *cells, *([signed(effects.get(seed), decimals)] if effects else [])])
    return {"head": head, "rows": rows, "numeric": list(range(1, len(head)))}


def missing(claim: Claim) -> list[str]:
    """Runs without a number, and why."""
    return [
        f"{run.arm}, seed {run.seed}: {run.reason or 'not run yet'}" for run in claim.runs if run.status != "finished"
    ]


def instances_table(claim: Claim) -> dict[str, Any]:
    """Keys of the stages' instances, one where all seeds share it: a row a stage whose keys differ between arms, a
    column an arm; and what all arms share."""
    labels = list(dict.fromkeys(label for run in claim.runs for label in run.stages))
    rows, shared = [], []
    for label in labels:
        cells = []
        for arm in claim.arms:
            keys = dict.fromkeys(run.stages[label] for run in claim.runs if run.arm == arm.name and label in run.stages)
            cells.append(" ".join(key[:SHOWN_KEY] for key in keys) or "–")
        if len(set(cells)) > 1 or len(cells) == 1:
            rows.append([label, *cells])
        else:
            shared.append(f"{label} {cells[0]}")
    distinct = {(label, key) for run in claim.runs for label, key in run.stages.items()}
    return {
        "head": ["Stage", *(arm.name for arm in claim.arms)],
        "rows": rows,
        "shared": shared,
        "distinct": count(len(distinct)),
        "all": count(sum(len(run.stages) for run in claim.runs)),
    }


def cost_facts(claim: Claim) -> list[tuple[str, str]]:
    cost = claim.cost
    facts = [
        ("stage instances run for it", count(cost.executed)),
        ("stage instances whose results were there already", count(cost.reused)),
        ("CPU time", duration(cost.cpu_seconds)),
    ]
    return [*facts, ("judge", f"{cost.judge_usd:.2f} USD")] if cost.judge_usd else facts


def effect_line(claim: Claim) -> str:
    """The effect in words for Markdown and the terminal."""
    verdict = claim.verdict
    if verdict.effect is None:
        return "–"
    reach = between(verdict.low, verdict.high, effect_places(verdict))
    text = f"{effect_value(claim, verdict.effect)} {effect_unit(claim)}".rstrip()
    return f"{_deciding(claim)}: {text}" + (f" ({reach})" if reach else "")
