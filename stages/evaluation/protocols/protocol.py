"""A protocol: how an item becomes a prompt, and how what the model does becomes an answer.

The same model scores .637, .488 or .636 on MMLU by the protocol (LLaMA-65B, Open LLM Leaderboard blog, 2023): so each
has a name and a version, and both stand beside every number.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

from stages.evaluation.scoring.requests import Choices, Generate, Generated, Likelihood
from stages.evaluation.tasks.item import Item

Overflow = Literal["fewer_shots", "left", "refuse"]
"""Where the context has no room: fewer examples (the last goes first), without its beginning, or the item left out."""


class Answer(NamedTuple):
    """What a model answered to an item; scores are 0 or 1 (or a share) by name of the metric."""

    choice: int  # index, -1 for none
    text: str  # generated; "" otherwise
    scores: dict[str, float]  # "acc", "acc_norm" (per character), "acc_bytes" (per byte), "exact_match", …


@dataclass(frozen=True)
class Setting:
    """What a protocol needs to know of the task beside its items."""

    description: str = ""  # before the examples
    target_delimiter: str = " "
    fewshot_delimiter: str = "\n\n"
    stop: tuple[str, ...] = ("\n\n",)
    max_tokens: int = 256
    metrics: tuple[str, ...] = ("acc", "acc_norm")
    options: tuple[tuple[str, Any], ...] = ()  # of the task's file, as the protocol `task` reads them


class EvaluationProtocol(Protocol):
    name: str
    version: int
    overflow: Overflow

    def why_not(self, item: Item) -> str:
        """Why this protocol can't ask that item (no choices, another number of choices …), or ""."""
        ...

    def render(self, item: Item, shots: Sequence[Item], setting: Setting) -> Choices | Generate: ...

    def read(self, item: Item, setting: Setting, found: Sequence[Likelihood] | Generated) -> Answer: ...
