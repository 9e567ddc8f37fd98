"""Self-Instruct: the base model writes instructions and answers of its own after examples (Wang et al. 2022)."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from pydantic import Field

from stages.alignment.answers import Sampling
from stages.alignment.inputs import read_model
from stages.alignment.novelty import Novelty
from stages.alignment.records import Instruction, of_split, read_instructions, table_of
from stages.annotators.calls import ask
from stages.annotators.reply import read_answer
from stages.annotators.server import ServerSettings
from stages.base import schemas
from stages.base.errors import InputError
from stages.base.record import stage
from stages.base.seeds import derive
from stages.lm.build import LanguageModel
from stages.lm.chat import ChatTokenizer
from stages.lm.generate import generate


class Teacher(ServerSettings):
    prompt: str
    """Template file with `examples` in braces."""


class SelfInstructParams(Sampling):
    candidates: Annotated[int, Field(ge=1)]
    """Instructions that are written, over all rounds."""
    rounds: Annotated[int, Field(ge=1)]
    """After each, what was kept may serve as an example."""
    seed_shots: Annotated[int, Field(ge=1)]
    """Examples of a prompt from the sft instructions."""
    machine_shots: Annotated[int, Field(ge=0)]
    """And from what was kept; the paper has 6 and 2."""
    overlap: Annotated[float, Field(gt=0, le=1)]
    """Highest ROUGE-L to anything kept."""
    min_words: Annotated[int, Field(ge=1)]
    """Of an instruction."""
    max_words: Annotated[int, Field(ge=1)]
    """Of an instruction."""
    teacher: Teacher | None
    """Who writes: a model on a server, as Alpaca's was (Taori et al. 2023); null: the base model."""


PARAMS = {"alignment.self_instruct": SelfInstructParams, "alignment.base": str}

LABEL = re.compile(r"\b(Question|Answer):")
Example = tuple[str, str]  # prompt, response
Write = Callable[[list[list[Example]], int], list[str]]  # the examples of each prompt, the round → continuations
DROPS = pa.schema(
    [("prompt", pa.string()), ("response", pa.string()), ("reason", pa.string()), ("rouge_l", pa.float32())]
)


def few_shot(examples: Sequence[Example]) -> str:
    """The text that the base model continues with a question of its own."""
    return "".join(f"Question: {prompt}\nAnswer: {response}\n\n" for prompt, response in examples) + "Question:"


def parse(continuation: str) -> Example:
    """(prompt, response) of what was written after "Question:"; empty strings for what isn't there.

    The labels alone separate the parts: a small model rarely keeps the line breaks.
    """
    question, label, rest = (*LABEL.split(continuation, maxsplit=1), "", "")[:3]
    response = LABEL.split(rest, maxsplit=1)[0] if label == "Answer" else ""
    return " ".join(question.split()), " ".join(response.split())


def sample_examples(
    seeds: Sequence[Example], machine: Sequence[Example], params: SelfInstructParams, seed: int
) -> list[Example]:
    """The examples of one prompt, from both kinds, in a seeded order."""
    rng = np.random.default_rng(seed)
    own = [machine[i] for i in rng.permutation(len(machine))[: params.machine_shots]]
    given = [seeds[i] for i in rng.permutation(len(seeds))[: params.seed_shots]]
    both = given + own
    return [both[i] for i in rng.permutation(len(both))]


def propose(
    seeds: Sequence[Example], write: Write, params: SelfInstructParams, seed: int
) -> tuple[list[Example], list[dict[str, Any]]]:
    """What passed the filters, in order of writing, and one DROPS row for each other candidate. Nothing may be left."""
    rules = Novelty((prompt for prompt, _ in seeds), params.overlap, params.min_words, params.max_words)
    kept: list[Example] = []
    drops: list[dict[str, Any]] = []
    sizes = [len(part) for part in np.array_split(np.arange(params.candidates), params.rounds)]
    for turn, size in enumerate(sizes):
        examples = [
            sample_examples(seeds, kept, params, derive(seed, "examples", turn, number)) for number in range(size)
        ]
        for prompt, response in map(parse, write(examples, turn)):
            closest = rules.closest(prompt)
            reason = "no_answer" if prompt and not response else rules.refusal(prompt)
            if reason:
                drops.append({"prompt": prompt, "response": response, "reason": reason, "rouge_l": closest})
            else:
                kept.append((prompt, response))
    return kept, drops


def writer(model: LanguageModel, tokenizer: ChatTokenizer, params: SelfInstructParams, seed: int) -> Write:
    """Few-shot sampling from a base model. Examples are left out from the front where they don't fit its context."""
    room = model.config.max_seq_len - params.max_new_tokens

    def encode(examples: list[Example]) -> list[int]:
        for skip in range(len(examples) + 1):
            ids = [tokenizer.prefix_id, *tokenizer.encode(few_shot(examples[skip:]))]
            if len(ids) <= room:
                return ids
        return [tokenizer.prefix_id]

    def write(groups: list[list[Example]], turn: int) -> list[str]:
        written = generate(
            model,
            [encode(examples) for examples in groups],
            max_new_tokens=params.max_new_tokens,
            temperature=params.temperature,
            top_p=params.top_p,
            seed=seed,
            seeds=[derive(seed, "write", turn, number) for number in range(len(groups))],
            stop_ids=tokenizer.stop_ids,
            label=f"writing instructions, round {turn + 1}",
        )
        return [tokenizer.decode(ids) for ids in written]

    return write


def taught(teacher: Teacher, template: str) -> Write:
    """Few-shot asking of a model on a server; its price is said, and bounded, before the first call of each round. A
    call that fails, or is answered otherwise, is an empty candidate.
    """
    if template.count("{examples}") != 1:
        raise InputError(f"{teacher.prompt}: no template of one `{{examples}}`; see `alignment.self_instruct.teacher`")

    def write(groups: list[list[Example]], turn: int) -> list[str]:
        bodies = [teacher.body(template.replace("{examples}", few_shot(examples))) for examples in groups]
        answers = ask(bodies, teacher, f"writing instructions, round {turn + 1}")
        texts = [read_answer(given.reply) if given.reply is not None else "" for given in answers]
        return [text.strip().removeprefix("Question:") for text in texts]

    return write


def to_rows(examples: Sequence[Example]) -> list[Instruction]:
    """Sft instructions of origin self_instruct; no truth is known of them."""
    origin = "self_instruct"
    return [
        Instruction(f"{origin}-{number}", "sft", origin, "", [], prompt, response)
        for number, (prompt, response) in enumerate(examples)
    ]


def main() -> None:
    with stage("alignment.self_instruct", SelfInstructParams, seed="run.seed") as run:
        params = run.params
        seeds = [(row.prompt, row.response) for row in of_split(read_instructions(run), "sft")]
        model, tokenizer = read_model(run, run.section("alignment.base", str))
        if params.teacher is None:
            write = writer(model, tokenizer, params, run.seed)
        else:
            write = taught(params.teacher, run.input(params.teacher.prompt).read_text(encoding="utf-8"))
        kept, drops = propose(seeds, write, params, run.seed)
        run.write_table("generated.parquet", table_of(to_rows(kept), schemas.INSTRUCTION), schemas.INSTRUCTION)
        run.write_table("drops.parquet", pa.Table.from_pylist(drops, schema=DROPS), DROPS)
        reasons = Counter(row["reason"] for row in drops)
        run.write_json(
            "metrics.json",
            {
                "candidates": params.candidates,
                "kept": len(kept),
                **{f"dropped_{reason}": count for reason, count in sorted(reasons.items())},
            },
        )
        run.note("written_by", params.teacher.model if params.teacher else "base model")
        if kept:  # a small base model may write nothing that passes: a finding, not a failure
            run.rows(params.candidates, len(kept), reasons, max_drop=1.0)


if __name__ == "__main__":
    main()
