"""Multiple choice as one call: questions under a protocol, asked of a model folder, as a table."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from stages.base.errors import InputError, ParamError
from stages.evaluation.protocols.choices import problem_of
from stages.evaluation.protocols.protocol import Setting, TooLong
from stages.evaluation.protocols.registry import find_protocol
from stages.evaluation.run import TOO_LONG, Row, ask
from stages.evaluation.scoring.local import LocalEngine
from stages.evaluation.tasks.item import Item
from stages.lm.build import LanguageModel
from stages.lm.chat import ChatTokenizer, load_tokenizer
from stages.lm.checkpoint import load_model

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    Rows: TypeAlias = pa.Table | pd.DataFrame | Sequence[Mapping[str, Any]]


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
    `protocols.registry.PROTOCOLS`. shots: examples shown before each question, the first ones of its subject, in order;
    fewer where they don't fit into the model's context. They come from `examples`, or else from the questions whose
    split is "development", which are then not scored.

    Columns: id, subject, answer, shots (really shown), logprobs (nats of each choice's continuation; none where the
    answer is generated), choice (the index of the largest, −1 for no answer), correct, choice_norm and correct_norm (by
    logprob per character of the answer's text, as `acc_norm` of the LM Evaluation Harness; for letters the same as
    choice). Of options that read the same any one is right.

    Raises ParamError for an unknown protocol, InputError for questions that can't be scored.
    """
    import pandas as pd

    if tokenizer is None:
        if isinstance(model, LanguageModel):
            raise ParamError("multiple choice: a loaded model doesn't know its tokenizer; give `tokenizer=`")
        tokenizer = model
    loaded = model if isinstance(model, LanguageModel) else load_model(model)
    tokens = tokenizer if isinstance(tokenizer, ChatTokenizer) else load_tokenizer(tokenizer)
    rows = _rows(questions)
    if examples is None:
        shown = [row for row in rows if row.get("split") == "development"]
        rows = [row for row in rows if row.get("split") != "development"]
    else:
        shown = _rows(examples)
    if not rows:
        raise InputError("multiple choice: no questions to score; all are development examples, or the set is empty")
    for row in rows:
        if problem := problem_of(row):
            raise InputError(f"question {row['id']}: {problem}")
    by_subject: dict[str, list[Item]] = defaultdict(list)
    for row in shown:
        by_subject[row["subject"]].append(_item(row))
    engine = LocalEngine(loaded, tokens, "multiple choice")
    asked = find_protocol(protocol)
    answered = ask(engine, [*map(_item, rows)], lambda item: by_subject[item.subject][:shots], asked, Setting())
    return pd.DataFrame([_answered(row, protocol) for row in answered])


def _answered(row: Row, protocol: str) -> dict[str, Any]:
    item, read = row.item, row.answer
    if row.left_out == TOO_LONG:
        raise TooLong(
            f"question {item.id}: the model's context has no room for it under the protocol {protocol}; "
            "remove it, or train with a larger max_seq_len"
        )
    if read is None:
        raise InputError(f"question {item.id}: the protocol {protocol} can't ask it: {row.left_out}")
    return {
        "id": item.id,
        "subject": item.subject,
        "answer": item.answer,
        "shots": row.shots,
        "logprobs": [likelihood.nats for likelihood in row.likelihoods],
        "choice": read.choice,
        "correct": read.scores["acc"] == 1,
        "choice_norm": read.choice_norm,
        "correct_norm": read.scores.get("acc_norm", read.scores["acc"]) == 1,
    }


def _item(row: Mapping[str, Any]) -> Item:
    said = row.get("statements")
    return Item(
        id=str(row.get("id", "")),
        set="",
        subject=row["subject"],
        split=row.get("split") or "test",
        question=row["question"],
        choices=tuple(row["choices"]),
        answer=int(row["answer"]),
        statements=() if said is None else tuple(said),
    )


def _rows(table: "Rows") -> list[dict[str, Any]]:
    if hasattr(table, "to_pylist"):
        return table.to_pylist()
    if hasattr(table, "to_dict"):
        return table.to_dict("records")
    return [dict(row) for row in table]
