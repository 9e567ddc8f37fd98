"""A base model's answers, few-shot: it continues answered questions instead of reading a chat template that it has
never seen (Brown et al. 2020, section 2), and so has a fair row beside the models tuned from it."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stages.base.errors import InputError
from stages.base.seeds import derive

Row = dict[str, Any]
Example = tuple[str, str]  # question and answer
LABEL = re.compile(r"\s*\b(?:Question|Answer):")


def examples_of(instructions: Sequence[Row], shots: int, seed: int) -> list[Example]:
    """`shots` sft rows in a seeded order, the same for every prompt. Raises InputError where there are fewer."""
    shown = [(row["prompt"], row["response"]) for row in instructions if row["split"] == "sft"]
    if len(shown) < shots:
        raise InputError(f"few_shot: {shots} shots, but {len(shown)} instructions of the sft split; lower `shots`")
    return [shown[i] for i in np.random.default_rng(seed).permutation(len(shown))[:shots]]


def asked_with(examples: Sequence[Example]) -> str:
    """What stands before each question."""
    return "".join(f"Question: {prompt}\nAnswer: {response}\n\n" for prompt, response in examples)


def read_continuation(text: str, end: str) -> str:
    """The answer: up to the text that ends the examples' answers, or the next label."""
    return LABEL.split(text.lstrip().split(end, maxsplit=1)[0], maxsplit=1)[0].strip()


def shared_start(prompts: Sequence[list[int]]) -> int:
    """How many tokens all prompts begin with, fewer than any has."""
    if not prompts:
        return 0
    first, last = min(prompts), max(prompts)  # in order, these two differ first
    most = min(map(len, prompts)) - 1
    return next((place for place in range(most) if first[place] != last[place]), most)


def answers_few_shot(
    folder: Path,
    prompts: Sequence[str],
    examples: Sequence[Example],
    *,
    temperature: float,
    seed: int,
    max_new_tokens: int,
    batch_size: int,
) -> tuple[list[str], Row]:
    """(Answers, metrics) of the model in a folder; what is drawn for a prompt depends on seed and prompt alone.

    Of a prompt whose examples don't all fit the context beside its answer the first are left out (`fewer_shots`); one
    that fills the context by itself has an empty answer (`no_room`).
    """
    from stages.lm.chat import load_tokenizer
    from stages.lm.checkpoint import load_model
    from stages.lm.device import set_threads
    from stages.lm.generate import generate

    set_threads()
    model, tokenizer = load_model(folder), load_tokenizer(folder)
    limit = model.config.max_seq_len
    work: dict[int, list[int]] = {}
    shots: list[int] = []
    for place, prompt in enumerate(prompts):
        for skip in range(len(examples) + 1):
            text = f"{asked_with(examples[skip:])}Question: {prompt}\nAnswer:"
            ids = [tokenizer.prefix_id, *tokenizer.encode(text)]
            if len(ids) + max_new_tokens <= limit:
                break
        if len(ids) < limit:
            work[place] = ids
            shots.append(len(examples) - skip)
    end = "\n\n" if any("\n" in response for _, response in examples) else "\n"

    def finished(new: list[int]) -> bool:
        text = tokenizer.decode(new).lstrip()
        return end in text or bool(LABEL.search(text))

    decoded = generate(
        model,
        list(work.values()),
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=1.0,
        seed=seed,
        seeds=[derive(seed, prompts[place]) for place in work],
        stop_ids=tokenizer.stop_ids,
        batch_size=batch_size,
        label="answering",
        finished=finished,
        shared=shared_start(list(work.values())),
    )
    answers = [""] * len(prompts)
    for place, new in zip(work, decoded, strict=True):
        answers[place] = read_continuation(tokenizer.decode(new), end)
    return answers, {
        "shots": sum(shots) / max(len(shots), 1),
        "fewer_shots": sum(count < len(examples) for count in shots),
        "no_room": len(prompts) - len(work),
    }
