"""The engine over a model folder: log-likelihoods and greedy answers, computed here."""

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from stages.base.errors import InputError
from stages.evaluation.scoring.encoding import Encoder, Pair, ids_of
from stages.evaluation.scoring.requests import (
    Choices,
    Generate,
    Generated,
    Likelihood,
    NoRoom,
    Rolling,
    Truncation,
)
from stages.evaluation.scoring.stops import Stop, stop_ids
from stages.evaluation.scoring.windows import windows
from stages.lm.build import LanguageModel
from stages.lm.chat import ChatTokenizer, load_tokenizer
from stages.lm.checkpoint import load_model
from stages.lm.device import set_threads
from stages.lm.generate import generate
from stages.lm.incremental import IncrementalDecoder
from stages.lm.scoring import continuation_logprobs, next_tokens
from stages.lm.transformer import Decoder
from stages.lm.tree_reader import TreeReader

MOST_ROWS = 64  # that decode together
CACHE_BYTES = 1 << 29  # of keys and values of such rows; each of several processes has as much
LEAST_SHARED = 32  # tokens: fewer are read with each prompt
T = TypeVar("T")
R = TypeVar("R")


class LocalEngine:
    """An `Engine` over a loaded model. `name` stands in errors and before progress."""

    def __init__(self, model: LanguageModel, tokenizer: ChatTokenizer, name: str) -> None:
        self.model, self.tokenizer, self.name = model, tokenizer, name
        self.limit = model.config.max_seq_len
        self.encoder = Encoder(tokenizer, self.limit)
        self.stop_ids = sorted({tokenizer.eos_id, tokenizer.end_id, *stop_ids(tokenizer.folder)})

    def length(self, request: Choices | Generate) -> int:
        return self.encoder.length(request)

    def sent(self, request: Choices | Generate) -> str:
        return self.encoder.sent(request)

    def likelihoods(self, requests: Sequence[Choices], truncation: Truncation) -> list[list[Likelihood]]:
        pairs = _each(lambda request: self.encoder.fitting_pairs(request, truncation), requests)
        found = iter(self._score([pair for own in pairs for pair in own]))
        return [[next(found) for _ in own] for own in pairs]

    def rolling(self, texts: Sequence[str], stride: int) -> list[Rolling]:
        encoded = [self.tokenizer.encode(text) for text in texts]
        pairs = [windows(tokens, self.tokenizer.prefix_id, self.limit, stride) for tokens in encoded]
        found = iter(self._score([pair for own in pairs for pair in own]))
        return [
            Rolling(math.fsum(next(found).nats for _ in own), len(tokens), len(text.encode()))
            for own, tokens, text in zip(pairs, encoded, texts, strict=True)
        ]

    def generate(self, requests: Sequence[Generate], truncation: Truncation) -> list[Generated]:
        prompts = _each(lambda request: self.encoder.fitting_prompt(request, truncation), requests)
        kinds: dict[tuple[tuple[str, ...], int], list[int]] = {}
        for index, request in enumerate(requests):
            kinds.setdefault((request.stop, request.max_tokens), []).append(index)
        found: dict[int, Generated] = {}
        for (stop, most), members in kinds.items():
            stopped = Stop(stop, self.tokenizer)
            answers = self._answers([prompts[index] for index in members], most, stopped)
            for index, answer in zip(members, answers, strict=True):
                text, cut = stopped.cut(self.tokenizer.decode(answer))
                found[index] = Generated(text, len(answer), cut or len(answer) < most)
        return [found[index] for index in range(len(requests))]

    def _answers(self, prompts: list[list[int]], most: int, stopped: Stop) -> list[list[int]]:
        """Greedy answers of at most `most` tokens, without the token that ended them."""
        try:
            if most == 1 and self._reader is not None:
                label = f"{self.name}: first tokens"
                tokens = next_tokens(self.model, [ids_of(prompt) for prompt in prompts], label, self._reader)
                return [[] if token in self.stop_ids else [token] for token in tokens]
            answers: list[list[int]] = [[] for _ in prompts]
            for members, shared in alike(prompts):
                longest = max(len(prompts[index]) for index in members)
                found = generate(
                    self.model,
                    [prompts[index] for index in members],
                    max_new_tokens=most,
                    temperature=0.0,
                    top_p=1.0,
                    seed=0,
                    stop_ids=self.stop_ids,
                    batch_size=max(1, min(MOST_ROWS, CACHE_BYTES // ((longest + most) * self._bytes_a_token))),
                    label=f"{self.name}: answers",
                    finished=stopped,
                    shared=shared,
                )
                for index, answer in zip(members, found, strict=True):
                    answers[index] = answer
            return answers
        except InputError as error:
            raise InputError(f"{self.name}: {error}") from None

    @property
    def _bytes_a_token(self) -> int:
        """Of keys and values."""
        config = self.model.config
        return 8 * config.n_layer * config.n_kv_head * config.head_dim

    @cached_property
    def _reader(self) -> TreeReader | None:
        """Laid out once, for all that is asked; None for an LSTM."""
        return TreeReader(IncrementalDecoder(self.model)) if isinstance(self.model, Decoder) else None

    def _score(self, pairs: Sequence[Pair]) -> list[Likelihood]:
        found = [
            Likelihood(math.fsum(logprobs.tolist()), len(logprobs), greedy)
            for logprobs, greedy in continuation_logprobs(self.model, pairs, f"{self.name}: scoring", self._reader)
        ]
        if not all(math.isfinite(one.nats) for one in found):
            raise InputError(f"{self.name}: the model's logits hold NaN or infinity; its scores would be chance")
        return found


def open_folder(path: Path | str) -> LocalEngine:
    """The engine of a model folder, ours or another's, on the chosen device. InputError for what isn't one."""
    set_threads()
    return LocalEngine(load_model(path), load_tokenizer(path), str(path))


def alike(prompts: Sequence[list[int]]) -> list[tuple[list[int], int]]:
    """Prompts whose first half at least is the same, together: (their places, how many tokens they share).

    Alone, or where it's hardly worth it, a prompt shares none.
    """
    order = sorted(range(len(prompts)), key=lambda index: prompts[index])
    groups: list[tuple[list[int], int]] = []
    for index in order:
        prompt = prompts[index]
        if groups:
            members, shared = groups[-1]
            both = min(shared, common(prompts[members[-1]], prompt), len(prompt) - 1)
            if both >= max(LEAST_SHARED, len(prompts[members[0]]) // 2):
                members.append(index)
                groups[-1] = members, both
                continue
        groups.append(([index], len(prompt) - 1))
    alone = [index for members, _ in groups if len(members) == 1 for index in members]
    return [group for group in groups if len(group[0]) > 1] + ([(alone, 0)] if alone else [])


def common(a: list[int], b: list[int]) -> int:
    """How many tokens both begin with."""
    return next(
        (place for place, (one, other) in enumerate(zip(a, b, strict=False)) if one != other), min(len(a), len(b))
    )


def _each(encode: Callable[[T], R], requests: Sequence[T]) -> list[R]:
    """What `encode` makes of each; errors name the request by its place."""
    found = []
    for index, request in enumerate(requests):
        try:
            found.append(encode(request))
        except NoRoom as error:
            raise NoRoom(error.message, index) from None
        except InputError as error:
            raise InputError(f"request {index}: {error}") from None
    return found
