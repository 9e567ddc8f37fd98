"""One model's answers to the validation and test instructions: `python -m stages.judging.respond <model>`.

A checkpoint or an exported Hugging Face folder decodes greedily, all alike; an `endpoint` is a model on any
OpenAI-compatible server; `outputs` brings answers from a table or from AlpacaEval's JSON; `padded` lengthens another
model's; the other controls need no model.
"""

import sys
from collections import defaultdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from pydantic import Field

from stages.annotators.calls import ask
from stages.annotators.reply import UnparsableReply, cut_short, reply_text, without_thoughts
from stages.annotators.server import ServerSettings, price
from stages.annotators.truth import load_truth, question_lookup
from stages.base import schemas
from stages.base.errors import InputError
from stages.base.params import Section
from stages.base.record import stage
from stages.judging.alpaca_eval.files import read_outputs
from stages.judging.controls import constant_answer, nearest_neighbours, padded, shuffled_answers
from stages.judging.models import ModelSpec
from stages.lm.build import LanguageModel
from stages.lm.chat import ChatTokenizer, load_tokenizer
from stages.lm.checkpoint import load_model
from stages.lm.device import environment, set_threads
from stages.lm.generate import generate

SPLITS = ("validation", "test")
INSTRUCTIONS = "data/alignment/instructions/instructions.parquet"
TOKENIZER = "data/tokens/tokenizer"


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
    model = load_model(weights if weights.is_dir() else weights.parent)
    return greedy_answers(model, load_tokenizer(TOKENIZER), prompts, params)


def greedy_answers(
    model: LanguageModel, tokenizer: ChatTokenizer, prompts: list[str], params: RespondParams
) -> list[str]:
    set_threads()
    answers = generate(
        model,
        [tokenizer.encode_prompt(prompt) for prompt in prompts],
        max_new_tokens=params.max_new_tokens,
        temperature=0.0,
        top_p=1.0,
        seed=0,  # greedy decoding draws nothing
        stop_ids=tokenizer.stop_ids,
        batch_size=params.batch_size,
        label="answering",
    )
    return [tokenizer.decode(answer).strip() for answer in answers]


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


def answers_of_endpoint(template: Path, prompts: list[str], server: ServerSettings) -> tuple[list[str], Row]:
    """(Answers of a server's model, metrics). The template says how it is asked: standard, concise, verbose.

    Thoughts are left out. Raises InputError if any prompt has no answer: an empty one would be judged as if the model
    had nothing to say.
    """
    text = template.read_text(encoding="utf-8")
    try:
        contents = [text % {"instruction": prompt} for prompt in prompts]
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(f"{template}: the template may use only %(instruction)s ({error!r})") from None
    if len(set(contents)) < len(set(prompts)):
        raise InputError(f"{template}: the template has no %(instruction)s")
    given = ask([server.body(content) for content in contents], server, "answering")
    answers, failures, cut = [], [], 0
    for number, answer in enumerate(given):
        try:
            reply = answer.reply or {}
            answers.append(without_thoughts(reply_text(reply)) if reply else "")
            cut += cut_short(reply)
        except UnparsableReply as error:
            failures.append((number, str(error)))
        if not answer.reply:
            failures.append((number, answer.error))
    if failures:
        told = "; ".join(f"prompt {number}: {why}" for number, why in failures[:3])
        raise InputError(
            f"{server.base_url}: {len(failures)} of {len(prompts)} prompts have no answer ({told}); rerun: the others "
            "are cached"
        )
    usd = sum(price(answer.reply or {}, server) for answer in given)
    return answers, {"usd": usd, "cut_short": cut}


def answers_of_json(path: Path, asked: list[Row]) -> list[str]:
    """Answers out of AlpacaEval's model outputs, by the instruction's text. Raises InputError if one is missing or
    there are two.
    """
    rows, problems = read_outputs(path)
    found: dict[str, str] = {}
    for number, row in enumerate(rows):
        if found.setdefault(row["prompt"], row["output"]) != row["output"]:
            problems.append(f"{path}: entry {number}: another output for the same instruction")
    problems += [f"{path}: no output for instruction {row['id']}" for row in asked if row["prompt"] not in found]
    if problems:
        raise InputError(f"{len(problems)} rows can't be used: {'; '.join(problems[:3])}")
    return [found[row["prompt"]] for row in asked]


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
        prompts, measured = [row["prompt"] for row in asked], Row()
        source = run.input(spec.source)
        tokenizer = load_tokenizer(run.input(TOKENIZER))
        if spec.kind == "checkpoint":
            answers = answers_of_checkpoint(source, prompts, run.params)
            run.note("environment", environment())
        elif spec.kind == "huggingface":
            answers = greedy_answers(load_model(source), load_tokenizer(source), prompts, run.params)
            run.note("environment", environment())
        elif spec.endpoint is not None:
            answers, measured = answers_of_endpoint(source, prompts, spec.endpoint)
        elif spec.kind == "outputs" and source.suffix == ".json":
            answers = answers_of_json(source, asked)
        elif spec.kind in ("outputs", "padded"):
            answers = answers_of_table(run.read_table(spec.source, schemas.OUTPUT).to_pylist(), asked, spec.source)
            answers = padded(answers, run.seed) if spec.kind == "padded" else answers
        else:
            answers = answers_of_control(spec.kind, source, instructions, asked, run.seed)
        lengths = [len(tokenizer.encode(answer)) for answer in answers]
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
                **measured,
            },
        )
        run.rows(len(asked), len(rows), dropped={}, max_drop=0.0)


if __name__ == "__main__":
    main()
