"""The scaling page's tables and facts, from the study of a table of runs."""

from collections.abc import Mapping, Sequence
from typing import Any

from stages.publishing.html.charts import compact
from stages.publishing.html.numbers import count, number

LAW = (
    ("E", "E, irreducible loss"),
    ("A", "A"),
    ("alpha", "α, exponent of N"),
    ("B", "B"),
    ("beta", "β, exponent of D"),
    ("a", "a, exponent of the best N in C"),
)
POINTS_SHOWN = 300


def between(low: Any, high: Any, digits: int = 3) -> str:
    """An interval in brackets, or nothing where an end isn't known."""
    if number(low) is None or number(high) is None:
        return ""
    return f"  ({compact(low, digits)} – {compact(high, digits)})".replace("-", "−")


def signed(value: float, digits: int = 2) -> str:
    return f"{value:+.{digits}f}".replace("-", "−")


def law_facts(law: Mapping[str, Any]) -> list[tuple[str, str]]:
    facts = [(label, f"{law[name]:.4g}{between(*law['interval'].get(name, (None, None)))}") for name, label in LAW]
    facts.append(("least loss at C FLOPs", f"{law['E']:.4g} + {compact(law['k'], 4)} · C^−{law['gamma']:.4g}"))
    facts.append(("root mean square residual", f"{100 * law['residual_rms']:.2f} % of the loss"))
    facts.append(("Huber's δ, on log residuals", f"{law['delta']:g}"))
    facts.append(("runs", count(law["n"])))
    return facts


def laws_table(views: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Recipes side by side."""
    facts = [dict(law_facts(view["law"])) for view in views if view["law"]]
    names = [view["name"] for view in views if view["law"]]
    rows = [[label, *(fact[label] for fact in facts)] for label in (facts[0] if facts else ())]
    return {"head": ["", *names], "rows": rows, "numeric": list(range(1, len(names) + 1))}


def withheld_words(view: Mapping[str, Any]) -> str:
    if not view["points"]:
        return f"Not tested on withheld runs: {view['reason']}."
    points = view["points"]
    inside = sum(point["low"] <= point["loss"] <= point["high"] for point in points)
    if len(points) == 1:
        return (
            f"Fitted without the run of most compute, the law misses it by {100 * view['mean_abs_error']:.2f} %; it "
            f"lies {'inside' if inside else 'outside'} its interval."
        )
    return (
        f"Fitted without the {len(points)} runs of most compute, the law misses them by "
        f"{100 * view['mean_abs_error']:.2f} % on average, {100 * view['max_abs_error']:.2f} % at worst; "
        f"{inside} of {len(points)} lie inside their interval."
    )


def isoflop_table(view: Mapping[str, Any]) -> dict[str, Any]:
    """Budgets of one size can't be refused for anything else: `alone` counts them."""
    several = [minimum for minimum in view["minima"] if len({n for n, _ in minimum["tried"]}) > 1]
    rows = []
    for minimum in several:
        known = not minimum["reason"]
        numbers = (
            [
                compact(minimum["N"]),
                compact(minimum["D"]),
                f"{minimum['D'] / minimum['N']:.3g}",
                f"{minimum['loss']:.4f}",
            ]
            if known
            else ["–"] * 4
        )
        rows.append([compact(minimum["C"]), str(minimum["points"]), *numbers, minimum["reason"]])
    head = ["FLOPs", "Runs", "Best N", "Best D", "Tokens per parameter", "Loss", "Refused, because"]
    return {"head": head, "rows": rows, "numeric": [0, 1, 2, 3, 4, 5], "alone": len(view["minima"]) - len(several)}


def isoflop_words(views: Sequence[Mapping[str, Any]]) -> list[str]:
    said = []
    for view in views:
        name = {"parabola": "Parabolas", "akima": "Akima's interpolant"}[view["method"]]
        accepted = sum(not minimum["reason"] for minimum in view["minima"])
        if view["reason"]:
            said.append(f"{name}: no exponent, as {view['reason']}.")
        else:
            ends = between(*(view["interval"] or (None, None)))
            said.append(f"{name}: a = {view['a']:.3f}{ends}, from {accepted} of {len(view['minima'])} budgets.")
    return said


def power_table(view: Mapping[str, Any]) -> dict[str, Any]:
    names = {"C": "L(C), compute", "N": "L(N), parameters", "D": "L(D), tokens"}
    rows = []
    for fitted in view["power_laws"]:
        law = fitted["law"]
        label = names[fitted["x"]] + (", with a floor" if fitted["floor"] else "")
        if law is None:
            rows.append([label, str(fitted["n"]), "–", "–", "–", fitted["reason"]])
            continue
        rows.append(
            [
                label,
                str(fitted["n"]),
                f"{law['exponent']:.4f}{between(*law['interval']['exponent'])}",
                f"{law['scale']:.3g}",
                f"{law['floor']:.4f}{between(*law['interval']['floor'])}" if fitted["floor"] else "0",
                f"{100 * law['rms']:.2f} %",
            ]
        )
    head = ["Law", "Runs", "Exponent", "Scale", "Floor", "Residual"]
    return {"head": head, "rows": rows, "numeric": [1, 2, 3, 4, 5]}


def sensitivity_table(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    shown = []
    for row in rows:
        law = row["law"]
        if law is None:
            shown.append([row["name"], str(row["n"]), *["–"] * 6, row["reason"]])
            continue
        shown.append(
            [
                row["name"],
                str(row["n"]),
                *(f"{law[name]:.3f}" for name in ("alpha", "beta", "E", "a")),
                compact(law["N"]),
                f"{law['tokens_per_parameter']:.3g}",
                f"{law['loss']:.4f}",
            ]
        )
    head = ["Fit", "Runs", "α", "β", "E", "a", "Best N", "Tokens per parameter", "Loss"]
    return {"head": head, "rows": shown, "numeric": list(range(1, 9))}


def plan_table(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    shown = [
        [
            f"{compact(row['C'])} ({row['reach']:g} ×)",
            row["name"],
            compact(row["N"]) + _ends(row["N_interval"]),
            compact(row["D"]),
            compact(row["tokens_per_parameter"]) + _ends(row["tokens_per_parameter_interval"]),
            f"{row['loss']:.4f}{between(row['low'], row['high'], 4)}",
        ]
        for row in rows
    ]
    head = ["FLOPs (of the largest run)", "By", "Parameters", "Tokens", "Tokens per parameter", "Loss"]
    return {"head": head, "rows": shown, "numeric": [0, 2, 3, 4, 5]}


def _ends(ends: Sequence[float] | None) -> str:
    return between(ends[0], ends[1]) if ends else ""


def points_table(points: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """By compute, at most `POINTS_SHOWN`; `left` counts the others."""
    ordered = sorted(points, key=lambda point: (-point["C"], point["run"]))
    rows = [
        [
            point["run"],
            point["recipe"],
            *(compact(point[name]) for name in ("N", "D", "C")),
            f"{point['loss']:.4f}",
            "–" if point["fitted"] is None else f"{point['fitted']:.4f}",
        ]
        for point in ordered[:POINTS_SHOWN]
    ]
    head = ["Run", "Recipe", "Parameters", "Tokens", "FLOPs", "Loss", "By its law"]
    return {"head": head, "rows": rows, "numeric": [2, 3, 4, 5, 6], "left": max(0, len(points) - POINTS_SHOWN)}
