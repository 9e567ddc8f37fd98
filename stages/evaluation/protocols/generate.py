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
    """A greedy text; `chat` asks by messages, and says in `request` what kind of answer is wanted."""

    name: str
    version: int
    wording: Wording  # of multiple choice
    open_question: str = "Question: {question}\nAnswer:"
    chat: bool = False
    request: str = ""
    letter_tokens: int = 32  # the most that are written where a letter is wanted
    overflow: Overflow = "left"

    def why_not(self, item: Item) -> str:
        if item.choices:
            return not_multiple_choice(item)
        return "" if any(target.strip() for target in item.targets) else "it has neither choices nor targets"

    def render(self, item: Item, shots: Sequence[Item], setting: Setting) -> Generate:
        most = min(self.letter_tokens, setting.max_tokens) if item.choices else setting.max_tokens
        if self.chat:
            messages: list[Message] = []
            for shot in shots:
                messages += [self._message(shot), {"role": "assistant", "content": self._shown(shot)}]
            return Generate("", (), most, (*messages, self._message(item)))
        if item.choices:
            return Generate(self.wording.context(item, shots), setting.stop, most)
        shown = (
            self._open(shot) + setting.target_delimiter + self._shown(shot) + setting.fewshot_delimiter
            for shot in shots
        )
        return Generate(setting.description + "".join(shown) + self._open(item), setting.stop, most)

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

    def _open(self, item: Item) -> str:
        return item.prompt or self.open_question.format(question=item.question)

    def _shown(self, shot: Item) -> str:
        return self.wording.letter(shot, shot.answer) if shot.choices else shot.target

    def _message(self, item: Item) -> Message:
        if not item.choices:
            return {"role": "user", "content": item.question}
        asked = self.request.format(subject=subject_name(item.subject)) + self.wording.block(item)
        return {"role": "user", "content": asked}


GENERATE = Written("generate", 1, Wording(INSTRUCTION, question="Question: {question}"))
CHAT_GENERATE = Written(
    "chat_generate",
    1,
    Wording(cue=""),
    chat=True,
    request="Answer the following multiple choice question about {subject} with the letter of the right choice.\n\n",
    overflow="fewer_shots",
)
