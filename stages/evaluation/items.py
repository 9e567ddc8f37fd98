"""What was measured on each document and each question: the rows of `items.parquet`."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

ITEM = pa.schema(
    [
        ("set", pa.string()),  # key of the text or task
        ("protocol", pa.string()),  # "" for documents
        ("id", pa.string()),  # of the document or question
        ("group", pa.string()),  # source or subject
        ("domain", pa.string()),  # "" for questions
        ("nats", pa.float64()),  # of the text; null for questions
        ("tokens", pa.int32()),
        ("bytes", pa.int32()),
        ("logprobs", pa.list_(pa.float64())),  # of each choice; null for documents, as all below
        ("answer", pa.int32()),
        ("choice", pa.int32()),
        ("choice_norm", pa.int32()),  # per character
        ("shots", pa.int32()),
    ]
)


def text_items(
    key: str, documents: Sequence[Mapping[str, Any]], losses: Sequence[tuple[float, int, int]]
) -> list[dict[str, Any]]:
    """Rows of a text's documents (schema MIXED) with their (nats, tokens, bytes)."""
    return [
        {
            "set": key,
            "protocol": "",
            "id": row["id"],
            "group": row["source"],
            "domain": row["domain"],
            "nats": nats,
            "tokens": tokens,
            "bytes": size,
        }
        for row, (nats, tokens, size) in zip(documents, losses, strict=True)
    ]


def choice_items(key: str, protocol: str, answers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A task's rows of `multiple_choice.answer`."""
    return [
        {"set": key, "protocol": protocol, "id": row["id"], "group": row["subject"], "domain": ""}
        | {name: row[name] for name in ("logprobs", "answer", "choice", "choice_norm", "shots")}
        for row in answers
    ]
