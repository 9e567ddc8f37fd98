"""A claim as its page shows it: what its folder holds, put together as the contract `Claim`."""

import math
from collections.abc import Mapping, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np

from stages.base.contracts.claim import (
    Accuracy,
    Across,
    Arm,
    Claim,
    Comparison,
    Cost,
    Deviation,
    Outlook,
    Run,
    SignalToNoise,
    Size,
    Summary,
    Verdict,
)
from stages.base.errors import InputError, ParamError
from stages.base.files import read_json
from stages.base.params import lookup
from stages.base.reference import Schema
from stages.base.scales import leaves
from stages.base.stats import mean_interval
from stages.experiment import transfer
from stages.experiment.arms import compose, differences
from stages.experiment.declaration import Declaration, MetricFile, read_declaration
from stages.experiment.metrics import find, of_file
from stages.experiment.power import noise_of, seeds_needed, visible_effect
from stages.experiment.runs.objects import MissingObject
from stages.experiment.runs.outcomes import ClaimFolder, changed_keys, declaration_text, seed_label
from stages.experiment.runs.results import Store
from stages.experiment.sides import instances
from stages.experiment.verdict import decide

FLOPS = "scaling.plan.budget.flops"
CONTRASTS = ("difference", "ordering", "trend")  # analyses whose effect is a weighted sum of the arms' means
KEY = 16  # hex digits of a stage instance's key on a page


def summarise(path: Path, schema: Schema, store: Store) -> Claim:
    """The claim that `experiments/<name>.yaml` declares, as far as it has run.

    `schema`: `base.reference.params_schema` of all sections. Raises InputError for a claim that hasn't run.
    """
    now = read_declaration(path)
    folder = ClaimFolder(now.name, store)
    if not folder.has_verdict:
        raise InputError(f"{path}: hasn't run; `trainyard experiment run {path}`")
    asked = folder.declared() or now  # one that the check refused was never frozen
    outcomes = folder.outcomes()
    rows = outcomes.to_pylist()
    verdict, deviation = folder.verdict(), None
    if verdict.effect is not None:  # again from the outcomes: the rule binds, and not what stands in a file
        verdict = decide(asked, outcomes)
    if asked.digest != now.digest:
        edited = ", ".join(changed_keys(asked, now)) or "its content"
        verdict = decide(asked, None, deviated=edited)
        deviation = Deviation(digest=now.digest, declaration=declaration_text(now))
    runs, (unit, flops) = runs_of(asked, folder, rows), _of_params(asked, schema)
    cost = folder.cost()
    return Claim(
        name=asked.name,
        claim=asked.claim,
        source=asked.source or "",
        question=asked.question or "",
        topic=asked.lecture or "",
        scale=list(asked.scale),
        rule=asked.rule,
        metric=metric_name(asked.metric),
        unit=unit,
        flops=flops,
        pair=_pair(asked, verdict),
        margin=asked.margin
        or (asked.parsed.threshold if asked.parsed.analysis in ("equivalence", "predicted") else None),
        alpha=asked.alpha,
        power=asked.power,
        seeds=[seed_label(seed) for seed in asked.seed_values()],
        arms=arms_of(asked, runs, verdict.level, schema),
        runs=runs,
        verdict=verdict,
        changes=changes(asked, verdict),
        outlook=outlook(asked, verdict),
        signal=signals(runs),
        sizes=sizes_of(runs),
        cost=Cost(
            executed=len(cost["executed"]),
            reused=len(cost["reused"]),
            cpu_seconds=cost["cpu_seconds"],
            judge_usd=cost["judge_usd"],
        ),
        declaration=declaration_text(asked),
        digest=asked.digest,
        deviation=deviation,
        environment=environment(folder, store),
    )


def metric_name(metric: str | MetricFile) -> str:
    return of_file(metric).name if isinstance(metric, MetricFile) else metric


def _of_params(declaration: Declaration, schema: Schema) -> tuple[str, float | None]:
    """The metric's unit, and the compute of the planned run."""
    try:
        values = compose(declaration, declaration.baseline, declaration.seed_values()[0], schema)
        return find(declaration.metric, values).unit, lookup(values, FLOPS)
    except ParamError:  # params have changed since it ran
        return "", None


def _pair(declaration: Declaration, verdict: Verdict) -> list[str]:
    if declaration.pair is not None:
        return list(declaration.pair)
    return ["seed", *["item"] * bool(verdict.n_items)]


def runs_of(declaration: Declaration, folder: ClaimFolder, rows: Sequence[Mapping[str, Any]]) -> list[Run]:
    """A run an arm and seed, in the order of the declaration."""
    found = folder.runs()
    cells: dict[tuple[str, str], dict[str, list[Mapping[str, Any]]]] = {}
    for row in rows:
        cells.setdefault((row["arm"], row["seed"]), {}).setdefault(row["metric"], []).append(row)
    runs = []
    for arm in declaration.arms:
        for seed in map(seed_label, declaration.seed_values()):
            line, values = found.get((arm, seed), {}), cells.get((arm, seed), {})
            done = line.get("status") == "finished" and bool(values)
            ruling = values.get(metric_name(declaration.metric), [])
            runs.append(
                Run(
                    arm=arm,
                    seed=seed,
                    status="finished" if done else "failed" if line.get("status") == "failed" else "waiting",
                    reason=f"{line['failed']}: {line['reason']}" if line.get("status") == "failed" else "",
                    values={name: float(np.mean([row["value"] for row in some])) for name, some in values.items()},
                    n_items={name: len(some) if some[0]["item"] else 0 for name, some in values.items()},
                    points=tuple((row["compute"], row["value"]) for row in ruling if row["compute"] is not None),
                    stages={label: key[:KEY] for label, key in line.get("instances", {}).items()},
                )
            )
    return runs


def arms_of(declaration: Declaration, runs: Sequence[Run], level: float, schema: Schema) -> list[Arm]:
    try:
        params = differences(declaration, schema)
    except ParamError:  # params have changed since it ran: what the declaration itself says
        params = {name: dict(leaves(arm.overlay)) if arm.overlay else {} for name, arm in declaration.arm.items()}
    numbered = {name: float(i) for i, name in enumerate(declaration.arms)} if _is_trend(declaration) else {}
    levels = declaration.levels or numbered
    arms = []
    for name, arm in declaration.arm.items():
        own = [run for run in runs if run.arm == name and run.status == "finished"]
        metrics = list(dict.fromkeys(metric for run in own for metric in run.values))
        arms.append(
            Arm(
                name=name,
                baseline=name == declaration.baseline,
                level=levels.get(name),
                revision=arm.revision or "",
                params=params[name],
                metrics={
                    metric: summary([value for run in own if (value := run.values.get(metric)) is not None], level)
                    for metric in metrics
                },
            )
        )
    return arms


def _is_trend(declaration: Declaration) -> bool:
    return declaration.parsed.analysis == "trend"


def summary(values: Sequence[float], level: float) -> Summary:
    """Of the runs of one arm; the interval is Student's t over them."""
    found = mean_interval(values, level)
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Summary(n=len(values), mean=found.mean, sd=sd, low=found.low, high=found.high)


def outlook(declaration: Declaration, verdict: Verdict) -> Outlook | None:
    """What more seeds would show, by the noise of these very runs."""
    first: Comparison | None = next(iter(verdict.comparisons), None)
    noise = noise_of([first]) if first is not None else None
    if first is None or first.effect is None or noise is None or verdict.analysis not in CONTRASTS:
        return None
    plan = _plan(declaration, first)
    smallest = visible_effect(noise, first.n_seeds, **plan)
    if not smallest or not math.isfinite(smallest):
        return None
    gap = abs(first.effect - verdict.null)
    return Outlook(visible=smallest, gap=gap, seeds=seeds_needed(noise, gap, **plan) if gap else None)


def _plan(declaration: Declaration, first: Comparison) -> dict[str, Any]:
    return {"items": max(first.n_items, 1), "alpha": declaration.alpha, "power": declaration.power}


def changes(declaration: Declaration, verdict: Verdict) -> list[str]:
    """What would change a verdict about differences of two arms or a slope, by the noise of these very runs;
    sentences."""
    known = outlook(declaration, verdict)
    if known is None:
        return []
    first = verdict.comparisons[0]
    noise, plan = noise_of([first]), _plan(declaration, first)
    assert noise is not None and first.effect is not None
    what = "slope" if verdict.analysis == "trend" else "difference"
    power = f"with {100 * declaration.power:g} % power"
    told = []
    if verdict.verdict != "undecided" or verdict.analysis == "trend":  # of the others the notes say it
        told.append(
            f"With these variances {first.n_seeds} seeds see a {what} of {known.visible:.3g} {power}; a smaller one "
            "may well come out as undecided."
        )
    wanted = [(f"the {what} seen, {first.effect:.3g},", known.gap, known.seeds)]
    if verdict.null:
        wanted = [(f"a gap of {known.gap:.3g}", known.gap, known.seeds)]
    if declaration.margin and verdict.analysis != "trend":
        margin = declaration.margin
        wanted.append((f"the margin, {margin:g},", margin, seeds_needed(noise, margin, **plan)))
    for words, effect, needed in wanted:
        if effect and effect < known.visible:
            told.append(
                f"If it is real, {words} would be seen {power} by {needed} seeds."
                if needed
                else f"No number of seeds would see {words} {power}: it takes more items than {plan['items']}."
            )
    return told


def signals(runs: Sequence[Run]) -> dict[str, SignalToNoise]:
    found = {}
    for metric in dict.fromkeys(name for run in runs for name in run.values):
        values: dict[str, list[float]] = {}
        for run in runs:
            if run.status == "finished" and (value := run.values.get(metric)) is not None:
                values.setdefault(run.arm, []).append(value)
        try:
            one = transfer.signal_to_noise(values)
        except InputError:  # one arm, or one seed
            continue
        found[metric] = SignalToNoise(signal=one.signal, seeds=one.seeds, ratio=one.ratio)
    return found


def sizes_of(runs: Sequence[Run]) -> list[Size]:
    """Of a ladder: what each size that all arms have decides of the order at the largest one."""
    points: dict[str, dict[float, list[float]]] = {}
    for run in runs:
        for compute, loss in run.points if run.status == "finished" else ():
            points.setdefault(run.arm, {}).setdefault(compute, []).append(loss)
    if len(points) < 2:
        return []
    largest = max(set.intersection(*map(set, points.values())), default=0.0)
    try:
        rows = transfer.transfer(points)
    except InputError:  # arms of other sizes
        return []
    return [
        Size(
            compute=row.compute,
            largest=largest,
            by_size=_accuracy(row.by_size),
            by_law=_accuracy(row.by_law) if row.by_law else None,
        )
        for row in rows
    ]


def across_scales(claims: Sequence[Claim]) -> list[Across]:
    """Claims that were asked at two scales: the same arms, metric and rule, planned runs of another compute."""
    found = []
    for small, large in permutations(claims, 2):
        same = (small.metric, small.rule, [arm.name for arm in small.arms]) == (
            large.metric, large.rule, [arm.name for arm in large.arms]
        )  # fmt: skip
        if not same or small.flops is None or large.flops is None or small.flops >= large.flops:
            continue
        means = [
            {arm.name: mean for arm in claim.arms if (mean := arm.metrics[claim.metric].mean) is not None}
            for claim in (small, large)
            if all(claim.metric in arm.metrics for arm in claim.arms)
        ]
        if len(means) < 2 or len(means[0].keys() & means[1].keys()) < 2:
            continue
        found.append(
            Across(
                small=small.name,
                large=large.name,
                metric=small.metric,
                small_flops=small.flops,
                large_flops=large.flops,
                accuracy=_accuracy(transfer.decision_accuracy(*means)),
            )
        )
    return found


def _accuracy(found: transfer.Accuracy) -> Accuracy:
    return Accuracy(**found._asdict())


def environment(folder: ClaimFolder, store: Store) -> dict[str, str]:
    """Python, torch and the code that the runs were made with, as the check's instance of the first run tells it."""
    keys = [line["instances"]["check"] for line in folder.runs().values() if "check" in line["instances"]]
    one = instances({"check": keys[0]}, store).get("check", {}) if keys else {}
    found = {"code, md5 of stages/": one["deps"]["stages"]} if "stages" in one.get("deps", {}) else {}
    try:
        packages = read_json(store.objects.path(store.objects.within(one["outs"]["data/check"], "packages.json")))
        return found | {
            "python": packages["python"],
            "torch": packages["requirements-torch.txt"].strip().removeprefix("torch=="),
        }
    except (KeyError, MissingObject, InputError):
        return found
