"""Judged answers to browse, each beside the baseline's: data for the page's own script, which filters and searches."""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from stages.base.seeds import derive
from stages.publishing.html.quoted import verbatim
from stages.publishing.leaderboard.samples import mark

BUDGET = 800_000  # characters of the page's data
LONGEST = 4000  # of an answer or a question
SAME = 1e-9  # preferences closer than this tie

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Entrant:
    """One model's rows of the test split: OUTPUT by id, ANNOTATION (one or several an id), EXACT by id."""

    outputs: Mapping[str, Row]
    annotations: Sequence[Row]
    exact: Mapping[str, Row]

    @classmethod
    def of(cls, outputs: Iterable[Row], annotations: Iterable[Row], exact: Iterable[Row]) -> "Entrant":
        asked, judged, counted = (
            [row for row in rows if row["split"] == "test"] for rows in (outputs, annotations, exact)
        )
        return cls({row["id"]: row for row in asked}, judged, {row["id"]: row for row in counted})


def answers_view(
    questions: Sequence[Row], entrants: Mapping[str, Entrant], baseline: str, seed: int, budget: int = BUDGET
) -> dict[str, Any]:
    """What the page shows and the script reads. Where not all fits, whole questions are left out, by a seed that sees
    no answer.

    Parameters: `questions`: INSTRUCTION rows; `entrants`: by model, in the order to show. `data` is JSON that may
    stand in a page's script element; its fields are described in `_entry`.
    """
    models = [model for model in entrants if model != baseline and entrants[model].annotations]
    annotators = sorted({row["annotator"] for model in models for row in entrants[model].annotations} - {""})
    verdicts: dict[str, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for model in models:
        for row in entrants[model].annotations:
            verdicts[row["id"]][model].append(row)
    known = {row["id"]: row for row in questions}
    asked = [identifier for identifier in verdicts if identifier in known]
    shown: dict[str, tuple[dict[str, Any], int]] = {}
    spent = 0
    for identifier in sorted(asked, key=lambda one: derive(seed, "answers", one)):
        entry = _question(known[identifier], verdicts[identifier], entrants, baseline, models, annotators)
        size = len(json.dumps(entry, ensure_ascii=False))
        if shown and spent + size > budget:
            break
        spent += size
        shown[identifier] = (entry, len(entry["judged"]))
    data = {
        "baseline": baseline,
        "models": models,
        "annotators": annotators,
        "questions": [shown[identifier][0] for identifier in asked if identifier in shown],
    }
    return {
        "baseline": baseline,
        "models": models,
        "questions": len(shown),
        "of": len(asked),
        "answers": sum(count for _, count in shown.values()),
        "several": any(len(rows) > 1 for one in verdicts.values() for rows in one.values()),
        "orders": any(
            _orders_differ(row) is not None for one in verdicts.values() for rows in one.values() for row in rows
        ),
        "truth": any(entrant.exact for entrant in entrants.values()),
        "data": embedded(data),
    }


def embedded(value: Any) -> Markup:
    """JSON that ends no script element and opens no comment in one, so that it can stand there as it is."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _question(
    question: Row,
    judged: Mapping[str, Sequence[Row]],
    entrants: Mapping[str, Entrant],
    baseline: str,
    models: Sequence[str],
    annotators: Sequence[str],
) -> dict[str, Any]:
    """Answers of one question; equal texts stand once, in `texts`, and are referred to by place."""
    texts: dict[str, int] = {}
    own = entrants.get(baseline)
    entry = {
        "id": question["id"],
        "prompt": verbatim(question["prompt"], LONGEST),
        "truth": verbatim(question["response"], LONGEST) if question["response"] else "",
        "baseline": _said(own, question["id"], texts),
        "mark": _marked(own, question["id"]),
        "judged": [
            _entry(entrants[model], own, model, judged[model], texts, models, annotators)
            for model in models
            if model in judged
        ],
    }
    return entry | {"texts": list(texts)}


def _entry(
    entrant: Entrant,
    own: Entrant | None,
    model: str,
    rows: Sequence[Row],
    texts: dict[str, int],
    models: Sequence[str],
    annotators: Sequence[str],
) -> list[Any]:
    """[model, text, verdict, disagreements, votes, mark, length, length of the baseline's].

    verdict: w, l or t (the model wins, loses, ties), n without one. disagreements: letters of a (annotators name other
    winners), o (so do the two orders of showing), t (the verdict is against the exact score). votes: [annotator,
    preference 1 to 2] and, where the pair was shown in both orders, the preference with the baseline first and with the
    model first; null where unknown, none for two answers that are the same. mark: what the truth says of the answer.
    """
    identifier = rows[0]["id"]
    known = [row["preference"] for row in rows if not math.isnan(row["preference"])]
    verdict = _winner(sum(known) / len(known)) if known else "n"
    ours, theirs = (
        one.exact[identifier]["score"] if one and identifier in one.exact else None for one in (entrant, own)
    )
    told = "a" if {"w", "l"} <= {_winner(one) for one in known} else ""
    told += "o" if any(_orders_differ(row) for row in rows) else ""
    if (
        verdict in "wl"
        and ours is not None
        and theirs is not None
        and _winner(1.5 + ours - theirs) not in ("t", verdict)
    ):
        told += "t"
    said, lengths = _said(entrant, identifier, texts), (rows[0]["len_output"], rows[0]["len_baseline"])
    same = said >= 0 and said == _said(own, identifier, texts)
    votes = [] if same else [_vote(row, annotators) for row in rows]
    return [models.index(model), said, verdict, told, votes, _marked(entrant, identifier), *lengths]


def _said(entrant: Entrant | None, identifier: str, texts: dict[str, int]) -> int:
    """The place of an answer's text; -1 where it isn't known."""
    if entrant is None or identifier not in entrant.outputs:
        return -1
    return texts.setdefault(verbatim(entrant.outputs[identifier]["output"].strip(), LONGEST), len(texts))


def _vote(row: Row, annotators: Sequence[str]) -> list[Any]:
    place = annotators.index(row["annotator"]) if row["annotator"] else -1
    orders = () if _orders_differ(row) is None else (row["baseline_first"], row["output_first"])
    return [place, *map(_rounded, (row["preference"], *orders))]


def _marked(entrant: Entrant | None, identifier: str) -> str | None:
    """What the truth says of an answer, behind a letter for its tone on the page."""
    found = mark(entrant.exact.get(identifier)) if entrant else None
    return found["tone"][0] + found["word"] if found else None


def _winner(preference: float) -> str:
    if abs(preference - 1.5) < SAME:
        return "t"
    return "w" if preference > 1.5 else "l"


def _orders_differ(row: Row) -> bool | None:
    """Whether the two orders name other winners; None where the pair was not shown in both."""
    first, second = row["baseline_first"], row["output_first"]
    if math.isnan(first) or math.isnan(second):
        return None
    return {_winner(first), _winner(second)} == {"w", "l"}


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 2)
