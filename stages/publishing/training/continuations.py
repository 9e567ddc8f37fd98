"""Held-out documents, continued by the model after each stage of pretraining."""

from collections.abc import Mapping, Sequence
from typing import Any

from stages.base.errors import InputError
from stages.publishing.html.quoted import quoted

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
