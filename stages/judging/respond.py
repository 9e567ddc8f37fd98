"""One model's answers to the validation and test instructions: `python -m stages.judging.respond <model>`.

A checkpoint decodes greedily, all alike; `outputs` brings answers from a table, `padded` lengthens another model's; the
other controls need no model.
"""

import sys
from collections import defaultdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from pydantic import Field

from stages.annotators.truth import load_truth, question_lookup
from stages.base import schemas
from stages.base.errors import InputError
from stages.base.params import Section
from stages.base.record import stage
from stages.judging.controls import constant_answer, nearest_neighbours, padded, shuffled_answers
from stages.judging.models import ModelSpec
from stages.lm.chat import decode, encode_prompt, load_tokenizer, stop_ids
from stages.lm.checkpoint import load_model
from stages.lm.device import environment, set_threads
from stages.lm.generate import generate

SPLITS = ("validation", "test")
INSTRUCTIONS = "data/alignment/instructions/instructions.parquet"
TOKENIZER = "data/tokens/tokenizer/tokenizer.json"


class RespondParams(Section):
    max_new_tokens: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=1)]
    limit: Annotated[int, Field(ge=2)] | None  # instructions per split, the first ones; null for all


PARAMS = {"judging.respond": RespondParams, "judging.models.*": ModelSpec}

Row = dict[str, Any]


def asked_of(instructions: list[Row], limit: int | None) -> list[Row]:
    """The instructions that every model answers: the first `limit` of each judged split, in file order."""
    return [row for split in SPLITS for row in [r for r in instructions if r["split"] == split][:limit]]


def answers_of_checkpoint(weights: Path, prompts: list[str], params: RespondParams) -> list[str]:
    """Greedy answers of the model whose weights file (or folder) is given.

    Raises InputError for a prompt that fills the context.
    """
    set_threads()
    tokenizer = load_tokenizer(Path(TOKENIZER).parent)
    answers = generate(
        load_model(weights if weights.is_dir() else weights.parent),
        [encode_prompt(tokenizer, prompt) for prompt in prompts],
        max_new_tokens=params.max_new_tokens,
        temperature=0.0,
        top_p=1.0,
        seed=0,  # greedy decoding draws nothing
        stop_ids=stop_ids(tokenizer),
        batch_size=params.batch_size,
        label="answering",
    )
    return [decode(tokenizer, answer).strip() for answer in answers]


def answers_of_table(outputs: list[Row], asked: list[Row], path: str) -> list[str]:
    """Answers by instruction id. Raises InputError if one is missing, doubled, or was given to another prompt."""
    found: dict[str, Row] = {}
    for row in outputs:
        if row["id"] in found:
            raise InputError(f"{path}: two outputs for instruction {row['id']}")
        found[row["id"]] = row
    for row in asked:
        if row["id"] not in found:
            raise InputError(f"{path}: no output for instruction {row['id']} ({row['split']})")
        if found[row["id"]]["prompt"] != row["prompt"]:
            raise InputError(f"{path}: instruction {row['id']} has another prompt; answer the current instructions")
    return [found[row["id"]]["output"] for row in asked]


def answers_of_control(kind: str, truth: Path, instructions: list[Row], asked: list[Row], seed: int) -> list[str]:
    """Only `constant` reads the truth, and only about the sft split."""
    shown = [row for row in instructions if row["split"] == "sft"]
    if not shown:
        raise InputError(f"{INSTRUCTIONS}: no sft rows, which the controls answer from")
    if kind == "shuffled":
        references: dict[str, list[str]] = defaultdict(list)
        for row in asked:
            references[row["split"]].append(row["response"])
        dealt = {split: iter(answers) for split, answers in shuffled_answers(references, seed).items()}
        return [next(dealt[row["split"]]) for row in asked]
    if kind == "nearest_neighbour":
        nearest = nearest_neighbours([row["prompt"] for row in shown], [row["prompt"] for row in asked])
        return [shown[i]["response"] for i in nearest]
    questions = list(question_lookup(shown).values())
    answer = constant_answer(load_truth(truth), questions, [row["response"] for row in shown])
    return [answer] * len(asked)


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python -m stages.judging.respond <model>")
    item = sys.argv[1]
    with stage("judging.respond", RespondParams, item=item, seed="run.seed") as run:
        spec = run.section(f"judging.models.{item}", ModelSpec)
        instructions = run.read_table(INSTRUCTIONS, schemas.INSTRUCTION).to_pylist()
        asked = asked_of(instructions, run.params.limit)
        if not asked:
            raise InputError(f"{INSTRUCTIONS}: no validation or test rows to answer")
        prompts = [row["prompt"] for row in asked]
        source = run.input(spec.source)
        tokenizer = load_tokenizer(run.input(TOKENIZER).parent)
        if spec.kind == "checkpoint":
            answers = answers_of_checkpoint(source, prompts, run.params)
            run.note("environment", environment())
        elif spec.kind in ("outputs", "padded"):
            answers = answers_of_table(run.read_table(spec.source, schemas.OUTPUT).to_pylist(), asked, spec.source)
            answers = padded(answers, run.seed) if spec.kind == "padded" else answers
        else:
            answers = answers_of_control(spec.kind, source, instructions, asked, run.seed)
        lengths = [len(encoding.ids) for encoding in tokenizer.encode_batch(answers, add_special_tokens=False)]
        rows = [
            {"id": row["id"], "split": row["split"], "prompt": row["prompt"], "output": answer, "tokens": length}
            for row, answer, length in zip(asked, answers, lengths, strict=True)
        ]
        run.write_table("outputs.parquet", pa.Table.from_pylist(rows, schemas.OUTPUT), schemas.OUTPUT)
        characters = [len(answer) for answer in answers]
        run.write_json(
            "metrics.json",
            {
                "answers": len(rows),
                "empty_share": float(np.mean([not answer for answer in answers])),
                "distinct_share": len(set(answers)) / len(rows),
                "mean_characters": float(np.mean(characters)),
                "mean_tokens": float(np.mean(lengths)),
            },
        )
        run.rows(len(asked), len(rows), dropped={}, max_drop=0.0)


if __name__ == "__main__":
    main()
