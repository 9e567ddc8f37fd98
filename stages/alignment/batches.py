"""Exchanges as token ids, and right-padded batches of similar lengths of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stages.base.conversation import Asked, messages_of
from stages.base.errors import InputError
from stages.base.seeds import derive
from stages.lm.chat import ChatTokenizer


@dataclass(frozen=True)
class Exchange:
    """Ids of a prompt and its answer in the chat format, and where the answer starts; its end is part of it.

    `earlier`: spans of the answers before it in a conversation, where these are learned too.
    """

    ids: tuple[int, ...]
    start: int
    earlier: tuple[tuple[int, int], ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def answer_length(self) -> int:
        return len(self.ids) - self.start

    @property
    def learned_length(self) -> int:
        return self.answer_length + sum(end - start for start, end in self.earlier)

    @property
    def scored(self) -> tuple[list[int], int]:
        """As `lm.scoring` reads it."""
        return list(self.ids), self.start


def encode_exchange(tokenizer: ChatTokenizer, asked: Asked, answer: str, max_length: int) -> Exchange:
    """Raises InputError naming the prompt if the whole is longer than `max_length` tokens.

    Cutting it would teach answers without an end.
    """
    ids, learned = tokenizer.encode_example(asked, answer)
    if len(ids) > max_length:
        prompt = messages_of(asked)[-1]["content"]
        raise InputError(
            f"the exchange {prompt[:60]!r} … is {len(ids)} tokens long, more than the model's {max_length}; shorten it"
        )
    return Exchange(tuple(ids), learned.index(True))


def encode_turns(tokenizer: ChatTokenizer, asked: Asked, answer: str) -> Exchange:
    """An exchange of which the earlier answers of the conversation are learned too; of any length."""
    ids, learned = tokenizer.encode_conversation([*messages_of(asked), {"role": "assistant", "content": answer}])
    edges = [place for place in range(1, len(ids)) if learned[place] != learned[place - 1]]
    *earlier, start = edges
    return Exchange(tuple(ids), start, tuple(zip(earlier[::2], earlier[1::2], strict=True)))


def pad(exchanges: Sequence[Exchange], padding: int) -> tuple[Tensor, Tensor]:
    """Right-padded rows (B, T) int64 and the mask (B, T) float32 of the answers' tokens."""
    width = max(map(len, exchanges))
    rows = torch.full((len(exchanges), width), padding, dtype=torch.int64)
    mask = torch.zeros((len(exchanges), width), dtype=torch.float32)
    for index, exchange in enumerate(exchanges):
        rows[index, : len(exchange)] = torch.tensor(exchange.ids)
        for start, end in (*exchange.earlier, (exchange.start, len(exchange))):
            mask[index, start:end] = 1.0
    return rows, mask


def bucketed(lengths: Sequence[int], batch_size: int, seed: int, epoch: int) -> Iterator[list[int]]:
    """Indices of each batch of one epoch: a seeded order, sorted by length within pools of 16 batches so that little is
    padding, and the batches shuffled again. Every index occurs once; only the last batch may be smaller."""
    rng = np.random.default_rng(derive(seed, "epoch", epoch))
    order = rng.permutation(len(lengths))
    pool = 16 * batch_size
    batches: list[list[int]] = []
    for start in range(0, len(order), pool):
        near = sorted(order[start : start + pool].tolist(), key=lambda index: lengths[index])
        batches.extend(near[at : at + batch_size] for at in range(0, len(near), batch_size))
    for index in rng.permutation(len(batches)):
        yield batches[index]
