"""The scaling page: the study of a table of runs, ours or anyone's, as one HTML file."""

from collections.abc import Mapping, Sequence
from typing import Any

from stages.publishing.html.charts import compact
from stages.publishing.html.numbers import count, number
from stages.publishing.html.page import render
from stages.publishing.scaling import charts, tables
from stages.publishing.scaling.charts import drawn_words
from stages.publishing.scaling.figure import Target
from stages.publishing.scaling.recipes import knob_view, rival_view

Study = Mapping[str, Any]


def scaling_page(
    study: Study,
    title: str,
    *,
    target: Target | None = None,
    plan: Sequence[tuple[str, str]] = (),
    reasons: Sequence[str] = (),
    leaderboard: bool = False,
) -> str:
    """`target`, `plan`, `reasons`: the run that was planned by this law; `leaderboard`: there is a page to link to."""
    return render(scaling_view(study, title, target, plan, reasons, leaderboard), "scaling_page.html")


def scaling_view(
    study: Study,
    title: str,
    target: Target | None,
    plan: Sequence[tuple[str, str]],
    reasons: Sequence[str],
    leaderboard: bool,
) -> dict[str, Any]:
    first = study["recipes"][0]
    law = first["law"]
    level = f"{100 * study['level']:g}"
    iso = first["isoflop"][0]
    residuals = [
        {"svg": charts.residual_chart(study, x, label)}
        for x, label in (("N", "parameters"), ("D", "tokens"), ("C", "compute, FLOPs"))
    ]
    return {
        "title": title,
        "leaderboard": leaderboard,
        "headline": headline(study, target),
        "tiles": tiles(study, target),
        "warnings": list(study["warnings"]),
        "level": level,
        "compute": {
            "svg": charts.compute_chart(study, target),
            "key": key(study, target),
            "caption": "Points above their dashed line are models too small or too large for their compute."
            + drawn_words(len(study["points"])),
        },
        "several": len(study["recipes"]) > 1,
        "facts": tables.law_facts(law) if law else [],
        "laws": tables.laws_table(study["recipes"])
        if sum(bool(view["law"]) for view in study["recipes"]) > 1
        else None,
        "lawless": [(view["name"] or "these runs", view["reason"]) for view in study["recipes"] if not view["law"]],
        "prior": prior_words(law),
        "isoflop": {
            "svg": charts.isoflop_chart(iso) if any(len(m["tried"]) > 2 for m in iso["minima"]) else "",
            "caption": isoflop_caption(iso["minima"]),
            "said": tables.isoflop_words(first["isoflop"]),
            "law": ""
            if law is None
            else f"The law in N and D: a = {law['a']:.3f}{tables.between(*law['interval']['a'])}.",
            "table": tables.isoflop_table(iso),
        },
        "residuals": residuals if law else [],
        "residuals_caption": drawn_words(sum(point["residual"] is not None for point in study["points"])),
        "withheld": withheld(study, target) if law else None,
        "power": [{"name": view["name"], "table": tables.power_table(view)} for view in study["recipes"]],
        "sensitivity": tables.sensitivity_table(first["sensitivity"]) if law else None,
        "reach": compact(10 * first["range"]["C"][1]),
        "rivals": [rival_view(rival, study["level"]) for rival in study["rivals"]],
        "knobs": [knob_view(view) for view in study["knobs"]],
        "plan": {
            "table": tables.plan_table(first["plan"]) if law else None,
            "facts": list(plan),
            "reasons": list(reasons),
        },
        "points": tables.points_table(study["points"]),
    }


def isoflop_caption(minima: Sequence[Mapping[str, Any]]) -> str:
    shown = charts.drawn_budgets(minima)
    said = "One curve a budget, its FLOPs beside it where there is room. Red squares: the best size. Grey: refused."
    if len(shown) < len(minima):
        full = len(shown) == charts.CURVES
        why = "those with a best size first, then those of most runs" if full else "as a curve takes three runs"
        said += f" Drawn: {len(shown)} of {count(len(minima))} budgets, {why}."
    return said + drawn_words(sum(len(minimum["tried"]) for minimum in shown))


def largest(study: Study) -> float:
    """The most compute of a run of any recipe."""
    return max(view["range"]["C"][1] for view in study["recipes"])


def headline(study: Study, target: Target | None) -> dict[str, str]:
    first = study["recipes"][0]
    law = first["law"]
    runs = count(law["n"] if law else len(study["points"]))
    if target:
        where = "inside" if target.inside else "outside"
        error = target.reached / target.predicted - 1
        claim = f"{target.predicted:.3f} was predicted, {target.reached:.3f} was reached."
        lead = (
            f"{runs} small runs, one law, and a run of {compact(target.flops)} FLOPs planned by it: "
            f"{100 * abs(error):.1f} % {'above' if error > 0 else 'below'} the prediction, {where} its "
            f"{100 * study['level']:g} % interval ({target.low:.3f} – {target.high:.3f})."
        )
        return {"claim": claim, "lead": lead}
    if law is None:
        claim = f"{runs} runs, and no law in parameters and tokens."
        return {"claim": claim, "lead": f"Why not: {first['reason']}."}
    whose = f" of {first['name'] or 'the unnamed recipe'}" if len(study["recipes"]) > 1 else ""
    share = 1 - 10 ** -law["gamma"]
    return {
        "claim": f"Ten times the compute takes away {100 * share:.0f} % of the loss that can be lost.",
        "lead": (
            f"{runs} runs{whose} say that the least loss at C FLOPs is {law['E']:.3f} + {compact(law['k'])} · "
            f"C^−{law['gamma']:.3f}, and that the best size grows as C^{law['a']:.2f}."
        ),
    }


def tiles(study: Study, target: Target | None) -> list[dict[str, str]]:
    first = study["recipes"][0]
    law = first["law"]
    total, reach = len(study["points"]), f"up to {compact(largest(study))} FLOPs"
    if law is None:
        return [{"value": count(total), "label": f"runs, {reach}"}]
    made = f"runs, {reach}" if law["n"] == total else f"runs make the law, of {count(total)} {reach}"
    shown = [{"value": count(law["n"]), "label": made}]
    low, high = law["interval"]["a"]
    shown.append({"value": f"{law['a']:.3f}", "label": f"a: the best N grows as C^a ({low:.3f} – {high:.3f})"})
    best = next(row for row in first["plan"] if row["name"] == "law" and row["reach"] > 1)
    shown.append(
        {
            "value": f"{best['tokens_per_parameter']:.3g}",
            "label": f"tokens per parameter are best at {compact(best['C'])} FLOPs"
            + tables.between(*best["tokens_per_parameter_interval"]),
        }
    )
    error = number(first["withheld"]["mean_abs_error"])
    if error is not None:
        held = len(first["withheld"]["points"])
        label = "error on the withheld run" if held == 1 else f"mean error on the {held} withheld runs"
        shown.append({"value": f"{100 * error:.2f} %", "label": f"{label} of most compute"})
    if target:
        shown.append(
            {
                "value": f"{100 * (target.reached / target.predicted - 1):+.1f} %".replace("-", "−"),
                "label": "reached, against predicted",
            }
        )
    return shown


def key(study: Study, target: Target | None) -> list[dict[str, str]]:
    shown = []
    for view in study["recipes"]:
        colour, shape = charts.style(study, view["name"])
        mark = "sq" if shape == "square" else ""
        shown.append({"mark": mark, "colour": colour, "label": view["name"] or "runs"})
    shown.append({"mark": "dash", "colour": "c0", "label": "least loss at that compute, by the law"})
    if target:
        shown.append({"mark": "sq", "colour": "c3", "label": "predicted, with interval"})
        shown.append({"mark": "", "colour": "c1", "label": "reached"})
    return shown


def prior_words(law: Mapping[str, Any] | None) -> str:
    if law is None or law["prior"] is None:
        return ""
    alpha, beta = law["prior"]["alpha"], law["prior"]["beta"]
    return (
        f"{count(law['n'])} runs can't identify five parameters alone: the exponents lean on priors (α {alpha[0]:g} ± "
        f"{alpha[1]:g}, β {beta[0]:g} ± {beta[1]:g}) from published fits, so the intervals are part belief. More runs "
        "shrink them."
    )


def withheld(study: Study, target: Target | None) -> dict[str, Any]:
    view = study["recipes"][0]["withheld"]
    return {
        "said": tables.withheld_words(view),
        "svg": charts.withheld_chart(view["points"], target) if view["points"] or target else "",
        "caption": "On the dotted line a prediction is exact." + drawn_words(len(view["points"])),
        "table": withheld_table(view["points"]),
    }


def withheld_table(points: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    rows = [
        [
            point["run"],
            compact(point["N"]),
            compact(point["D"]),
            compact(point["C"]),
            f"{point['predicted']:.4f}{tables.between(point['low'], point['high'], 4)}",
            f"{point['loss']:.4f}",
            f"{tables.signed(100 * point['error'])} %",
        ]
        for point in points
    ]
    head = ["Run", "Parameters", "Tokens", "FLOPs", "Predicted", "Reached", "Error"]
    return {"head": head, "rows": rows, "numeric": [1, 2, 3, 4, 5, 6]}
