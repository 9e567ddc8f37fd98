"""The scaling page: the study of a table of runs, ours or anyone's, and the run that was planned by it."""

from collections.abc import Iterable, Sequence
from typing import Any

from stages.base.contracts.plan import Plan
from stages.base.contracts.study import (
    Choice,
    Interval,
    Isoflop,
    Law,
    Minimum,
    PowerLaw,
    Recipe,
    Run,
    Study,
    Variant,
    Withheld,
)
from stages.publishing.html.charts import compact
from stages.publishing.html.numbers import count
from stages.publishing.html.page import render
from stages.publishing.scaling import charts
from stages.publishing.scaling.charts import between, drawn_words, signed
from stages.publishing.scaling.plan import Target, plan_facts
from stages.publishing.scaling.recipes import aspect_view, knob_view, rival_view

LAW = (
    ("E", "E, irreducible loss"),
    ("A", "A"),
    ("alpha", "α, exponent of N"),
    ("B", "B"),
    ("beta", "β, exponent of D"),
    ("a", "a, exponent of the best N in C"),
)
RUNS_SHOWN = 300


def scaling_page(study: Study, title: str) -> str:
    """The page of a table of runs that nothing was planned by."""
    view, sections = scaling_view(study)
    bar = {"title": title, "page": "scaling", "pages": ["scaling"], "sections": sections}
    return render(view | bar, "scaling.html")


def scaling_view(
    study: Study, plan: Plan | None = None, reached: float | None = None
) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """What the template shows, and its sections (id, name); what isn't there is None or empty, and left out.

    `plan`: made by this study's law; `reached`: loss of its run.
    """
    first = study.recipes[0]
    target = Target.of(plan, reached) if plan and reached is not None else None
    law, isoflop = first.law, first.isoflop[0]
    residuals = [
        charts.residual_chart(study, x, label)
        for x, label in (("N", "parameters"), ("D", "tokens"), ("C", "compute, FLOPs"))
    ]
    view = {
        "headline": headline(study, target),
        "tiles": tiles(study, target),
        "warnings": study.warnings,
        "level": f"{100 * study.level:g}",
        "compute": {
            **charts.compute_chart(study, target),
            "key": key(study, target),
            "caption": "Runs above their dashed line are models too small or too large for their compute."
            + drawn_words(len(study.runs)),
        },
        "several": len(study.recipes) > 1,
        "facts": law_facts(law) if law else [],
        "laws": laws_table(study.recipes) if sum(bool(view.law) for view in study.recipes) > 1 else None,
        "lawless": [(view.name or "these runs", view.reason) for view in study.recipes if not view.law],
        "prior": prior_words(law),
        "power": [{"name": view.name, "table": power_table(view.power_laws)} for view in study.recipes],
        "isoflop": {
            "svg": charts.isoflop_chart(isoflop) if any(len(m.tried) > 2 for m in isoflop.minima) else "",
            "caption": isoflop_caption(isoflop.minima),
            "said": isoflop_words(first.isoflop),
            "law": f"The law in N and D: a = {law.a:.3f}{between(law.interval['a'])}." if law else "",
            "table": isoflop_table(isoflop),
        },
        "residuals": residuals if law else [],
        "recipes": [*recipe_key(study), {"mark": "dash", "colour": "c0", "label": "the law"}],
        "residuals_caption": drawn_words(sum(run.fitted is not None for run in study.runs)),
        "withheld": withheld_view(first.withheld, target) if first.withheld else None,
        "sensitivity": sensitivity_table(first.sensitivity) if law else None,
        "reach": compact(10 * first.largest),
        "rivals": [rival_view(rival, study.level) for rival in study.rivals],
        "knobs": [*map(knob_view, study.knobs), *map(aspect_view, study.aspects)],
        "budgets": budgets_table(first.plan) if first.plan else None,
        "plan": {"facts": plan_facts(plan), "reasons": plan.reasons} if plan else None,
        "runs": runs_table(study.runs),
    }
    named = (
        ("compute", "Compute"), ("isoflop", "IsoFLOP"), ("residuals", "Residuals"), ("withheld", "Withheld"),
        ("sensitivity", "Sensitivity"), ("rivals", "Recipes"), ("knobs", "Tuning"), ("budgets", "Budgets"),
        ("plan", "Plan"), ("runs", "Runs"),
    )  # fmt: skip
    return view, [(name, words) for name, words in named if view[name]]


def headline(study: Study, target: Target | None) -> dict[str, str]:
    first = study.recipes[0]
    law = first.law
    runs = count(law.n if law else len(study.runs))
    if target:
        where = "inside" if target.inside else "outside"
        error = target.reached / target.predicted - 1
        lead = (
            f"{runs} small runs, one law, and a run of {compact(target.flops)} FLOPs planned by it: "
            f"{100 * abs(error):.1f} % {'above' if error > 0 else 'below'} the prediction, {where} its "
            f"{100 * study.level:g} % interval ({target.low:.3f} – {target.high:.3f})."
        )
        return {"claim": f"{target.predicted:.3f} was predicted, {target.reached:.3f} was reached.", "lead": lead}
    if law is None:
        claim = f"{runs} runs, and no law in parameters and tokens."
        return {"claim": claim, "lead": f"Why not: {first.reason}."}
    whose = f" of {first.name or 'the unnamed recipe'}" if len(study.recipes) > 1 else ""
    share = 1 - 10**-law.gamma
    return {
        "claim": f"Ten times the compute takes away {100 * share:.0f} % of the loss that can be lost.",
        "lead": (
            f"{runs} runs{whose} say that the least loss at C FLOPs is {law.E:.3f} + {compact(law.k)} · "
            f"C^−{law.gamma:.3f}, and that the best size grows as C^{law.a:.2f}."
        ),
    }


def tiles(study: Study, target: Target | None) -> list[dict[str, str]]:
    first = study.recipes[0]
    law, total = first.law, len(study.runs)
    reach = f"up to {compact(max(view.largest for view in study.recipes))} FLOPs"
    if law is None:
        return [{"value": count(total), "label": f"runs, {reach}"}]
    made = f"runs, {reach}" if law.n == total else f"runs make the law, of {count(total)} {reach}"
    best = next(row for row in first.plan if row.name == "law" and row.reach > 1)
    shown = [
        {"value": count(law.n), "label": made},
        {"value": f"{law.a:.3f}", "label": f"a: the best N grows as C^a{between(law.interval['a'])}"},
        {
            "value": f"{best.tokens_per_parameter:.3g}",
            "label": f"tokens per parameter are best at {compact(best.C)} FLOPs"
            + between(best.tokens_per_parameter_interval),
        },
    ]
    error = first.withheld.mean_abs_error if first.withheld else None
    if first.withheld and error is not None:
        held = len(first.withheld.runs)
        label = "error on the withheld run" if held == 1 else f"mean error on the {held} withheld runs"
        shown.append({"value": f"{100 * error:.2f} %", "label": f"{label} of most compute"})
    if target:
        gap = signed(100 * (target.reached / target.predicted - 1), 1)
        shown.append({"value": f"{gap} %", "label": "loss reached, relative to the prediction"})
    return shown


def recipe_key(study: Study) -> list[dict[str, str]]:
    shown = []
    for view in study.recipes:
        colour, shape = charts.style(study, view.name)
        mark = "sq" if shape == "square" else ""
        shown.append({"mark": mark, "colour": colour, "label": view.name or "runs"})
    return shown


def key(study: Study, target: Target | None) -> list[dict[str, str]]:
    shown = recipe_key(study)
    shown.append({"mark": "dash", "colour": "c0", "label": "least loss at that compute, by the law"})
    if target:
        shown.append({"mark": "sq", "colour": "c3", "label": "predicted, with interval"})
        shown.append({"mark": "", "colour": "c1", "label": "reached"})
    return shown


def law_facts(law: Law) -> list[tuple[str, str]]:
    facts = [(label, f"{getattr(law, name):.4g}{between(law.interval.get(name))}") for name, label in LAW]
    facts.append(("least loss at C FLOPs", f"{law.E:.4g} + {compact(law.k, 4)} · C^−{law.gamma:.4g}"))
    facts.append(("root mean square residual", f"{100 * law.residual_rms:.2f} % of the loss"))
    facts.append(("Huber's δ, on log residuals", f"{law.delta:g}"))
    facts.append(("runs", count(law.n)))
    return facts


def laws_table(views: Iterable[Recipe]) -> dict[str, Any]:
    """Recipes side by side."""
    laws = {view.name: law_facts(view.law) for view in views if view.law}
    rows = [[facts[0][0], *(value for _, value in facts)] for facts in zip(*laws.values(), strict=True)]
    return {"head": ["Number", *laws], "rows": rows, "numeric": list(range(1, len(laws) + 1))}


def prior_words(law: Law | None) -> str:
    if law is None or law.prior is None:
        return ""
    alpha, beta = law.prior.alpha, law.prior.beta
    return (
        f"{count(law.n)} runs are too few to determine the law's five numbers. So the fit starts from what published "
        f"laws say of the exponents (α {alpha[0]:g} ± {alpha[1]:g}, β {beta[0]:g} ± {beta[1]:g}) and moves away from "
        "it as far as the runs ask for: the intervals rest on that assumption too. More runs make it matter less."
    )


def power_table(laws: Iterable[PowerLaw]) -> dict[str, Any]:
    names = {"C": "L(C), compute", "N": "L(N), parameters", "D": "L(D), tokens"}
    rows = []
    for law in laws:
        label = names[law.x] + (", with a floor" if law.with_floor else "")
        if law.exponent is None or law.floor is None or law.scale is None or law.rms is None:
            rows.append([label, str(law.n), "–", "–", "–", law.reason])
            continue
        floor = f"{law.floor.value:.4f}{between(law.floor.interval)}" if law.with_floor else "0"
        exponent = f"{law.exponent.value:.4f}{between(law.exponent.interval)}"
        rows.append([label, str(law.n), exponent, f"{law.scale:.3g}", floor, f"{100 * law.rms:.2f} %"])
    head = ["Law", "Runs", "Exponent", "Scale", "Floor", "Residual"]
    return {"head": head, "rows": rows, "numeric": [1, 2, 3, 4, 5]}


def isoflop_caption(minima: Sequence[Minimum]) -> str:
    shown = charts.drawn_budgets(minima)
    said = "One curve a budget, its FLOPs beside it where there is room. Red squares: the best size. Grey: refused."
    if len(shown) < len(minima):
        full = len(shown) == charts.CURVES
        why = "those with a best size first, then those of most runs" if full else "as a curve takes three runs"
        said += f" Drawn: {len(shown)} of {count(len(minima))} budgets, {why}."
    return said + drawn_words(sum(len(minimum.tried) for minimum in shown))


def isoflop_words(views: Iterable[Isoflop]) -> list[str]:
    said = []
    for view in views:
        name = {"parabola": "Parabolas", "akima": "Akima's interpolant"}[view.method]
        accepted = sum(minimum.accepted for minimum in view.minima)
        if view.a is None:
            said.append(f"{name}: no exponent, as {view.reason}.")
        else:
            budgets = f"from {accepted} of {len(view.minima)} budgets"
            said.append(f"{name}: a = {view.a:.3f}{between(view.interval)}, {budgets}.")
    return said


def isoflop_table(view: Isoflop) -> dict[str, Any]:
    """Budgets of one size can't be refused for anything else: `alone` counts them."""
    several = [minimum for minimum in view.minima if len({n for n, _ in minimum.tried}) > 1]
    rows = []
    for minimum in several:
        numbers = ["–"] * 4
        if minimum.N is not None and minimum.D is not None and minimum.loss is not None:
            ratio = f"{minimum.D / minimum.N:.3g}"
            numbers = [compact(minimum.N), compact(minimum.D), ratio, f"{minimum.loss:.4f}"]
        rows.append([compact(minimum.C), str(len(minimum.tried)), *numbers, minimum.reason])
    head = ["FLOPs", "Runs", "Best N", "Best D", "Tokens per parameter", "Loss", "Refused, because"]
    return {"head": head, "rows": rows, "numeric": [0, 1, 2, 3, 4, 5], "alone": len(view.minima) - len(several)}


def withheld_view(held: Withheld, target: Target | None) -> dict[str, Any]:
    rows = [
        [
            run.run,
            compact(run.N),
            compact(run.D),
            compact(run.C),
            f"{run.predicted.value:.4f}{between(run.predicted.interval, 4)}",
            f"{run.loss:.4f}",
            f"{signed(100 * run.error)} %",
        ]
        for run in held.runs
    ]
    head = ["Run", "Parameters", "Tokens", "FLOPs", "Predicted", "Reached", "Error"]
    return {
        "said": withheld_words(held),
        "svg": charts.withheld_chart(held, target) if held.runs or target else "",
        "caption": "On the dotted line a prediction is exact." + drawn_words(len(held.runs)),
        "table": {"head": head, "rows": rows, "numeric": [1, 2, 3, 4, 5, 6]},
    }


def withheld_words(held: Withheld) -> str:
    mean = held.mean_abs_error
    if mean is None:
        return f"Not tested on withheld runs: {held.reason}."
    inside, runs = sum(run.inside for run in held.runs), len(held.runs)
    if runs == 1:
        return (
            f"Fitted without the run of most compute, the law misses it by {100 * mean:.2f} %; it lies "
            f"{'inside' if inside else 'outside'} its interval."
        )
    worst = max(abs(run.error) for run in held.runs)
    return (
        f"Fitted without the {runs} runs of most compute, the law misses them by {100 * mean:.2f} % on average, "
        f"{100 * worst:.2f} % at worst; {inside} of {runs} lie inside their interval."
    )


def sensitivity_table(variants: Iterable[Variant]) -> dict[str, Any]:
    rows = []
    for one in variants:
        if one.N is None or one.loss is None or one.tokens_per_parameter is None:
            rows.append([one.name, str(one.n), *["–"] * 6, one.reason])
            continue
        law = (f"{number:.3f}" for number in (one.alpha, one.beta, one.E, one.a))
        best = [compact(one.N), f"{one.tokens_per_parameter:.3g}", f"{one.loss:.4f}"]
        rows.append([one.name, str(one.n), *law, *best])
    head = ["Fit", "Runs", "α", "β", "E", "a", "Best N", "Tokens per parameter", "Loss"]
    return {"head": head, "rows": rows, "numeric": list(range(1, 9))}


def budgets_table(choices: Iterable[Choice]) -> dict[str, Any]:
    rows = [
        [
            f"{compact(row.C)} ({row.reach:g} ×)",
            row.name,
            compact(row.N) + between(row.N_interval),
            compact(row.D),
            compact(row.tokens_per_parameter) + between(row.tokens_per_parameter_interval),
            f"{row.loss.value:.4f}{between(Interval(row.loss.low, row.loss.high), 4)}",
        ]
        for row in choices
    ]
    head = ["FLOPs (of the largest run)", "By", "Parameters", "Tokens", "Tokens per parameter", "Loss"]
    return {"head": head, "rows": rows, "numeric": [0, 2, 3, 4, 5]}


def runs_table(runs: Sequence[Run]) -> dict[str, Any]:
    """By compute, at most `RUNS_SHOWN`; `left` counts the others."""
    ordered = sorted(runs, key=lambda run: (-run.C, run.run))[:RUNS_SHOWN]
    rows = [
        [
            run.run, run.recipe, compact(run.N), compact(run.D), compact(run.C), f"{run.loss:.4f}",
            "–" if run.fitted is None else f"{run.fitted:.4f}",
        ]
        for run in ordered
    ]  # fmt: skip
    head = ["Run", "Recipe", "Parameters", "Tokens", "FLOPs", "Loss", "By its law"]
    return {"head": head, "rows": rows, "numeric": [2, 3, 4, 5, 6], "left": len(runs) - len(rows)}
