"""What a model knows: bits per byte of each text, and each task under several protocols: `… evaluate <model>`."""

import sys
from collections import defaultdict
from pathlib import Path
from typing import Annotated, Any, Literal

import pyarrow as pa
from pydantic import Field

from stages.base import schemas
from stages.base.artifacts import MODELS, TASKS, TEXTS
from stages.base.contracts.evaluation import Accuracy, Evaluation, GroupResult, Sample, Samples, TaskResult
from stages.base.params import Section
from stages.base.record import StageRun, stage
from stages.evaluation.items import ITEM, answer_items, text_items
from stages.evaluation.measure import Measured, Task, built_task
from stages.evaluation.perplexity import read, text_loss, tokenizer_digest
from stages.evaluation.results import Part, group_result, samples
from stages.evaluation.run import TOO_LONG
from stages.evaluation.scoring.local import LocalEngine
from stages.evaluation.tasks.declaration import TaskFile
from stages.evaluation.text import sample_documents
from stages.lm.build import LanguageModel
from stages.lm.chat import ChatTokenizer, load_tokenizer
from stages.lm.checkpoint import load_model
from stages.lm.device import set_threads

Row = dict[str, Any]
ProtocolName = Literal["original", "helm", "harness", "cloze", "chat", "chat_generate", "generate", "task"]


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
    shots: dict[ProtocolName, Annotated[int, Field(ge=0)]]
    """Protocol: examples shown before a question. A task whose file names protocols is asked under those."""
    variants: list[ProtocolName]
    """Protocols of which the other wordings are asked too, for the spread that is the prompt's alone."""


PARAMS: dict[str, type[Section]] = {"evaluation.evaluate": EvaluateParams}


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


class Answered:
    """What comes of a model's tasks."""

    def __init__(self) -> None:
        self.results: dict[str, TaskResult] = {}
        self.items: list[Row] = []
        self.samples: list[Sample] = []
        self.warnings: list[str] = []
        self.parts: dict[tuple[str, str], dict[str, Part]] = defaultdict(dict)  # (group, protocol) → task → its items

    def add(self, task: Task, protocol: str, found: Measured) -> None:
        metric = found.accuracy.metric
        self.items += answer_items(found.rows, metric)
        self.samples += samples(found.rows)
        answers = [(row.item, row.answer) for row in found.rows if row.answer is not None]
        values = [answer.scores[metric] for _, answer in answers]
        if all(0 <= value <= 1 for value in values):
            chance = task.result({}, "").chance_acc or 0.0
            for group in task.file.group:
                self.parts[group, protocol][task.key] = Part(values, [item.cluster for item, _ in answers], chance)

    def groups(self) -> list[GroupResult]:
        return [group_result(*name, parts) for name, parts in sorted(self.parts.items()) if len(parts) > 1]


def do_tasks(run: StageRun[EvaluateParams], engine: LocalEngine) -> Answered:
    """Each task under each protocol that can ask it. Raises InputError for a task without questions in the split."""
    done = Answered()
    named: dict[str, int] = {protocol: n for protocol, n in run.params.shots.items()}
    for key in run.items(TASKS):
        rows = run.read_table(f"{TASKS}/{key}/questions.parquet", schemas.TASK).to_pylist()
        task = built_task(key, rows, run.params.split, run.params.questions, read_file(run, key))
        found: dict[str, Accuracy] = {}
        refused: dict[str, str] = {}
        for protocol in asked_under(task, list(named)):
            n = named.get(protocol, task.file.num_fewshot)
            measured = task.measured(engine, protocol, n, others=protocol in run.params.variants)
            if why := measured.why_unasked():
                refused[protocol] = why
            if why and why != TOO_LONG:
                continue
            found[protocol] = measured.accuracy
            done.add(task, protocol, measured)
        done.warnings += [f"{key}: not asked under {protocol}: {why}" for protocol, why in refused.items()]
        done.results[key] = task.result(found, run.params.split)
    return done


def asked_under(task: Task, protocols: list[str]) -> list[str]:
    """Those that the task's file names; else those of params, and its own template where it has one."""
    if task.is_rolling or task.file.protocols:
        return task.protocols()
    return sorted({*protocols, *(["task"] if task.has_template else [])})


def read_file(run: StageRun[EvaluateParams], key: str) -> TaskFile | None:
    """How the task is worded; None for a task of an older run, which has none."""
    path = f"{TASKS}/{key}/task.json"
    return run.read_contract(path, TaskFile) if Path(path).is_file() else None


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python -m stages.evaluation.evaluate <a folder of data/models>")
    key = sys.argv[1]
    with stage("evaluation.evaluate", EvaluateParams, item=key) as run:
        set_threads()
        folder = run.input(f"{MODELS}/{key}")
        model, tokens = load_model(folder), load_tokenizer(folder)
        texts, losses = read_texts(run, model, tokens, key)
        done = do_tasks(run, LocalEngine(model, tokens, key))
        found = Evaluation(
            texts=texts,
            tasks=done.results,
            groups=done.groups(),
            tokenizer=tokenizer_digest(tokens),
            warnings=done.warnings,
        )
        run.write_table("items.parquet", pa.Table.from_pylist(losses + done.items, schema=ITEM), ITEM)
        run.write_contract("evaluation.json", found)
        run.write_contract("samples.json", Samples(samples=done.samples))
        run.write_json("metrics.json", {name: value for name, value in found.flat().items() if value is not None})


if __name__ == "__main__":
    main()
