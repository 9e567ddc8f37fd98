"""How a question with its choices is worded: small data, of which protocols and their variants are made."""

from collections.abc import Sequence
from dataclasses import dataclass

from stages.evaluation.tasks.item import Item

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def subject_name(subject: str) -> str:
    return subject.replace("_", " ")


@dataclass(frozen=True)
class Wording:
    """Templates of one line each; `{subject}`, `{question}`, `{letter}` and `{choice}` stand for what the item has.

    `instruction` opens the prompt; each question is its `question`, `heading` and one `option` a choice (both left out
    where ""), and `cue`, on lines of their own; `answer`, behind `delimiter`, is what shown examples are answered with
    and what is scored; `between` divides examples.
    """

    instruction: str = ""
    question: str = "{question}"
    heading: str = ""
    option: str = "{letter}. {choice}"
    cue: str = "Answer:"
    delimiter: str = " "
    answer: str = "{letter}"
    between: str = "\n\n"
    strip: bool = False  # white space around the question
    rotation: int = 0  # the choice of this index (modulo their number) comes first

    def order(self, item: Item) -> list[int]:
        """Index of the choice at each place."""
        count = len(item.choices)
        return [(place + self.rotation) % count for place in range(count)]

    def letter(self, item: Item, choice: int) -> str:
        return LETTERS[(choice - self.rotation) % len(item.choices)]

    def answers(self, item: Item) -> tuple[str, ...]:
        """Of each choice, in the item's own order, whatever the places they are shown in."""
        return tuple(
            self.answer.format(letter=self.letter(item, index), choice=choice)
            for index, choice in enumerate(item.choices)
        )

    def block(self, item: Item) -> str:
        """The question, up to where its answer begins."""
        lines = [self.question.format(question=item.question.strip() if self.strip else item.question)]
        if self.heading:
            lines.append(self.heading)
        if self.option:
            lines += [
                self.option.format(letter=LETTERS[place], choice=item.choices[index])
                for place, index in enumerate(self.order(item))
            ]
        return "\n".join([*lines, self.cue] if self.cue else lines)

    def context(self, item: Item, shots: Sequence[Item]) -> str:
        shown = (f"{self.block(shot)}{self.delimiter}{self.answers(shot)[shot.answer]}{self.between}" for shot in shots)
        return self.instruction.format(subject=subject_name(item.subject)) + "".join(shown) + self.block(item)
