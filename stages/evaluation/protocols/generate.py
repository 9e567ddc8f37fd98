"""The model writes, and the answer is read from what it wrote.

Multiple choice: a letter. A target that is a number, or a solution that ends with one (GSM8K): the last number
(`exact_match`), and the one behind "#### " (`exact_match_strict`), as the two filters of the LM Evaluation Harness.
Other targets: the first line, without case, punctuation and articles. `chat_generate` asks through the model's own chat
template, with examples as earlier turns.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from stages.base.conversation import Message
from stages.evaluation.protocols.choices import flags_of, is_right, not_multiple_choice
from stages.evaluation.protocols.extraction import last_number, letter_of, normalised, plain_number, strict_number
from stages.evaluation.protocols.helm import INSTRUCTION
from stages.evaluation.protocols.protocol import Answer, Overflow, Setting
from stages.evaluation.protocols.wording import Wording, subject_name
from stages.evaluation.scoring.requests import Generate, Generated, Likelihood
from stages.evaluation.tasks.item import Item

SOLUTION = re.compile(r"(?s).*#### ")  # everything before a worked solution's result
IS_NUMBER = re.compile(r"-?\$?[0-9][0-9,]*(\.[0-9]+)?\.?")


@dataclass(frozen=True)
class Written:
    """A greedy text, up to where the next question would begin; `chat` asks by messages instead."""

    name: str
    version: int
    wording: Wording
    chat: bool = False
    request: str = ""  # of multiple choice, in chat
    open_instruction: str | None = None  # before open questions; None = the task's description
    letters_alone: bool = False  # this wording is another one for lettered choices alone
    letter_tokens: int = 32  # at the most, where a letter is wanted
    overflow: Overflow = "left"

    def why_not(self, item: Item) -> str:
        if item.choices:
            return not_multiple_choice(item)
        if self.letters_alone:
            return "this wording is of lettered choices, and it has none"
        return "" if any(target.strip() for target in item.targets) else "it has neither choices nor targets"

    def render(self, item: Item, shots: Sequence[Item], setting: Setting) -> Generate:
        most = min(self.letter_tokens, setting.max_tokens) if item.choices else setting.max_tokens
        if self.chat:
            messages: list[Message] = []
            for shot in shots:
                messages += [self._message(shot), {"role": "assistant", "content": self._shown(shot)}]
            return Generate("", (), most, (*messages, self._message(item)))
        stop = tuple(dict.fromkeys([*setting.stop, *self._next()]))
        if item.choices:
            return Generate(self.wording.context(item, shots), stop, most)
        before = item.description or setting.description
        if self.open_instruction is not None:
            before = self.open_instruction.format(subject=subject_name(item.subject))
        shown = (f"{self._block(shot)}{self.wording.delimiter}{shot.target}{self.wording.between}" for shot in shots)
        return Generate(before + "".join(shown) + self._block(item), stop, most)

    def _next(self) -> list[str]:
        """How this wording would go on with another question."""
        opening = self.wording.question.split("{question}")[0].strip()
        return [mark for mark in (f"\n{opening}" if opening else "", self.wording.between.rstrip()) if mark]

    def read(self, item: Item, setting: Setting, found: Sequence[Likelihood] | Generated) -> Answer:
        assert isinstance(found, Generated)
        if item.choices:
            letters = [self.wording.letter(item, index) for index in range(len(item.choices))]
            said = letter_of(found.text, item.choices, letters)
            choice = letters.index(said) if said else -1
            return Answer(choice, found.text, {"acc": float(is_right(item, choice))}, flags=flags_of(item, bool(said)))
        wanted = [SOLUTION.sub("", target).strip() for target in item.targets]
        if all(IS_NUMBER.fullmatch(target) for target in wanted):
            numbers = {plain_number(target) for target in wanted}
            read = last_number(found.text)
            scores = {
                "exact_match": float(read in numbers),
                "exact_match_strict": float(strict_number(found.text) in numbers),
            }
        else:
            read = normalised(found.text.strip().split("\n")[0])
            scores = {"exact_match": float(bool(read) and read in map(normalised, wanted))}
        return Answer(-1, found.text, scores, flags=() if read else ("no_answer",))

    def _block(self, item: Item) -> str:
        """An item without a bare question has its task's own wording for one."""
        return item.prompt if item.question == item.prompt else self.wording.block(item)

    def _shown(self, shot: Item) -> str:
        return self.wording.letter(shot, shot.answer) if shot.choices else shot.target

    def _message(self, item: Item) -> Message:
        request = self.request.format(subject=subject_name(item.subject)) if item.choices else ""
        return {"role": "user", "content": request + self._block(item)}


GENERATE = Written("generate", 1, Wording(INSTRUCTION, question="Question: {question}"))
CHAT_GENERATE = Written(
    "chat_generate",
    1,
    Wording(cue=""),
    chat=True,
    request="Answer the following multiple choice question about {subject} with the letter of the right choice.\n\n",
    overflow="fewer_shots",
)
