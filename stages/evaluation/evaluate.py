"""What a model knows: bits per byte of each text, and each task under several protocols: `… evaluate <model>`."""

import sys
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import pyarrow as pa
from pydantic import Field

from stages.base import schemas
from stages.base.artifacts import MODELS, TASKS, TEXTS
from stages.base.contracts.evaluation import Accuracy, Evaluation, TaskResult
from stages.base.errors import InputError
from stages.base.params import Section
from stages.base.record import StageRun, stage
from stages.base.stats import share_interval
from stages.evaluation.items import ITEM, choice_items, text_items
from stages.evaluation.multiple_choice import answer
from stages.evaluation.perplexity import read, text_loss, tokenizer_digest
from stages.evaluation.text import sample_documents
from stages.lm.build import LanguageModel
from stages.lm.chat import ChatTokenizer, load_tokenizer
from stages.lm.checkpoint import load_model
from stages.lm.device import set_threads

Row = dict[str, Any]


class EvaluateParams(Section):
    bytes_per_source: Annotated[int, Field(ge=1)]
    """Of each source of a text, about."""
    bytes_per_document: Annotated[int, Field(ge=1)]
    """Longer documents are cut."""
    overlap: Annotated[int, Field(ge=0)]
    """Tokens of context that two windows of one document share."""
    split: Literal["validation", "test"]
    """Whose questions are asked."""
    questions: Annotated[int, Field(ge=1)]
    """At most this many of each task, in order of id."""
    shots: dict[Literal["original", "cloze", "chat"], Annotated[int, Field(ge=0)]]
    """Protocol: examples shown before a question."""


PARAMS: dict[str, type[Section]] = {"evaluation.evaluate": EvaluateParams}


def choose_questions(table: pa.Table, split: str, limit: int) -> list[Row]:
    """At most `limit` questions of one split, in order of id (hashes: a random sample)."""
    return sorted((row for row in table.to_pylist() if row["split"] == split), key=lambda row: row["id"])[:limit]


def accuracy(answers: Sequence[Row], too_long: int) -> Accuracy:
    """Shares of right answers with a 95 % interval; null where none was given."""
    count = len(answers)
    share, low, high = share_interval(sum(bool(row["correct"]) for row in answers), count)
    return Accuracy(
        acc=share,
        acc_low=low,
        acc_high=high,
        acc_norm=sum(row["correct_norm"] for row in answers) / count if count else None,
        shots=sum(row["shots"] for row in answers) / count if count else None,
        answered=count,
        too_long=too_long,
    )


def task_result(rows: Sequence[Row], protocols: dict[str, Accuracy]) -> TaskResult:
    """With what guessing, and always giving the same letter, would score."""
    letters = Counter(row["answer"] for row in rows)
    return TaskResult(
        questions=len(rows),
        chance_acc=sum(1 / len(row["choices"]) for row in rows) / len(rows),
        constant_acc=max(letters.values()) / len(rows),
        protocols=protocols,
    )


def read_texts(
    run: StageRun[EvaluateParams], model: LanguageModel, tokens: ChatTokenizer, name: str
) -> tuple[dict, list[Row]]:
    """(Loss on each text, ITEM rows)."""
    results, items = {}, []
    for key in run.items(TEXTS):
        whole = run.read_table(f"{TEXTS}/{key}/documents.parquet", schemas.MIXED)
        documents = sample_documents(whole, run.params.bytes_per_source, run.params.bytes_per_document)
        reading = read(model, tokens, documents["text"].to_pylist(), run.params.overlap, name)
        results[key] = text_loss(reading, documents, key)
        losses = [(loss.nats, loss.tokens, loss.bytes) for loss in reading.losses]
        items += text_items(key, documents.to_pylist(), losses)
    return results, items


def do_tasks(run: StageRun[EvaluateParams], model: LanguageModel, tokens: ChatTokenizer) -> tuple[dict, list[Row]]:
    """(Result of each task, ITEM rows). Raises InputError for a task without questions in the split."""
    results, items = {}, []
    for key in run.items(TASKS):
        path = f"{TASKS}/{key}/questions.parquet"
        table = run.read_table(path, schemas.TASK)
        questions = choose_questions(table, run.params.split, run.params.questions)
        if not questions:
            raise InputError(f"{path}: no questions in split `{run.params.split}`; see `evaluation.evaluate.split`")
        examples = [row for row in table.to_pylist() if row["split"] == "development"]
        protocols: dict[str, Accuracy] = {}
        for protocol, shots in sorted(run.params.shots.items()):
            answers, too_long = answer(model, tokens, questions, examples, protocol, shots, skip_too_long=True)
            protocols[protocol] = accuracy(answers, len(too_long))
            items += choice_items(key, protocol, answers)
        results[key] = task_result(questions, protocols)
    return results, items


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python -m stages.evaluation.evaluate <a folder of data/models>")
    key = sys.argv[1]
    with stage("evaluation.evaluate", EvaluateParams, item=key) as run:
        set_threads()
        folder = run.input(f"{MODELS}/{key}")
        model, tokens = load_model(folder), load_tokenizer(folder)
        texts, losses = read_texts(run, model, tokens, key)
        tasks, answered = do_tasks(run, model, tokens)
        found = Evaluation(texts=texts, tasks=tasks, tokenizer=tokenizer_digest(tokens))
        run.write_table("items.parquet", pa.Table.from_pylist(losses + answered, schema=ITEM), ITEM)
        run.write_contract("evaluation.json", found)
        run.write_json("metrics.json", {name: value for name, value in found.flat().items() if value is not None})


if __name__ == "__main__":
    main()
