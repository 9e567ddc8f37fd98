"""A protocol: how an item becomes a prompt, and how what the model does becomes an answer.

The same model scores .637, .488 or .636 on MMLU by the protocol (LLaMA-65B, Open LLM Leaderboard blog, 2023): so each
has a name and a version, and both stand beside every number.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

from stages.base.errors import InputError
from stages.evaluation.scoring.requests import Choices, Engine, Generate, Generated, Likelihood
from stages.evaluation.tasks.item import Item

Overflow = Literal["fewer_shots", "left", "refuse"]
"""Where the context has no room: fewer examples (the last goes first), without its beginning, or the item left out."""
Flag = Literal["no_answer", "repeated_options"]
"""What is counted apart: nothing could be read as an answer (scored as wrong), or two choices have the same text."""


class TooLong(InputError):
    """An item that the model's context has no room for, even without examples."""


class Answer(NamedTuple):
    """What a model answered to an item; scores are 0 or 1 (or a share) by name of the metric."""

    choice: int  # index, -1 for none
    text: str  # generated, or what was read from it; "" otherwise
    scores: dict[str, float]  # "acc", "acc_norm" (per character), "acc_bytes" (per byte), "exact_match", …
    choice_norm: int = -1  # index by log-likelihood per character
    flags: tuple[Flag, ...] = ()


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
    """Read-only attributes, as protocols are frozen."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> int: ...

    @property
    def overflow(self) -> Overflow: ...

    def why_not(self, item: Item) -> str:
        """Why this protocol can't ask that item (no choices, another number of choices …), or ""."""
        ...

    def render(self, item: Item, shots: Sequence[Item], setting: Setting) -> Choices | Generate: ...

    def read(self, item: Item, setting: Setting, found: Sequence[Likelihood] | Generated) -> Answer:
        """`found` is what the engine made of `render`'s request, continuations in its order."""
        ...


def fit(
    protocol: EvaluationProtocol, item: Item, shots: Sequence[Item], setting: Setting, engine: Engine
) -> tuple[Choices | Generate, int]:
    """(What is asked, how many of the examples it shows), by the protocol's policy where the context has no room.

    TooLong where an item must be left out: by `refuse`, or by `fewer_shots` without any example.
    """
    needed = 0
    for count in range(len(shots), -1, -1):
        request = protocol.render(item, shots[:count], setting)
        if protocol.overflow == "left":
            return request, count
        needed = engine.length(request)
        if needed <= engine.limit:
            return request, count
        if protocol.overflow == "refuse":
            break
    raise TooLong(
        f"item {item.id}: {needed} tokens under the protocol {protocol.name}, the model has room for {engine.limit}; "
        "remove it, show fewer examples, or train with a larger max_seq_len"
    )
