"""Contexts and continuations as tokens, cut and cut short as the LM Evaluation Harness does."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from stages.base.conversation import messages_of
from stages.base.errors import InputError
from stages.evaluation.scoring.requests import Choices, Generate, NoRoom, Truncation
from stages.lm.chat import ChatTokenizer

Ids = np.ndarray  # [length] int32: lists of Python's integers are nine times as large
REMEMBERED = 256  # texts: beginnings that subjects share, and endings such as letters


class Pair(NamedTuple):
    """What is read and what is scored behind it; neither is empty, and the last token is scored but not read."""

    context: Ids
    continuation: Ids


def ids_of(tokens: Sequence[int]) -> Ids:
    return np.array(tokens, np.int32)


class Pieces:
    """Encodes texts that begin alike: what stands before the last paragraph is remembered.

    Byte-level tokenizers that split a text by GPT-2's rule never have a token over a border where white space follows
    another character, and what stands on either side of it doesn't change the other's tokens. So a text may be encoded
    in two there. Of other tokenizers nothing is known: theirs are encoded whole.
    """

    def __init__(self, tokenizer: ChatTokenizer) -> None:
        self.tokenizer = tokenizer
        self.separable = _separable(json.loads(tokenizer.tokenizer.to_str()))
        self._known: dict[str, Ids] = {}

    def last_border(self, text: str) -> int:
        """Where the last word begins, with the white space before it; 0 where that is no border."""
        if not self.separable:
            return 0
        place = max(text.rfind(" "), text.rfind("\n"))
        return len(text[:place].rstrip()) if place > 0 else 0

    def encode(self, text: str) -> Ids:
        place = text.rfind("\n\n") if self.separable else -1
        cut = len(text[:place].rstrip()) if place > 0 else 0
        rest = ids_of(self.tokenizer.encode(text[cut:]))
        return np.concatenate((self.known(text[:cut]), rest)) if cut else rest

    def known(self, text: str) -> Ids:
        """As `encode`, of a text that may come again."""
        found = self._known.get(text)
        if found is None:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            found = self._known[text] = ids_of(self.tokenizer.encode(text))
        return found


def _separable(made: dict[str, Any]) -> bool:
    """Of a `tokenizer.json`."""
    splitter = made["pre_tokenizer"] or {}
    parts = splitter["pretokenizers"] if splitter.get("type") == "Sequence" else [splitter]
    plain = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
    return (
        made["normalizer"] is None
        and made["model"]["type"] == "BPE"
        and all(token["special"] for token in made["added_tokens"])
        and parts[-1] == parts[-1] | plain
        and all(part["type"] == "Digits" for part in parts[:-1])
    )


class Encoder:
    """Requests → tokens, by the tokenizer of a model that reads `limit` tokens.

    What the tokenizer itself puts before a text (BOS, or nothing) stands before a context. An empty context is BOS or,
    where there is none, the end of a text.
    """

    def __init__(self, tokenizer: ChatTokenizer, limit: int) -> None:
        self.tokenizer, self.limit, self.pieces = tokenizer, limit, Pieces(tokenizer)
        marked, plain = tokenizer.tokenizer.encode("a").ids, tokenizer.encode("a")
        self.before = ids_of(marked[: len(marked) - len(plain)] if marked[-len(plain) :] == plain else [])

    def pairs(self, request: Choices) -> list[Pair]:
        """One a continuation. InputError for a continuation without a token of its own."""
        if request.messages:
            start, rests = self.tokenizer.encode_answers(request.messages, request.continuations)
            own = ids_of(start)
            pairs = [Pair(own, ids_of(rest)) for rest in rests]
        elif len(request.contexts) == 1:
            pairs = self._pairs(request.contexts[0], request.continuations)
        else:
            each = zip(request.contexts, request.continuations, strict=True)
            pairs = [pair for context, continuation in each for pair in self._pairs(context, (continuation,))]
        for place, pair in enumerate(pairs):
            if not len(pair.continuation):
                text = request.continuations[place]
                raise InputError(f"continuation {place + 1} ({text!r:.40}) has no token of its own; reword it")
        return pairs

    def _pairs(self, context: str, continuations: Sequence[str]) -> list[Pair]:
        """White space at the end of a context is the continuation's; both are encoded as one text, and cut."""
        read = context.rstrip()
        spaces = context[len(read) :]
        cut = self.pieces.last_border(read)
        before, end = self.pieces.encode(read[:cut]), self.pieces.known(read[cut:])
        wholes = [self.pieces.known(read[cut:] + spaces + text) for text in continuations]
        own = np.concatenate((self.before, before, end)) if read else self.before
        if len(own):
            return [Pair(own, whole[len(end) :]) for whole in wholes]
        prefix = np.array([self.tokenizer.prefix_id], np.int32)
        return [
            Pair(whole[:1], whole[1:]) if whole[:1].tolist() == prefix.tolist() else Pair(prefix, whole)
            for whole in wholes
        ]

    def prompt(self, request: Generate) -> list[int]:
        if request.messages:
            return self.tokenizer.encode_prompt(request.messages)
        return [*self.before.tolist(), *self.pieces.encode(request.context).tolist()] or [self.tokenizer.prefix_id]

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
        return self.tokenizer.tokenizer.decode(list(before), skip_special_tokens=False) + context

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
