"""Multiple choice by log-likelihood: the continuation that a model finds likeliest is its answer."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from stages.base.errors import InputError, ParamError
from stages.evaluation.continuations import Request, score_group
from stages.evaluation.protocols.choices import PROTOCOLS, Question, Rendered, problem_of
from stages.lm.build import LanguageModel
from stages.lm.chat import ChatTokenizer, load_tokenizer
from stages.lm.checkpoint import load_model
from stages.lm.forks import in_forks
from stages.lm.incremental import incremental

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    Rows: TypeAlias = pa.Table | pd.DataFrame | Sequence[Mapping[str, Any]]
Row = dict[str, Any]


class TooLong(InputError):
    """A question that the model's context has no room for, even without examples."""


def score(
    model: str | Path | LanguageModel,
    questions: "Rows",
    protocol: str,
    shots: int,
    *,
    examples: "Rows | None" = None,
    tokenizer: ChatTokenizer | str | Path | None = None,
) -> "pd.DataFrame":
    """Answer multiple-choice questions; one row a question, in order.

    model: a model folder, or a loaded model, which needs its tokenizer beside it. questions: rows with id, subject,
    question, choices, answer (index) and optionally split (`schemas.TASK`). protocol: a name in
    `protocols.PROTOCOLS`. shots: examples shown before each question, the first ones of its subject, in order; fewer
    where they don't fit into the model's context. They come from `examples`, or else from the questions whose split is
    "development", which are then not scored.

    Columns: id, subject, answer, shots (really shown), logprobs (nats of each choice's continuation), choice (the index
    of the largest), correct, choice_norm and correct_norm (by logprob per character of the continuation's text, as
    `acc_norm` of the LM Evaluation Harness; for letters the same as choice).

    Raises ParamError for an unknown protocol, InputError for questions that can't be scored.
    """
    import pandas as pd

    if tokenizer is None:
        if isinstance(model, LanguageModel):
            raise ParamError("multiple choice: a loaded model doesn't know its tokenizer; give `tokenizer=`")
        tokenizer = model
    rows = _rows(questions)
    if examples is None:
        shown = [row for row in rows if row.get("split") == "development"]
        rows = [row for row in rows if row.get("split") != "development"]
    else:
        shown = _rows(examples)
    loaded = model if isinstance(model, LanguageModel) else load_model(model)
    tokens = tokenizer if isinstance(tokenizer, ChatTokenizer) else load_tokenizer(tokenizer)
    return pd.DataFrame(answer(loaded, tokens, rows, shown, protocol, shots)[0])


def answer(
    model: LanguageModel,
    tokens: ChatTokenizer,
    rows: list[Row],
    examples: Sequence[Question],
    protocol: str,
    shots: int,
    *,
    skip_too_long: bool = False,
) -> tuple[list[Row], list[str]]:
    """(Rows with the columns of `score`, ids of questions too long for the model: left out if `skip_too_long`)."""
    if protocol not in PROTOCOLS:
        raise ParamError(f"unknown multiple-choice protocol `{protocol}`; known: {', '.join(PROTOCOLS)}")
    if not rows:
        raise InputError("multiple choice: no questions to score; all are development examples, or the set is empty")
    for row in rows:
        if problem := problem_of(row):
            raise InputError(f"question {row['id']}: {problem}")
    by_subject: dict[str, list[Question]] = defaultdict(list)
    for example in examples:
        if len(by_subject[example["subject"]]) < shots:
            by_subject[example["subject"]].append(example)

    requests: dict[int, tuple[Request, int]] = {}
    groups: dict[tuple[str, int], list[int]] = defaultdict(list)
    too_long = []
    for index, row in enumerate(rows):
        try:
            requests[index] = fit(row, by_subject[row["subject"]], protocol, tokens, model.config.max_seq_len)
        except TooLong:
            if not skip_too_long:
                raise
            too_long.append(row["id"])
            continue
        groups[row["subject"], requests[index][1]].append(index)
    together, reader = [groups[key] for key in sorted(groups)], incremental(model)

    def scored(part: int) -> list[list[float]]:
        return score_group(model, [requests[i][0] for i in together[part]], reader)

    logprobs: dict[int, list[float]] = {}
    for part, values in in_forks(scored, len(together)):
        logprobs |= zip(together[part], values, strict=True)
    return [_answered(rows[i], requests[i][1], logprobs[i], protocol) for i in sorted(requests)], too_long


def fit(
    row: Question, examples: Sequence[Question], protocol: str, tokenizer: ChatTokenizer, limit: int
) -> tuple[Request, int]:
    """The request with as many examples as leave room, the last dropped first, as the MMLU code does; and how many."""
    for count in range(len(examples), -1, -1):
        request = encode(PROTOCOLS[protocol](row, examples[:count]), tokenizer)
        longest = len(request.context) + max(len(c) for c in request.continuations)
        if longest <= limit + 1:
            return request, count
    raise TooLong(
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


def _rows(table: "Rows") -> list[Row]:
    if hasattr(table, "to_pylist"):
        return table.to_pylist()
    if hasattr(table, "to_dict"):
        return table.to_dict("records")
    return [dict(row) for row in table]
