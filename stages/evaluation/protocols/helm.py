"""MMLU as HELM asks it (Liang et al. 2022): the model writes one token, which must be the letter.

The token is the likeliest of the whole vocabulary, so that a model that would rather say something else is wrong;
exact match after white space is stripped. Examples are drawn and ordered by whoever asks, as HELM samples them; the
last ones go where the prompt is too long. HELM then cuts the question's end; here such an item is left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from stages.evaluation.protocols.choices import flags_of, is_right, not_multiple_choice
from stages.evaluation.protocols.protocol import Answer, Overflow, Setting
from stages.evaluation.protocols.wording import Wording
from stages.evaluation.scoring.requests import Generate, Generated, Likelihood
from stages.evaluation.tasks.item import Item

INSTRUCTION = "The following are multiple choice questions (with answers) about {subject}.\n\n"


@dataclass(frozen=True)
class OneToken:
    """A letter, alone, by one greedy token."""

    name: str
    version: int
    wording: Wording
    overflow: Overflow = "fewer_shots"

    def why_not(self, item: Item) -> str:
        return not_multiple_choice(item)

    def render(self, item: Item, shots: Sequence[Item], setting: Setting) -> Generate:
        return Generate(self.wording.context(item, shots), (), 1)

    def read(self, item: Item, setting: Setting, found: Sequence[Likelihood] | Generated) -> Answer:
        assert isinstance(found, Generated)
        letters = self.wording.answers(item)
        said = found.text.strip()
        choice = letters.index(said) if said in letters else -1
        return Answer(choice, found.text, {"acc": float(is_right(item, choice))}, flags=flags_of(item, choice >= 0))


HELM = OneToken("helm", 1, Wording(INSTRUCTION, question="Question: {question}"))
