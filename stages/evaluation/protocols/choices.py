"""Multiple choice as text: the same question means different tests under different protocols.

`original`  Hendrycks et al. 2021 (MMLU, `evaluate.py`): choices shown with letters, the letter is the answer.
`cloze`     `mmlu_continuation` of the LM Evaluation Harness: choices not shown, each is scored as the answer's text.
`chat`      the choice, in a sentence where the question has `statements`, as an assistant's answer; no examples.
Small models know answers long before they know what "Answer: C" means: `cloze` tells them apart, `original` hardly.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.base.errors import ParamError

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
Question = Mapping[str, Any]  # subject, question, choices, answer (index) and perhaps statements, as in schemas.TASK


@dataclass(frozen=True)
class Rendered:
    """What is read, and the continuations among which the likeliest is the model's choice."""

    context: str
    continuations: tuple[str, ...]
    chat: bool = False


def subject_name(subject: str) -> str:
    return subject.replace("_", " ")


def original(question: Question, examples: Sequence[Question]) -> Rendered:
    # The two spaces before the subject are in the authors' code, and so in what published numbers were measured with.
    head = f"The following are multiple choice questions (with answers) about  {subject_name(question['subject'])}.\n\n"
    shots = "".join(f"{_lettered(example)} {LETTERS[example['answer']]}\n\n" for example in examples)
    letters = LETTERS[: len(question["choices"])]
    return Rendered(head + shots + _lettered(question), tuple(f" {letter}" for letter in letters))


def _lettered(question: Question) -> str:
    lines = [f"{letter}. {choice}" for letter, choice in zip(LETTERS, question["choices"], strict=False)]
    return "\n".join([question["question"], *lines, "Answer:"])


def cloze(question: Question, examples: Sequence[Question]) -> Rendered:
    head = f"The following are questions (with answers) about {subject_name(question['subject'])}.\n\n"
    shots = "".join(f"{_open(example)} {example['choices'][example['answer']]}\n\n" for example in examples)
    return Rendered(head + shots + _open(question), tuple(f" {choice}" for choice in question["choices"]))


def _open(question: Question) -> str:
    return f"Question: {question['question'].strip()}\nAnswer:"


def chat(question: Question, examples: Sequence[Question]) -> Rendered:
    if examples:
        raise ParamError("the chat protocol takes no examples: the models are tuned on single turns; use shots = 0")
    said = question.get("statements")
    return Rendered(question["question"], tuple(question["choices"] if said is None or not len(said) else said), True)


PROTOCOLS: dict[str, Callable[[Question, Sequence[Question]], Rendered]] = {
    "original": original,
    "cloze": cloze,
    "chat": chat,
}


def statements(choices: Sequence[str], answer: int, reference: str) -> list[str]:
    """Each choice in the sentence that a tuned model would answer with: the right one's only mention in a correct
    sentence, replaced. None where the sentence doesn't mention it exactly once."""
    mention = re.compile(rf"\b{re.escape(choices[answer])}\b")
    if len(mention.findall(reference)) != 1:
        return []
    before, after = mention.split(reference)
    return [f"{before}{choice}{after}" for choice in choices]


def problem_of(question: Question) -> str:
    """Why a question can't be asked, or ""."""
    choices, answer = question["choices"], question["answer"]
    count = 0 if choices is None else len(choices)
    if count < 2 or not isinstance(answer, int | np.integer) or not 0 <= answer < count:
        return f"answer {answer} of {count} choices; a question needs two choices at least and an answer among them"
    texts = [question["question"], *choices]
    if not all(isinstance(text, str) and text.strip() for text in texts):
        return "an empty question or choice can't be scored; remove it"
    said = question.get("statements")
    if said is not None and len(said) not in (0, count):
        return f"{len(said)} statements for {count} choices"
    return ""
