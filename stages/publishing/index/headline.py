"""The page's first sentence and figures: said by the numbers, so that a poor run reads as one."""

from collections.abc import Mapping, Sequence
from typing import Any

from stages.publishing.html.charts import compact
from stages.publishing.html.numbers import count, number


def headline(
    rows: Sequence[Mapping[str, Any]], comparisons: Sequence[Mapping[str, Any]], plan: Mapping[str, Any]
) -> dict[str, str]:
    """Claim and lead, from the rows in the pipeline, the comparisons, and the sizes for the second sentence."""
    models = [row for row in rows if not row["control"] and number(row["right"]) is not None]
    # A padded control is a model's own answers made longer: a check of the judge, not of what was learned.
    untrained = [row for row in rows if row["control"] and row.get("kind") != "padded"]
    controls = [row for row in untrained if number(row["right"]) is not None]
    if not models:
        return {"claim": "No model on the leaderboard has an exact score", "lead": ""}
    chosen = next((row for row in models if row.get("chosen")), None) or max(models, key=lambda row: row["right"])
    claim = f"{_subject(chosen['model'])} gets {chosen['right']:.0f}\u202f% of unseen questions exactly right"
    if controls:
        best = max(controls, key=lambda row: row["right"])
        claim += f"; the best control, {_words(best['model'])}, {best['right']:.0f}\u202f%"
        if not _beats(chosen, best, comparisons):
            claim += ", which is not clearly fewer"
    return {"claim": claim, "lead": _lead(plan)}


def _subject(name: str) -> str:
    """A model's key at the start of a sentence: DPO, Best of n."""
    return name.upper() if len(name) <= 4 else _words(name).capitalize()


def _words(name: str) -> str:
    return name.replace("_", " ")


def _beats(model: Mapping[str, Any], control: Mapping[str, Any], comparisons: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the paired interval lies above zero; without one, whether the two models' intervals are apart."""
    for row in comparisons:
        if (row["model"], row["against"], row["metric"], row["split"]) == (
            model["model"],
            control["model"],
            "right",
            "test",
        ):
            return (number(row["low"]) or 0.0) > 0
    return (number(model["right_low"]) or 0.0) > (number(control["right_high"]) or 0.0)


def _lead(sizes: Mapping[str, Any]) -> str:
    return (
        f"A model of {compact(sizes['parameters'])} parameters, trained from scratch on {compact(sizes['tokens'])} "
        "tokens of pages "
        "made and cleaned by this pipeline, then tuned and judged. The scaling law fitted beforehand predicted a "
        f"loss of {sizes['predicted']:.3f}; the planned run reached {sizes['reached']:.3f}, and tuning starts from its "
        "annealed branch."
    )


def stations(
    pages: int, documents: int, tokens: float, points: int, parameters: float, models: int, questions: int
) -> list[dict[str, str]]:
    """The pipeline as a line of stops, in order."""
    return [
        {"value": count(pages), "label": "pages collected"},
        {"value": count(documents), "label": "documents kept"},
        {"value": compact(tokens), "label": "tokens to train on"},
        {"value": count(points), "label": "small models for the scaling law"},
        {"value": compact(parameters), "label": "parameters trained"},
        {"value": count(models), "label": "contestants, controls among them"},
        {"value": count(questions), "label": "test questions each"},
    ]
