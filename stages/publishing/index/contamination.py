"""The contamination section: each check's verdict, and what it would have taken for a check to notice."""

from collections.abc import Mapping
from typing import Any

from stages.publishing.html.charts import Axis, Plot
from stages.publishing.html.numbers import count, number, percent


def verdict(contamination: Mapping[str, Any]) -> dict[str, str]:
    """For the leaderboard: the ordering test's verdict unless clean, else the share of dirty questions, else clean."""
    rows = contamination["verdicts"]
    ordering = next(row["verdict"] for row in rows if row["check"] == "ordering")
    if ordering != "clean":
        return {"word": ordering, "tone": "bad" if ordering == "contaminated" else "plain"}
    dirty = max((row["dirty"] for row in rows if row["check"] == "overlap"), default=0.0)
    return {"word": f"{percent(dirty, 1)} overlap", "tone": "plain"} if dirty else {"word": "clean", "tone": "good"}


def probability(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else f"{p:.1e}"


def contamination_view(contamination: Mapping[str, Any]) -> dict[str, Any]:
    rows = [_row(row, contamination) for row in contamination["verdicts"]]
    planted = contamination["planted"]
    return {
        "intro": _intro(contamination),
        "table": {"head": ["Check", "Test set", "Looked at", "Found", "Verdict"], "rows": rows, "numeric": []},
        "chart": _power_chart(planted, _alpha(contamination)) if planted else None,
        "caption": (
            "A probe model was trained on the same text with test sets planted a known number of times. Below the "
            "dotted "
            "line the ordering test calls a set contaminated: this is how many copies it needs to see."
        ),
        "notes": _notes(contamination),
    }


def _alpha(contamination: Mapping[str, Any]) -> float:
    return next(row["alpha"] for row in contamination["verdicts"] if row["check"] == "ordering")


def _intro(contamination: Mapping[str, Any]) -> str:
    ordering = next(row for row in contamination["verdicts"] if row["check"] == "ordering")
    copies = ordering["detects_from_copies"]
    power = f"noticed {copies} or more copies" if copies is not None else "was too weak here to notice any planted set"
    found = "finds a sign" if ordering["verdict"] == "contaminated" else "finds no sign"
    dirty = max((row["dirty"] for row in contamination["verdicts"] if row["check"] == "overlap"), default=0.0)
    shared = f"{percent(dirty, 1)} of a test set shares" if dirty else "no question shares"
    return (
        "The ordering test (Oren et al. 2023), which asks whether the model prefers the published order of the "
        f"questions to shuffled ones, {found} that it read them; on sets planted on purpose in "
        f"the training of a small probe it {power}, and how many the main model would need isn't known. "
        f"Looked up word for word, {shared} most of its text with the training data."
    )


def _row(row: Mapping[str, Any], contamination: Mapping[str, Any]) -> list[str]:
    name = row["set"].replace("_", " ")
    if row["check"] == "ordering":
        return [
            "order of the questions",
            name,
            f"{contamination['ordering']['examples']} questions",
            f"p = {probability(row['p_value'])}",
            row["verdict"],
        ]
    overlap = contamination["overlap"][row["set"]]
    runs = {key: value for key, value in overlap.items() if key.startswith("any_")}
    shared = ", ".join(
        f"{percent(value, 1)} share a {key[4:].replace('gram', '-word run')}" for key, value in sorted(runs.items())
    )
    dirty = f"{count(len(overlap['dirty_ids']))} dirty ({percent(row['dirty'], 1)})"
    return [
        "shared words",
        name,
        f"{count(overlap['items'])} questions",
        f"{dirty}; {shared}",
        "some overlap" if row["dirty"] else row["verdict"],
    ]


def _notes(contamination: Mapping[str, Any]) -> list[str]:
    accuracy = contamination["accuracy"]
    clean, dirty = number(accuracy.get("clean_acc")), number(accuracy.get("dirty_acc"))
    if clean is None or dirty is None:
        return []
    return [
        f"Accuracy ({accuracy['protocol']}) on the {count(accuracy['clean_questions'])} clean questions "
        f"{percent(clean, 1)}, "
        f"on the {count(accuracy['dirty_questions'])} dirty ones {percent(dirty, 1)}."
    ]


def _power_chart(planted: list[Mapping[str, Any]], alpha: float) -> str:
    plot = Plot(
        Axis("copies of the planted set in the training text (0 drawn at ½)", log=True),
        Axis("p value", log=True),
        "p value of the ordering test by number of planted copies",
        height=260,
    )
    xs = [row["copies"] or 0.5 for row in planted]
    ys = [max(row["p_value"], 1e-12) for row in planted]
    plot.line([min(xs) * 0.8, max(xs) * 1.2], [alpha, alpha], "ident")
    plot.line(xs, ys, "c2")
    plot.points(xs, ys, "c2", notes=[f"{row['copies']} copies: p = {probability(row['p_value'])}" for row in planted])
    for x, y, row in zip(xs, ys, planted, strict=True):
        plot.text(x, y, probability(row["p_value"]), "c2", dx=0, dy=-9, anchor="middle")
    plot.text(max(xs) * 1.2, alpha, f"{alpha:g}", "c0", dx=-2, dy=-5, anchor="end")
    return plot.svg()
