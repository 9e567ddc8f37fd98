"""Answers of several models to the same questions, with what is true beside them."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from stages.base.errors import InputError
from stages.base.seeds import derive
from stages.publishing.html.quoted import quoted

LONGEST = 700  # characters of an answer on the page


def choose(ids: Sequence[str], number: int, seed: int) -> list[str]:
    """A seeded choice of question ids that doesn't look at any answer, so that nobody picks the flattering ones."""
    return sorted(ids, key=lambda identifier: derive(seed, "samples", identifier))[:number]


def samples_view(
    questions: pa.Table, outputs: Mapping[str, pa.Table], exact: Mapping[str, pa.Table], number: int, seed: int
) -> list[dict[str, Any]]:
    """One entry a question: prompt, what is true, and each model's answer with its exact score.

    Parameters: `questions`: INSTRUCTION rows, whose response is a correct answer on the test split; `outputs`,
    `exact`: model → OUTPUT, EXACT rows.
    Raises InputError where a model has no answer to a chosen question.
    """
    known = {row["id"]: row for row in questions.to_pylist()}
    answers = {
        model: {row["id"]: row for row in table.to_pylist() if row["split"] == "test"}
        for model, table in outputs.items()
    }
    marks = {model: {row["id"]: row for row in table.to_pylist()} for model, table in exact.items()}
    shared = set(known).intersection(*answers.values()) if answers else set()
    if not shared:
        raise InputError(f"no test question has an answer of every one of {', '.join(outputs)}; rerun judging.respond")
    items = []
    for identifier in choose(sorted(shared), number, seed):
        question = known[identifier]
        items.append(
            {
                "prompt": question["prompt"],
                "truth": f"A correct answer: {question['response']}",
                "answers": [
                    {
                        "model": model,
                        "text": _cut(rows[identifier]["output"].strip()),
                        "mark": _mark(marks.get(model, {}).get(identifier)),
                    }
                    for model, rows in answers.items()
                ],
            }
        )
    return items


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else text[:LONGEST].rstrip() + " …"


def _mark(row: Mapping[str, Any] | None) -> dict[str, str] | None:
    if row is None:
        return None
    if row["right"]:
        return {"word": "right", "tone": "good"}
    if row["correct"]:
        return {"word": f"{row['correct']} of {row['asked']} right, {row['wrong']} wrong", "tone": "plain"}
    return {"word": f"{row['wrong']} wrong" if row["wrong"] else "says nothing", "tone": "bad"}


LONGEST = 500  # characters of a passage on the page


def continuations_view(samples: Mapping[str, Sequence[Mapping[str, str]]]) -> list[dict[str, Any]]:
    """One entry a document: its source, its beginning, the document's own words and each stage's greedy ones.

    Parameter: stage → rows of its samples.json (source, prompt, continuation, reference). Raises InputError where the
    stages were not asked to continue the same documents.
    """
    beginnings = [[(row["source"], row["prompt"]) for row in rows] for rows in samples.values()]
    if any(other != beginnings[0] for other in beginnings):
        raise InputError(
            f"samples.json of {' and '.join(samples)} continue other documents; run both stages of pretraining again"
        )
    return [
        {
            "source": rows[0]["source"],
            "prompt": quoted(rows[0]["prompt"], LONGEST, lines=True),
            "passages": [
                {"name": "the document", "text": quoted(rows[0]["reference"], LONGEST, lines=True)},
                *(
                    {"name": stage, "text": quoted(row["continuation"], LONGEST, lines=True)}
                    for stage, row in zip(samples, rows, strict=True)
                ),
            ],
        }
        for rows in zip(*samples.values(), strict=True)
    ]
