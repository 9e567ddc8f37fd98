"""Through the model's own chat template: each choice is scored as the assistant's whole answer.

A choice is said in a sentence where the item has `statements`, as a tuned model would. Examples are earlier turns.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from stages.base.conversation import Message
from stages.evaluation.protocols.choices import likeliest, not_multiple_choice
from stages.evaluation.protocols.protocol import Answer, Overflow, Setting
from stages.evaluation.scoring.requests import Choices, Generated, Likelihood
from stages.evaluation.tasks.item import Item


@dataclass(frozen=True)
class Chat:
    """The likeliest reply; question and reply in the words of `question` and `reply`."""

    name: str
    version: int
    question: str = "{question}"
    reply: str = "{choice}"
    overflow: Overflow = "fewer_shots"

    def why_not(self, item: Item) -> str:
        return not_multiple_choice(item)

    def render(self, item: Item, shots: Sequence[Item], setting: Setting) -> Choices:
        messages: list[Message] = []
        for shot in shots:
            messages += [self._asked(shot), {"role": "assistant", "content": self._replies(shot)[shot.answer]}]
        return Choices((), self._replies(item), (*messages, self._asked(item)))

    def read(self, item: Item, setting: Setting, found: Sequence[Likelihood] | Generated) -> Answer:
        assert not isinstance(found, Generated)
        return likeliest(item, self._replies(item), found)

    def _asked(self, item: Item) -> Message:
        return {"role": "user", "content": self.question.format(question=item.question)}

    def _replies(self, item: Item) -> tuple[str, ...]:
        return tuple(self.reply.format(choice=said) for said in item.statements or item.choices)


CHAT = Chat("chat", 1)
