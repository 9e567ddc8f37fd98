"""One thing that a task asks, whatever file it came from; a row of schema TASK."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Item:
    """Texts only, nothing of a protocol or a tokenizer.

    A multiple-choice item has `choices` and `answer`, and `targets` where several choices are right; one whose answer
    is generated, or whose one continuation is scored, has `targets` alone; a text to be scored as a whole (rolling) has
    `question` alone. Where the choice is made among contexts (Winogrande), `choices` and `contexts` are these, `prompt`
    is the right one, and the one continuation is in `targets`.
    """

    id: str
    set: str  # key of the task
    subject: str
    split: str  # development (few-shot examples), validation, test
    question: str  # the bare question: what overlap with a corpus and decontamination look for
    prompt: str = ""  # as the task's own template words it (lm-eval's doc_to_text); "" where it has none
    choices: tuple[str, ...] = ()
    answer: int = -1  # index of the right choice; -1 where nothing is chosen
    targets: tuple[str, ...] = ()  # accepted answers as text; the first one is shown in few-shot examples
    contexts: tuple[str, ...] = ()  # one a choice where contexts differ and the continuation doesn't (Winogrande)
    statements: tuple[str, ...] = ()  # each choice said as a sentence, for the chat protocol
    cluster: str = ""  # items of one cluster (a passage, a template) are not independent; "" = of its own
    description: str = ""  # before the examples, where it differs by item; the setting's where it is empty
    labels: tuple[str, ...] = ()  # what the task's own template has models say for the choices, where not their text
    counted: str = ""  # of a rolling text: what words and bytes are counted in, where it isn't `question`

    @property
    def target(self) -> str:
        """The right answer as text."""
        return self.choices[self.answer] if self.choices and not self.contexts else self.targets[0]

    @property
    def continuations(self) -> tuple[str, ...]:
        """What is scored for each choice under the task's own template."""
        return self.labels or self.choices

    @property
    def shown(self) -> str:
        """The answer that an example shows under the task's own template."""
        return self.labels[self.answer] if self.labels else self.target

    @property
    def right(self) -> tuple[int, ...]:
        """Indices of the right choices: of several where `targets` names them, and of every one that says the same."""
        if self.contexts:
            return (self.answer,)
        said = self.targets or (self.choices[self.answer],)
        return tuple(index for index, choice in enumerate(self.choices) if choice in said)


LISTS = frozenset({"choices", "targets", "contexts", "statements", "labels"})


def item_of(row: Mapping[str, Any]) -> Item:
    """Of a row of schema TASK."""
    fields: dict[str, Any] = {
        name: tuple(() if value is None else value) if name in LISTS else "" if value is None else value
        for name, value in row.items()
    }
    return Item(**fields)


def row_of(item: Item) -> dict[str, Any]:
    """A row of schema TASK."""
    return {name: list(value) if name in LISTS else value for name, value in vars(item).items()}
