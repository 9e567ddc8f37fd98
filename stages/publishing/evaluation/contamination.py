"""The contamination section: each check's verdict, what it can notice, and whose power that is."""

import math
from typing import Any

from stages.base.contracts.contamination import Contamination, Membership, Ordering, Overlap, Power, SplitAccuracy
from stages.publishing.evaluation.tasks import named, protocol_name
from stages.publishing.html.charts import Axis, Plot, compact
from stages.publishing.html.numbers import count, percent
from stages.publishing.html.quoted import quoted

MOST_PLACES, LONGEST = 12, 240


def verdict(found: Contamination) -> str:
    """In a few words: contaminated, undecided, some overlap, clean, or unknown."""
    said = {row.verdict for row in found.ordering} | {row.verdict for row in found.verdicts}
    for word in ("contaminated", "undecided"):
        if word in said:
            return word
    dirty = max((row.dirty or 0.0 for row in found.overlap), default=0.0)
    if dirty:
        return f"{percent(dirty, 1)} overlap"
    return "clean" if "clean" in said else "unknown"


def probability(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else compact(p, 2)


def contamination_view(found: Contamination) -> dict[str, Any]:
    rows = [_ordering_row(row) for row in found.ordering] + [_overlap_row(row) for row in found.overlap]
    return {
        "intro": _intro(found),
        "table": {"head": ["Check", "Of", "Questions", "Found", "Verdict"], "rows": rows},
        "unknown": _unknown(found),
        "power": _power(found),
        "rules": _rules(found),
        "places": _places(found),
        "splits": _splits(found.accuracy),
        "membership": _membership(found.membership),
    }


def _intro(found: Contamination) -> str:
    seen = [named(row.task) for row in found.ordering if row.verdict == "contaminated"]
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
    if row.blocks > 1:
        shown += f", shuffled within {count(row.blocks)} subjects"
    return [f"order of the questions, {row.model}", named(row.task), count(row.examples), shown, _word(row)]


def _overlap_row(row: Overlap) -> list[str]:
    if row.dirty is None:
        return ["shared words", named(row.set), count(row.items), "–", _word(row)]
    told = f"{count(len(row.dirty_ids))} dirty ({percent(row.dirty, 1)})"
    if row.any_ngram is not None:
        told += f"; {percent(row.any_ngram, 1)} share a {row.ngram}-word run"
    if row.suspect:
        told += f"; {count(row.suspect)} suspect"
    if row.too_short:
        told += f"; {count(row.too_short)} too short to look for"
    word = "some overlap" if row.dirty else _word(row)
    return ["shared words, training text", named(row.set), count(row.items), told, word]


def _word(row: Ordering | Overlap) -> str:
    return f"{row.verdict}: {row.reason}" if row.verdict != "clean" and row.reason else row.verdict


def _unknown(found: Contamination) -> str:
    """Whose training text nobody here knows."""
    foreign = [*dict.fromkeys(row.model for row in found.verdicts if row.verdict == "unknown")]
    if not foreign:
        return ""
    whose = "their training texts aren't" if len(foreign) > 1 else "its training text isn't"
    return (
        f"Unknown: {', '.join(foreign)}, as {whose} known here. Overlap can't be looked for, and tests that need no "
        "corpus can find a leak but clear nobody."
    )


def _power(found: Contamination) -> dict[str, Any]:
    power = found.power
    chart = _power_chart(power, found.alpha) if power.planted else None
    rows = [
        [count(row.copies) + (", shuffled" if row.shuffled else ""), probability(row.p_value)] for row in power.planted
    ]
    canaries = [
        [count(row.copies), f"{count(row.rank)} of {count(row.of)}", f"{row.exposure:.1f} of {math.log2(row.of):.1f}"]
        for row in power.canaries
    ]
    return {
        "sentence": _power_sentence(found),
        "chart": chart,
        "key": [
            {"mark": mark, "colour": colour, "label": label}
            for mark, colour, label, there in (
                ("", "c2", "planted in one order", True),
                ("sq", "c4", "planted in another order each time", any(row.shuffled for row in power.planted)),
            )
            if there
        ],
        "table": {"head": ["Copies", "p of the ordering test"], "rows": rows, "numeric": [0, 1]} if rows else None,
        "canaries": {"head": ["Copies", "Rank by likelihood", "Exposure, bits"], "rows": canaries, "numeric": [0, 1, 2]}
        if canaries
        else None,
    }


def _probe(power: Power) -> str:
    size = f"a probe of {count(power.probe_parameters)} parameters" if power.probe_parameters else "a small probe"
    read = f" that read {count(power.probe_tokens)} tokens" if power.probe_tokens else ""
    recipe = f" ({power.recipe})" if power.recipe else ""
    return f"{size}{read}{recipe}"


def _power_sentence(found: Contamination) -> str:
    power = found.power
    if not power.planted:
        return f"How many copies the test needs to notice a set isn't known: {power.reason}."
    if power.detects_from_copies is None:
        return (
            f"Planted on purpose in the training of {_probe(power)}, no set was noticed: a set that the test calls "
            "clean may not be."
        )
    return (
        f"This is the power of {_probe(power)}, not that of {found.model}. Sets of questions were planted in its "
        f"training: such a probe would have shown {count(power.detects_from_copies)} or more copies. How many copies "
        f"{found.model} would need to show them is not known."
    )


def _rules(found: Contamination) -> dict[str, Any] | None:
    rows = [
        [
            named(overlap.set), f"{rule.rule} ({rule.source})", rule.meaning, count(rule.clean), count(rule.suspect),
            count(rule.dirty), "–" if rule.mean_share is None else percent(rule.mean_share, 1),
        ]
        for overlap in found.overlap
        for rule in overlap.rules
    ]  # fmt: skip
    head = ["Set", "Rule", "What counts", "Clean", "Suspect", "Dirty", "Mean share"]
    return {"head": head, "rows": rows, "numeric": [3, 4, 5, 6]} if rows else None


def _places(found: Contamination) -> list[dict[str, str]]:
    """Where questions stand in the training text: the dirtiest, one place each; words of a crawl are quoted."""
    places = []
    for overlap in found.overlap:
        for item in overlap.found:
            for place in item.places[:1]:
                shares = ", ".join(f"{rule} {percent(share, 1)}" for rule, share in item.shares.items() if share)
                places.append(
                    {
                        "state": item.state,
                        "what": f"{named(overlap.set)} {quoted(item.id, 60)}",
                        "shares": shares,
                        "where": quoted(place.url or place.document, 160),
                        "source": quoted(place.source, 40),
                        "text": quoted(place.text, LONGEST),
                        "answer": "with its answer" if place.with_answer else "",
                    }
                )
    return places[:MOST_PLACES]


def _splits(found: list[SplitAccuracy]) -> dict[str, Any] | None:
    """Every score beside the score on the clean questions."""
    rows = []
    for row in found:
        if row.clean_acc is None or row.all_acc is None or not row.dirty_questions:
            continue
        gap = row.all_acc - row.clean_acc if row.gap is None else row.gap
        told = f"{100 * gap:+.1f}".replace("-", "−")
        if row.gap_low is not None and row.gap_high is not None:
            told += f" ({100 * row.gap_low:+.1f} to {100 * row.gap_high:+.1f})".replace("-", "−")
        rows.append(
            [
                row.model, named(row.task), protocol_name(row.protocol),
                f"{100 * row.all_acc:.1f} of {count(row.all_questions)}",
                f"{100 * row.clean_acc:.1f} of {count(row.clean_questions)}",
                "–" if row.dirty_acc is None else f"{100 * row.dirty_acc:.1f} of {count(row.dirty_questions)}",
                told,
            ]
        )  # fmt: skip
    head = ["Model", "Task", "Protocol", "All, %", "Clean, %", "Others, %", "All − clean"]
    return {"head": head, "rows": rows, "numeric": [3, 4, 5, 6]} if rows else None


def _membership(found: list[Membership]) -> dict[str, Any] | None:
    rows = []
    for row in found:
        auc = "unknown" if row.auc is None else f"{row.auc:.3f}"
        if row.auc_low is not None and row.auc_high is not None:
            auc += f" ({row.auc_low:.3f} – {row.auc_high:.3f})"
        method = {"min_k": "Min-K %", "min_k_plus_plus": "Min-K%++"}[row.method]
        sizes = f"{count(row.members)} and {count(row.non_members)}" if row.members else ""
        over = "; ".join(part for part in (sizes, row.reason) if part) or "–"
        mean = "–" if row.mean is None else f"{row.mean:.3f}".replace("-", "−")
        rows.append([row.model, named(row.task), f"{method}, k = {percent(row.k, 1, 0)}", mean, auc, over])
    head = ["Model", "Task", "Method", "Mean, nats", "AUC", "Members and others"]
    return {"head": head, "rows": rows, "numeric": [3, 4]} if rows else None


def _power_chart(power: Power, alpha: float) -> str:
    plot = Plot(
        Axis("copies of the planted set in the training text (0 drawn at ½)", log=True),
        Axis("p value", log=True),
        "p value of the ordering test by number of planted copies",
        height=260,
    )
    ends = [row.copies or 0.5 for row in power.planted]
    low, high = min(ends) * 0.8, max(ends) * 1.2
    plot.line([low, high], [alpha, alpha], "ident")
    for shuffled, style in ((False, "c2"), (True, "c4")):
        planted = [row for row in power.planted if row.shuffled == shuffled]
        xs = [row.copies or 0.5 for row in planted]
        ys = [max(row.p_value, 1e-12) for row in planted]
        plot.line(xs, ys, style)
        notes = [f"{row.copies} copies: p = {probability(row.p_value)}" for row in planted]
        plot.points(xs, ys, style, "square" if shuffled else "circle", notes=notes)
        for x, y, row in zip(xs, ys, planted, strict=True):
            plot.text(x, y, probability(row.p_value), style, dx=0, dy=-9, anchor="middle")
    plot.text(low, alpha, f"{alpha:g}", "c0", dx=2, dy=13)
    return plot.svg()
