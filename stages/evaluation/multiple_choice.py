"""Multiple choice by log-likelihood: the continuation that a model finds likeliest is its answer."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa

from stages.base.errors import InputError, ParamError
from stages.evaluation.continuations import Request, score_group
from stages.evaluation.protocols import PROTOCOLS, Question, Rendered
from stages.lm.build import LanguageModel
from stages.lm.chat import ChatTokenizer, load_tokenizer
from stages.lm.checkpoint import load_model

TOKENIZER = Path("data/tokens/tokenizer")
Rows: TypeAlias = pa.Table | pd.DataFrame | Sequence[Mapping[str, Any]]


def score(
    checkpoint: str | Path | LanguageModel,
    questions: Rows,
    protocol: str,
    shots: int,
    *,
    examples: Rows | None = None,
    tokenizer: ChatTokenizer | str | Path = TOKENIZER,
) -> pd.DataFrame:
    """Answer multiple-choice questions; one row a question, in order.

    checkpoint: a model folder, or a loaded model. questions: rows with id, subject, question, choices, answer (index)
    and optionally split (`schemas.CHOICE`). protocol: a name in `protocols.PROTOCOLS`. shots: examples shown before
    each question, the first ones of its subject, in order; fewer where they don't fit into the model's context. They
    come from `examples`, or else from the questions whose split is "development", which are then not scored.

    Columns: id, subject, answer, shots (really shown), logprobs (nats of each choice's continuation), choice (the index
    of the largest), correct, choice_norm and correct_norm (by logprob per character of the continuation's text, as
    `acc_norm` of the LM Evaluation Harness; for letters the same as choice).

    Raises ParamError for an unknown protocol, InputError for questions that can't be scored.
    """
    if protocol not in PROTOCOLS:
        raise ParamError(f"unknown multiple-choice protocol `{protocol}`; known: {', '.join(PROTOCOLS)}")
    model = load_model(checkpoint) if isinstance(checkpoint, str | Path) else checkpoint
    tokens = load_tokenizer(tokenizer) if isinstance(tokenizer, str | Path) else tokenizer
    rows = _rows(questions)
    if examples is None:
        shown = [row for row in rows if row.get("split") == "development"]
        rows = [row for row in rows if row.get("split") != "development"]
    else:
        shown = _rows(examples)
    _check(rows)
    by_subject: dict[str, list[Question]] = defaultdict(list)
    for example in shown:
        if len(by_subject[example["subject"]]) < shots:
            by_subject[example["subject"]].append(example)

    groups: dict[tuple[str, int], list[int]] = defaultdict(list)
    requests, used = [], []
    for index, row in enumerate(rows):
        request, count = fit(row, by_subject[row["subject"]], protocol, tokens, model.config.max_seq_len)
        requests.append(request)
        used.append(count)
        groups[row["subject"], count].append(index)
    logprobs: list[list[float]] = [[] for _ in rows]
    for key in sorted(groups):
        values = score_group(model, [requests[i] for i in groups[key]])
        for i, value in zip(groups[key], values, strict=True):
            logprobs[i] = value
    return pd.DataFrame([_answered(row, used[i], logprobs[i], protocol) for i, row in enumerate(rows)])


def fit(
    row: Question, examples: Sequence[Question], protocol: str, tokenizer: ChatTokenizer, limit: int
) -> tuple[Request, int]:
    """The request with as many examples as leave room, the last dropped first, as the MMLU code does; and how many."""
    for count in range(len(examples), -1, -1):
        request = encode(PROTOCOLS[protocol](row, examples[:count]), tokenizer)
        longest = len(request.context) + max(len(c) for c in request.continuations)
        if longest <= limit + 1:
            return request, count
    raise InputError(
        f"question {row['id']}: {longest} tokens without any example, the model reads {limit}; "
        "remove it, or train with a larger max_seq_len"
    )


def encode(rendered: Rendered, tokenizer: ChatTokenizer) -> Request:
    """Tokens of context and continuations.

    The text is encoded as a whole and cut where the context's own tokens end, as the LM Evaluation Harness does, so
    that a tokenizer may merge within a continuation as it would in running text.
    """
    if rendered.chat:
        context = tokenizer.encode_prompt(rendered.context)
        return Request(context, [tokenizer.encode(text) for text in rendered.continuations])
    own = tokenizer.encode(rendered.context)
    wholes = [tokenizer.encode(rendered.context + text) for text in rendered.continuations]
    return Request([tokenizer.prefix_id, *own], [whole[len(own) :] for whole in wholes])


def _answered(row: Question, shots: int, logprobs: list[float], protocol: str) -> dict[str, Any]:
    texts = row["choices"] if protocol == "cloze" else PROTOCOLS[protocol](row, ()).continuations
    lengths = [len(text) for text in texts]
    choice = int(np.argmax(logprobs))
    normalised = int(np.argmax(np.array(logprobs) / lengths))
    return {
        "id": row["id"],
        "subject": row["subject"],
        "answer": int(row["answer"]),
        "shots": shots,
        "logprobs": logprobs,
        "choice": choice,
        "correct": choice == row["answer"],
        "choice_norm": normalised,
        "correct_norm": normalised == row["answer"],
    }


def _rows(table: Rows) -> list[dict[str, Any]]:
    if isinstance(table, pa.Table):
        return table.to_pylist()
    if isinstance(table, pd.DataFrame):
        return table.to_dict("records")  # type: ignore[return-value]
    return [dict(row) for row in table]


def _check(rows: list[dict[str, Any]]) -> None:
    if not rows:
        raise InputError("multiple choice: no questions to score; all are development examples, or the set is empty")
    for row in rows:
        if len(row["choices"]) < 2 or not 0 <= row["answer"] < len(row["choices"]):
            raise InputError(
                f"question {row['id']}: answer {row['answer']} of {len(row['choices'])} choices; a question needs two "
                "choices at least and an answer among them"
            )
        if not row["question"].strip() or not all(choice.strip() for choice in row["choices"]):
            raise InputError(f"question {row['id']}: an empty question or choice can't be scored; remove it")
