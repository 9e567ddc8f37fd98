"""What was measured on each document and each question: the rows of `items.parquet`."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

ITEM = pa.schema(
    [
        ("task", pa.string()),  # text, or a protocol
        ("id", pa.string()),  # of the document or question
        ("group", pa.string()),  # source or subject
        ("domain", pa.string()),  # "" for questions
        ("nats", pa.float64()),  # of the text; NaN for questions
        ("tokens", pa.int32()),
        ("bytes", pa.int32()),
        ("logprobs", pa.list_(pa.float64())),  # of each choice
        ("answer", pa.int32()),  # -1 for documents, as the three below
        ("choice", pa.int32()),
        ("choice_norm", pa.int32()),  # per character
        ("shots", pa.int32()),
    ]
)


def text_items(
    documents: Sequence[Mapping[str, Any]], losses: Sequence[tuple[float, int, int]]
) -> list[dict[str, Any]]:
    """Rows of documents (schema MIXED) with their (nats, tokens, bytes)."""
    return [
        _item("text", row["id"], row["source"])
        | {"domain": row["domain"], "nats": nats, "tokens": tokens, "bytes": size}
        for row, (nats, tokens, size) in zip(documents, losses, strict=True)
    ]


def choice_items(protocol: str, answers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of `multiple_choice.score`."""
    return [
        _item(protocol, row["id"], row["subject"])
        | {name: row[name] for name in ("logprobs", "answer", "choice", "choice_norm", "shots")}
        for row in answers
    ]


def _item(task: str, id: str, group: str) -> dict[str, Any]:
    return {
        "task": task,
        "id": id,
        "group": group,
        "domain": "",
        "nats": float("nan"),
        "tokens": 0,
        "bytes": 0,
        "logprobs": [],
        "answer": -1,
        "choice": -1,
        "choice_norm": -1,
        "shots": 0,
    }
