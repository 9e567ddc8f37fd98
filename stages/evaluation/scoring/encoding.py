"""Contexts and continuations as tokens, cut and cut short as the LM Evaluation Harness does."""

from typing import NamedTuple

import numpy as np

from stages.base.conversation import messages_of
from stages.base.errors import InputError
from stages.evaluation.scoring.requests import Choices, Generate, NoRoom, Truncation
from stages.lm.chat import ChatTokenizer

Ids = np.ndarray  # [length] int32: lists of Python's integers are nine times as large


class Pair(NamedTuple):
    """What is read and what is scored behind it; neither is empty, and the last token is scored but not read."""

    context: Ids
    continuation: Ids


def pair_of(context: list[int], continuation: list[int]) -> Pair:
    return Pair(np.array(context, np.int32), np.array(continuation, np.int32))


class Encoder:
    """Requests → tokens, by the tokenizer of a model that reads `limit` tokens.

    What the tokenizer itself puts before a text (BOS, or nothing) stands before a context. An empty context is BOS or,
    where there is none, the end of a text.
    """

    def __init__(self, tokenizer: ChatTokenizer, limit: int) -> None:
        self.tokenizer, self.limit = tokenizer, limit
        marked, plain = tokenizer.tokenizer.encode("a").ids, tokenizer.encode("a")
        self.before = marked[: len(marked) - len(plain)] if marked[-len(plain) :] == plain else []

    def pairs(self, request: Choices) -> list[Pair]:
        """One a continuation. InputError for a continuation without a token of its own."""
        pairs = []
        for place, continuation in enumerate(request.continuations):
            if request.messages:
                pair = pair_of(*self.tokenizer.encode_answer(request.messages, continuation))
            else:
                pair = self._pair(request.contexts[place if len(request.contexts) > 1 else 0], continuation)
            if not len(pair.continuation):
                raise InputError(f"continuation {place + 1} ({continuation!r:.40}) has no token of its own; reword it")
            pairs.append(pair)
        return pairs

    def _pair(self, context: str, continuation: str) -> Pair:
        read = context.rstrip()
        start = self._context(read)
        if not start:  # nothing to stand behind
            own, prefix = self.tokenizer.encode(context + continuation), self.tokenizer.prefix_id
            return pair_of(own[:1], own[1:]) if own[:1] == [prefix] else pair_of([prefix], own)
        return pair_of(start, self._context(context + continuation)[len(start) :])

    def _context(self, text: str) -> list[int]:
        return [*self.before, *self.tokenizer.encode(text)] if text else []

    def prompt(self, request: Generate) -> list[int]:
        if request.messages:
            return self.tokenizer.encode_prompt(request.messages)
        return self._context(request.context) or [self.tokenizer.prefix_id]

    def length(self, request: Choices | Generate) -> int:
        """Tokens that the model must have room for."""
        if isinstance(request, Generate):
            return len(self.prompt(request)) + request.max_tokens
        return max(len(pair.context) + len(pair.continuation) - 1 for pair in self.pairs(request))

    def sent(self, request: Choices | Generate) -> str:
        if request.messages:
            return self.tokenizer.template.render(messages_of(request.messages), add_generation_prompt=True)
        context = request.contexts[0] if isinstance(request, Choices) else request.context
        before = self.before if context else [self.tokenizer.prefix_id]
        return self.tokenizer.tokenizer.decode(before, skip_special_tokens=False) + context

    def fitting_pairs(self, request: Choices, truncation: Truncation) -> list[Pair]:
        """Pairs for which there is room: by "left" a context loses its beginning. NoRoom where it may not, and for a
        continuation that is too long by itself.
        """
        return [self._fitting(pair, truncation) for pair in self.pairs(request)]

    def _fitting(self, pair: Pair, truncation: Truncation) -> Pair:
        spare = self.limit + 1 - len(pair.continuation)
        if len(pair.context) <= spare:
            return pair
        if truncation == "refuse" or spare < 1:
            raise NoRoom(
                f"{len(pair.context)} tokens of context and {len(pair.continuation)} of continuation; "
                f"the model reads {self.limit}"
            )
        return Pair(pair.context[-spare:], pair.continuation)

    def fitting_prompt(self, request: Generate, truncation: Truncation) -> list[int]:
        """As `fitting_pairs`, with room for `max_tokens` behind it."""
        prompt, spare = self.prompt(request), self.limit - request.max_tokens
        if len(prompt) <= spare:
            return prompt
        if truncation == "refuse" or spare < 1:
            raise NoRoom(
                f"{len(prompt)} tokens of context and up to {request.max_tokens} of an answer; "
                f"the model reads {self.limit}"
            )
        return prompt[-spare:]
