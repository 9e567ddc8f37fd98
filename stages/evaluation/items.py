"""What was measured on each document and each question: the rows of `items.parquet`."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from stages.evaluation.run import Row
from stages.evaluation.scoring.requests import Rolling

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
        ("version", pa.int32()),  # of the protocol
        ("variant", pa.string()),  # of its wording; "" for the plain one
        ("cluster", pa.string()),  # items of one cluster are not independent; "" = of its own
        ("correct", pa.float64()),  # value of the task's main metric: 0, 1, or a share
        ("scores", pa.map_(pa.string(), pa.float64())),  # by metric
        ("text", pa.string()),  # generated; "" where choices were scored
        ("target", pa.string()),  # the right answer as text
        ("truncated", pa.bool_()),  # the context lost its beginning
        ("flags", pa.list_(pa.string())),  # no_answer, repeated_options
        ("prompt", pa.string()),  # exactly as sent
        ("prompt_sha256", pa.string()),
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


def answer_items(rows: Sequence[Row], metric: str) -> list[dict[str, Any]]:
    """Of a task's rows under one protocol, those left out excepted; metric: the task's main one."""
    return [_answer_item(row, metric) for row in rows if row.found is not None]


def _answer_item(row: Row, metric: str) -> dict[str, Any]:
    item, answer = row.item, row.answer
    found: dict[str, Any] = {
        "set": item.set,
        "protocol": row.protocol,
        "id": item.id,
        "group": item.subject,
        "domain": "",
        "version": row.version,
        "variant": row.variant,
        "cluster": item.cluster,
        "prompt": writable(row.prompt),
        "prompt_sha256": row.prompt_digest,
    }
    if isinstance(row.found, Rolling):
        return found | row.found._asdict()
    assert answer is not None
    chosen = bool(item.choices)
    return found | {
        "logprobs": [one.nats for one in row.likelihoods][: len(item.choices) or None] or None,
        "answer": item.answer if chosen else None,
        "choice": answer.choice if chosen else None,
        "choice_norm": answer.choice_norm if chosen else None,
        "shots": row.shots,
        "correct": answer.scores.get(metric),
        "scores": list(answer.scores.items()),
        "text": writable(answer.text),
        "target": writable(item.target),
        "truncated": row.truncated,
        "flags": list(answer.flags),
    }


def writable(text: str) -> str:
    """Without halves of surrogate pairs, which no file of UTF-8 holds."""
    return text.encode("utf-8", "replace").decode()
