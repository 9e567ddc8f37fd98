"""Multiple choice as one call: questions under a protocol, asked of a model folder, as a table."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from stages.base.errors import InputError, ParamError
from stages.evaluation.protocols.choices import problem_of
from stages.evaluation.protocols.protocol import EvaluationProtocol, Setting, TooLong, fit
from stages.evaluation.protocols.registry import find_protocol
from stages.evaluation.scoring.local import LocalEngine
from stages.evaluation.scoring.requests import Choices, Generate, Generated, Likelihood, Truncation
from stages.evaluation.tasks.item import Item
from stages.lm.build import LanguageModel
from stages.lm.chat import ChatTokenizer, load_tokenizer
from stages.lm.checkpoint import load_model

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    Rows: TypeAlias = pa.Table | pd.DataFrame | Sequence[Mapping[str, Any]]
Row = dict[str, Any]
SETTING = Setting()


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
    return pd.DataFrame(answer(loaded, tokens, rows, shown, protocol, shots)[0])


def answer(
    model: LanguageModel,
    tokens: ChatTokenizer,
    rows: list[Row],
    examples: Sequence[Mapping[str, Any]],
    protocol: str,
    shots: int,
    *,
    skip_too_long: bool = False,
) -> tuple[list[Row], list[str]]:
    """(Rows with the columns of `score`, ids of questions too long for the model: left out if `skip_too_long`)."""
    asked, engine = find_protocol(protocol), LocalEngine(model, tokens, "multiple choice")
    if not rows:
        raise InputError("multiple choice: no questions to score; all are development examples, or the set is empty")
    for row in rows:
        if problem := problem_of(row):
            raise InputError(f"question {row['id']}: {problem}")
    by_subject: dict[str, list[Item]] = defaultdict(list)
    for example in examples:
        if len(by_subject[example["subject"]]) < shots:
            by_subject[example["subject"]].append(_item(example))
    fitting: list[tuple[Item, Choices | Generate, int]] = []
    too_long = []
    for item in map(_item, rows):
        if problem := asked.why_not(item):
            raise InputError(f"question {item.id}: the protocol {protocol} can't ask it: {problem}")
        try:
            fitting.append((item, *fit(asked, item, by_subject[item.subject], SETTING, engine)))
        except TooLong:
            if not skip_too_long:
                raise
            too_long.append(item.id)
    found = _asked(engine, [request for _, request, _ in fitting], "left" if asked.overflow == "left" else "refuse")
    answered = (_answered(item, shown, asked, own) for (item, _, shown), own in zip(fitting, found, strict=True))
    return list(answered), too_long


def _asked(
    engine: LocalEngine, requests: Sequence[Choices | Generate], truncation: Truncation
) -> Sequence[list[Likelihood] | Generated]:
    choices = [request for request in requests if isinstance(request, Choices)]
    written = [request for request in requests if isinstance(request, Generate)]
    return engine.likelihoods(choices, truncation) if choices else engine.generate(written, truncation)


def _answered(
    item: Item, shots: int, protocol: EvaluationProtocol, found: list[Likelihood] | Generated
) -> dict[str, Any]:
    read = protocol.read(item, SETTING, found)
    return {
        "id": item.id,
        "subject": item.subject,
        "answer": item.answer,
        "shots": shots,
        "logprobs": [] if isinstance(found, Generated) else [likelihood.nats for likelihood in found],
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


def _rows(table: "Rows") -> list[Row]:
    if hasattr(table, "to_pylist"):
        return table.to_pylist()
    if hasattr(table, "to_dict"):
        return table.to_dict("records")
    return [dict(row) for row in table]
