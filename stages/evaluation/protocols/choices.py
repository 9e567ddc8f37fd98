"""Multiple choice: which questions can be asked, and which continuation is the model's choice."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.evaluation.protocols.protocol import Answer, Flag, Overflow, Setting
from stages.evaluation.protocols.wording import LETTERS, Wording
from stages.evaluation.scoring.requests import Choices, Generated, Likelihood
from stages.evaluation.tasks.item import Item

Question = Mapping[str, Any]  # subject, question, choices, answer (index) and perhaps statements, as in schemas.TASK


@dataclass(frozen=True)
class MostLikely:
    """The likeliest answer is the model's: the log-likelihood of each, as a whole, behind the same context."""

    name: str
    version: int
    wording: Wording
    overflow: Overflow = "fewer_shots"

    def why_not(self, item: Item) -> str:
        return not_multiple_choice(item)

    def render(self, item: Item, shots: Sequence[Item], setting: Setting) -> Choices:
        answers = (self.wording.delimiter + answer for answer in self.wording.answers(item))
        return Choices((self.wording.context(item, shots),), tuple(answers))

    def read(self, item: Item, setting: Setting, found: Sequence[Likelihood] | Generated) -> Answer:
        assert not isinstance(found, Generated)
        return likeliest(item, self.wording.answers(item), found)


def likeliest(item: Item, answers: Sequence[str], found: Sequence[Likelihood]) -> Answer:
    """The choice of the largest log-likelihood, the first of equal ones: in sum, per character and per byte of the
    answer's text, without the delimiter (acc, acc_norm and acc_bytes of the LM Evaluation Harness)."""
    nats = np.array([likelihood.nats for likelihood in found])
    characters = np.array([len(answer) for answer in answers])
    size = np.array([len(answer.encode()) for answer in answers])
    with np.errstate(divide="ignore", invalid="ignore"):
        picked = {"acc": nats, "acc_norm": nats / characters, "acc_bytes": nats / size}
    choices = {name: int(np.argmax(values)) for name, values in picked.items()}
    scores = {name: float(is_right(item, choice)) for name, choice in choices.items()}
    return Answer(choices["acc"], "", scores, choices["acc_norm"], flags_of(item))


def is_right(item: Item, choice: int) -> bool:
    """Whether the chosen text is the right one: of options that read the same, any will do."""
    return choice in item.right


def flags_of(item: Item, answered: bool = True) -> tuple[Flag, ...]:
    repeated: tuple[Flag, ...] = ("repeated_options",) if len(set(item.choices)) < len(item.choices) else ()
    return repeated if answered else ("no_answer", *repeated)


def not_multiple_choice(item: Item) -> str:
    """Why an item can't be asked by choosing among its choices, or ""."""
    if not item.choices:
        return "it has no choices"
    if item.contexts:
        return "it chooses among contexts, not among answers"
    if item.prompt and "".join(item.choices) == LETTERS[: len(item.choices)]:
        return "its choices are letters, and their texts stand in its template; ask it under `task`"
    if len(item.choices) > len(LETTERS):
        return f"it has {len(item.choices)} choices, letters name {len(LETTERS)}"
    return problem_of(vars(item))


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
