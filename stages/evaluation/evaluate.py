"""What a checkpoint knows: bits per byte of unseen text, and multiple choice under several protocols."""

import re
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import pandas as pd
import pyarrow as pa
from pydantic import Field

from stages.base import schemas
from stages.base.errors import InputError
from stages.base.params import Section
from stages.base.record import stage
from stages.base.stats import mean_interval
from stages.evaluation.items import ITEM, choice_items, text_items
from stages.evaluation.multiple_choice import score
from stages.evaluation.perplexity import TextLoss, grouped, sample_documents, text_losses, total
from stages.evaluation.protocols import Question, spoken
from stages.lm.chat import load_tokenizer
from stages.lm.checkpoint import load_model
from stages.lm.device import set_threads


class EvaluateParams(Section):
    bytes_per_source: Annotated[int, Field(ge=1)]  # of validation text, about
    bytes_per_document: Annotated[int, Field(ge=1)]  # longer documents are cut
    overlap: Annotated[int, Field(ge=0)]  # tokens of context that windows of one document share
    split: Literal["validation", "test"]
    questions: Annotated[int, Field(ge=1)]  # at most this many of each set, in order of id
    shots: dict[Literal["original", "cloze", "chat"], Annotated[int, Field(ge=0)]]  # protocol: examples shown


class Checkpoint(Section):
    path: str  # a model folder


PARAMS: dict[str, type[Section]] = {
    "evaluation.evaluate": EvaluateParams,
    "evaluation.checkpoints.*": Checkpoint,
}


def choose_questions(table: pa.Table, split: str, limit: int) -> list[dict[str, Any]]:
    """At most `limit` questions of each set from one split, in order of id (hashes: a random sample)."""
    taken: Counter[str] = Counter()
    rows = []
    for row in sorted(table.to_pylist(), key=lambda row: (row["set"], row["id"])):
        if row["split"] == split and taken[row["set"]] < limit:
            taken[row["set"]] += 1
            rows.append(row)
    if not rows:
        raise InputError(f"data/evaluation/sets/multiple_choice.parquet: no questions in split `{split}`")
    return rows


def text_metrics(losses: list[TextLoss], documents: pa.Table) -> dict[str, float]:
    """bpb, bpb_<source>, bpb_domain_<domain>, and what they were measured on."""
    every = total(losses)
    metrics = {"bpb": every.bits_per_byte, "perplexity": every.perplexity, "nats_per_token": every.nats / every.tokens}
    metrics |= {"documents": documents.num_rows, "tokens": every.tokens, "bytes": every.bytes}
    for prefix, column in (("bpb", "source"), ("bpb_domain", "domain")):
        for group, loss in grouped(losses, documents[column].to_pylist()).items():
            metrics[f"{prefix}_{slug(group)}"] = loss.bits_per_byte
    return metrics


def slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or "none"


def choice_metrics(protocol: str, answers: pd.DataFrame) -> dict[str, float]:
    """Accuracy with a 95 % interval, and the accuracy by log-likelihood per character."""
    accuracy, low, high = mean_interval(answers["correct"].to_numpy(float))
    return {
        f"mc_{protocol}_acc": accuracy,
        f"mc_{protocol}_acc_low": max(low, 0.0),
        f"mc_{protocol}_acc_high": min(high, 1.0),
        f"mc_{protocol}_acc_norm": float(answers["correct_norm"].mean()),
        f"mc_{protocol}_shots": float(answers["shots"].mean()),
    }


def control_metrics(rows: Sequence[Question]) -> dict[str, float]:
    """What guessing, and always giving the same letter, would score."""
    letters = Counter(row["answer"] for row in rows)
    return {
        "mc_questions": len(rows),
        "mc_chance_acc": sum(1 / len(row["choices"]) for row in rows) / len(rows),
        "mc_constant_acc": max(letters.values()) / len(rows),
    }


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python -m stages.evaluation.evaluate <a key of evaluation.checkpoints>")
    key = sys.argv[1]
    with stage("evaluation.evaluate", EvaluateParams, item=key) as run:
        set_threads()
        model = load_model(run.input(run.section(f"evaluation.checkpoints.{key}", Checkpoint).path))
        tokenizer = load_tokenizer(run.input("data/tokens/tokenizer"))
        validation = run.read_table("data/corpus/mix/validation.parquet", schemas.MIXED)
        table = run.read_table("data/evaluation/sets/multiple_choice.parquet", schemas.CHOICE)

        documents = sample_documents(validation, run.params.bytes_per_source, run.params.bytes_per_document)
        losses = text_losses(model, tokenizer, documents["text"].to_pylist(), run.params.overlap)
        metrics = text_metrics(losses, documents)
        items = text_items(documents.to_pylist(), [(loss.nats, loss.tokens, loss.bytes) for loss in losses])

        atlas = run.read_table("data/corpus/atlas/questions.parquet", schemas.QUESTION)
        references = dict(zip(atlas["id"].to_pylist(), atlas["reference"].to_pylist(), strict=True))
        chosen = choose_questions(table, run.params.split, run.params.questions)
        questions = [spoken(row, references) for row in chosen]
        examples = table.filter(pa.compute.equal(table["split"], "development"))
        metrics |= control_metrics(questions)
        for protocol, shots in sorted(run.params.shots.items()):
            answers = score(model, questions, protocol, shots, examples=examples, tokenizer=tokenizer)
            metrics |= choice_metrics(protocol, answers)
            items += choice_items(protocol, answers.to_dict("records"))
        run.write_table("items.parquet", pa.Table.from_pylist(items, schema=ITEM), ITEM)
        run.write_json("metrics.json", metrics)
        left = validation.num_rows - documents.num_rows
        run.rows(validation.num_rows, documents.num_rows, {"not in the sample": left} if left else {}, max_drop=1.0)


if __name__ == "__main__":
    main()
