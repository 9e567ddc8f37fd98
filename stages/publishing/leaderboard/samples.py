"""Answers of several models to the same questions, with what is true beside them."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from stages.base.errors import InputError
from stages.base.seeds import derive

LONGEST = 700  # characters of an answer on the page


def choose(ids: Sequence[str], number: int, seed: int) -> list[str]:
    """A seeded choice of question ids that doesn't look at any answer, so that nobody picks the flattering ones."""
    return sorted(ids, key=lambda identifier: derive(seed, "samples", identifier))[:number]


def samples_view(
    questions: Sequence[Mapping[str, Any]],
    outputs: Mapping[str, pa.Table],
    exact: Mapping[str, pa.Table],
    number: int,
    seed: int,
) -> list[dict[str, Any]]:
    """One entry a question: prompt, a correct answer where one is known, and each model's answer with its exact score.

    Parameters: `questions`: INSTRUCTION rows; `outputs`, `exact`: model → its OUTPUT rows, and EXACT rows where truth
    is known. Raises InputError where no question has an answer of every model.
    """
    known = {row["id"]: row for row in questions}
    answers = {
        model: {row["id"]: row for row in table.to_pylist() if row["split"] == "test"}
        for model, table in outputs.items()
    }
    marks = {model: {row["id"]: row for row in table.to_pylist()} for model, table in exact.items()}
    shared = set(known).intersection(*answers.values()) if answers else set()
    if not shared:
        raise InputError(
            f"no test question has an answer of every one of {', '.join(outputs)}; name other models in "
            "publishing.board.side_by_side"
        )
    items = []
    for identifier in choose(sorted(shared), number, seed):
        question = known[identifier]
        items.append(
            {
                "prompt": question["prompt"],
                "truth": f"A correct answer: {question['response']}" if question["response"] else "",
                "answers": [
                    {
                        "model": model,
                        "text": _cut(rows[identifier]["output"].strip()),
                        "mark": mark(marks.get(model, {}).get(identifier)),
                    }
                    for model, rows in answers.items()
                ],
            }
        )
    return items


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else text[:LONGEST].rstrip() + " …"


def mark(row: Mapping[str, Any] | None) -> dict[str, str] | None:
    if row is None:
        return None
    if row["right"]:
        return {"word": "right", "tone": "good"}
    if row["correct"]:
        return {"word": f"{row['correct']} of {row['asked']} right, {row['wrong']} wrong", "tone": "plain"}
    return {"word": f"{row['wrong']} wrong" if row["wrong"] else "says nothing", "tone": "bad"}
