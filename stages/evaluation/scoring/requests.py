"""What is asked of a model, in text: engines (a folder's model, a server) answer it, protocols build it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

from stages.base.conversation import Message
from stages.base.errors import InputError

Truncation = Literal["left", "refuse"]
"""What becomes of a context that the model has no room for: its beginning goes, or the item is refused."""


@dataclass(frozen=True)
class Choices:
    """Log-likelihood of each continuation behind its context (one, or one a continuation).

    `messages` in place of a context: rendered by the model's own chat template up to where its answer begins.
    """

    contexts: tuple[str, ...]
    continuations: tuple[str, ...]
    messages: tuple[Message, ...] = ()


@dataclass(frozen=True)
class Generate:
    """A greedy answer behind a context (or messages), up to the first of `stop` or `max_tokens`."""

    context: str
    stop: tuple[str, ...]
    max_tokens: int
    messages: tuple[Message, ...] = ()


class NoRoom(InputError):
    """A request is longer than the model's context and may not be cut, or not enough. `index` is its place among those
    that were asked.
    """

    def __init__(self, message: str, index: int = 0) -> None:
        super().__init__(f"request {index}: {message}")
        self.message, self.index = message, index


class Likelihood(NamedTuple):
    """Of one continuation."""

    nats: float  # sum of log p
    tokens: int
    greedy: bool  # whether each of its tokens was the likeliest


MOST_NATS, ROUNDING = 1e4, 1e-3  # a token's log-probability lies between the one, negative, and the other


def is_logprob(value: Any, tokens: int = 1) -> bool:
    """Whether it can be a log-probability, or the sum of so many."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and -MOST_NATS * max(tokens, 1) < value < ROUNDING * max(tokens, 1)


class Generated(NamedTuple):
    text: str  # without the stop
    tokens: int
    ended: bool  # by a stop or the end of a text, not by the bound


class Rolling(NamedTuple):
    """Of a whole text: every token scored once."""

    nats: float
    tokens: int
    bytes: int


class Engine(Protocol):
    """A model that answers. Batch size and order of requests change no number.

    Raises NoRoom for a request that is too long, InputError where the model gives NaN, and CannotAsk where it can't do
    what is asked (log-probabilities of a server that has none).
    """

    name: str  # in messages
    limit: int  # tokens that the model reads; of a continuation all but the last

    def length(self, request: Choices | Generate) -> int:
        """Tokens that the longest of the request's sequences needs room for, with `max_tokens`: at most `limit` fit."""
        ...

    def likelihoods(self, requests: Sequence[Choices], truncation: Truncation) -> list[list[Likelihood]]: ...

    def generate(self, requests: Sequence[Generate], truncation: Truncation) -> list[Generated]: ...

    def rolling(self, texts: Sequence[str], stride: int) -> list[Rolling]: ...

    def sent(self, request: Choices | Generate) -> str:
        """The context exactly as the model reads it, chat template and all: for the pages."""
        ...


class CannotAsk(InputError):
    """The engine can't be asked this kind of request at all; others it can."""


class Unanswered(InputError):
    """Some requests of a call have no answer, for reasons of their own, and the others have.

    found: in the order of the requests, None where there is none. why: of those, by place. An engine that can't be
    asked any of them alike raises InputError.
    """

    def __init__(self, found: list[Any], why: dict[int, str]) -> None:
        place, reason = next(iter(why.items()))
        super().__init__(f"{len(why)} of {len(found)} requests have no answer; request {place}: {reason}")
        self.found, self.why = found, why
