"""The engine over a model folder: log-likelihoods and greedy answers, computed here."""

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from stages.base.errors import InputError
from stages.evaluation.scoring.encoding import Encoder, Pair
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
from stages.lm.scoring import continuation_logprobs
from stages.lm.transformer import Decoder
from stages.lm.tree_reader import TreeReader

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
            answers = generate(
                self.model,
                [prompts[index] for index in members],
                max_new_tokens=most,
                temperature=0.0,
                top_p=1.0,
                seed=0,
                stop_ids=self.stop_ids,
                finished=stopped,
                label=f"{self.name}: answers",
            )
            for index, answer in zip(members, answers, strict=True):
                text, cut = stopped.cut(self.tokenizer.decode(answer))
                found[index] = Generated(text, len(answer), cut or len(answer) < most)
        return [found[index] for index in range(len(requests))]

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
