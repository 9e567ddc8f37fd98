"""The contamination section: each check's verdict, and what it would have taken for a check to notice."""

from typing import Any

from stages.base.contracts.contamination import Contamination, Ordering, Overlap, Power
from stages.publishing.html.charts import Axis, Plot
from stages.publishing.html.numbers import count, percent


def verdict(found: Contamination) -> str:
    """In a few words: contaminated, undecided, some overlap, clean, or unknown."""
    said = {row.verdict for row in found.ordering}
    for word in ("contaminated", "undecided"):
        if word in said:
            return word
    dirty = max((row.dirty or 0.0 for row in found.overlap), default=0.0)
    if dirty:
        return f"{percent(dirty, 1)} overlap"
    return "clean" if "clean" in said else "unknown"


def probability(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else f"{p:.1e}"


def contamination_view(found: Contamination) -> dict[str, Any]:
    rows = [_ordering_row(row) for row in found.ordering] + [_overlap_row(row) for row in found.overlap]
    return {
        "intro": _intro(found),
        "table": {"head": ["Check", "Questions", "Looked at", "Found", "Verdict"], "rows": rows},
        "chart": _power_chart(found.power, found.alpha) if found.power.planted else None,
        "notes": _notes(found),
    }


def _intro(found: Contamination) -> str:
    seen = [row.task.replace("_", " ") for row in found.ordering if row.verdict == "contaminated"]
    finds = f"finds a sign that it read {', '.join(seen)}" if seen else "finds no sign that it read them"
    dirty = max((row.dirty or 0.0 for row in found.overlap), default=0.0)
    shared = (
        f"{percent(dirty, 1)} of a set share most of their text with it" if dirty else "None shares most of its text"
    )
    return (
        f"Two questions about {found.model}. Does it prefer the published order of a task's questions to shuffled "
        f"ones, as a model does that read the file (Oren et al. 2023)? The test {finds}. And which questions stand in "
        f"its training text word for word? {shared}."
    )


def _ordering_row(row: Ordering) -> list[str]:
    shown = "–" if row.p_value is None else f"p = {probability(row.p_value)}"
    return ["order of the questions", _name(row.task), f"{count(row.examples)} questions", shown, _word(row)]


def _overlap_row(row: Overlap) -> list[str]:
    if row.dirty is None:
        return ["shared words", _name(row.set), f"{count(row.items)} questions", "–", _word(row)]
    told = f"{count(len(row.dirty_ids))} dirty ({percent(row.dirty, 1)})"
    if row.any_ngram is not None:
        told += f"; {percent(row.any_ngram, 1)} share a {row.ngram}-word run"
    word = "some overlap" if row.dirty else _word(row)
    return ["shared words", _name(row.set), f"{count(row.items)} questions", told, word]


def _name(key: str) -> str:
    return key.replace("_", " ")


def _word(row: Ordering | Overlap) -> str:
    return f"{row.verdict}: {row.reason}" if row.verdict == "unknown" and row.reason else row.verdict


def _notes(found: Contamination) -> list[str]:
    notes = []
    if not found.power.planted:
        notes.append(f"How many copies the test needs to notice a set isn't known: {found.power.reason}.")
    elif found.power.detects_from_copies is None:
        notes.append("On the probe, the test noticed none of the planted sets: a set it calls clean may not be.")
    else:
        notes.append(
            f"On the probe, the test noticed {found.power.detects_from_copies} or more copies. How many the model "
            "itself would need isn't known: it is larger and read more."
        )
    for row in found.accuracy:
        if row.clean_acc is not None and row.dirty_acc is not None:
            notes.append(
                f"Accuracy on {_name(row.task)} ({row.protocol}): {percent(row.clean_acc, 1)} of the "
                f"{count(row.clean_questions)} clean questions, {percent(row.dirty_acc, 1)} of the "
                f"{count(row.dirty_questions)} dirty ones."
            )
    return notes


def _power_chart(power: Power, alpha: float) -> str:
    plot = Plot(
        Axis("copies of the planted set in the training text (0 drawn at ½)", log=True),
        Axis("p value", log=True),
        "p value of the ordering test by number of planted copies",
        height=260,
    )
    xs = [row.copies or 0.5 for row in power.planted]
    ys = [max(row.p_value, 1e-12) for row in power.planted]
    plot.line([min(xs) * 0.8, max(xs) * 1.2], [alpha, alpha], "ident")
    plot.line(xs, ys, "c2")
    plot.points(xs, ys, "c2", notes=[f"{row.copies} copies: p = {probability(row.p_value)}" for row in power.planted])
    for x, y, row in zip(xs, ys, power.planted, strict=True):
        plot.text(x, y, probability(row.p_value), "c2", dx=0, dy=-9, anchor="middle")
    plot.text(max(xs) * 1.2, alpha, f"{alpha:g}", "c0", dx=-2, dy=-5, anchor="end")
    return plot.svg()
