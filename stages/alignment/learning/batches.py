"""Exchanges as token ids, and batches of them: laid end to end to learn from, right-padded to go on from."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stages.base.conversation import Asked, messages_of
from stages.base.errors import InputError
from stages.base.seeds import derive
from stages.lm.build import LanguageModel
from stages.lm.chat import ChatTokenizer
from stages.lm.device import autocast
from stages.lm.layout import Layout, Segment
from stages.lm.loss import linear_logprobs


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


@dataclass(frozen=True)
class Rows:
    """Exchanges laid end to end in one row, no padding, and which of their tokens are answers: K of T.

    What the exchanges of a group begin with, their prompt, stands in the row once.
    """

    tokens: Tensor  # [1, T] int64
    layout: Layout
    before: Tensor  # [K] where in the row the token stands that predicts each token of an answer
    places: Tensor  # [K] where that token itself stands; -1 for a last one that isn't in the row
    targets: Tensor  # [K] its id
    owners: Tensor  # [K] number of its exchange
    exchanges: int

    def sums(self, values: Tensor) -> Tensor:
        """[K] → the sum over each exchange, [exchanges]."""
        return values.new_zeros(self.exchanges).index_add(0, self.owners, values)

    @property
    def lengths(self) -> Tensor:
        """Tokens of each exchange's answers, [exchanges] float32."""
        return self.sums(torch.ones(len(self.owners), device=self.owners.device))


def lay_out(groups: Sequence[Sequence[Exchange]], home: torch.device, *, ends: bool = False) -> Rows:
    """A batch as one row. The exchanges of a group share the tokens up to where the first of them differs, short of
    its answers; each of the rest sees those and its own. `ends`: the last token of each exchange is read as well, which
    predicts nothing.
    """
    tokens: list[int] = []
    segments: list[Segment] = []
    before, places, targets, owners = (list[int]() for _ in range(4))
    owner = 0
    for group in groups:
        shared = _shared(group) if len(group) > 1 else 0
        trunk = Segment(len(tokens), len(tokens) + shared)
        if shared:
            tokens += group[0].ids[:shared]
            segments.append(trunk)
        for exchange in group:
            start, end = len(tokens), len(exchange) if ends else len(exchange) - 1
            tokens += exchange.ids[shared:end]
            if len(tokens) > start:
                segments.append(Segment(start, len(tokens), trunk.start if shared else 0, trunk.end if shared else 0))

            def place(at: int, start: int = start, shared: int = shared, trunk: Segment = trunk) -> int:
                return trunk.start + at if at < shared else start + at - shared

            for first, last in (*exchange.earlier, (exchange.start, len(exchange))):
                before += [place(at - 1) for at in range(first, last)]
                places += [place(at) if at < end else -1 for at in range(first, last)]
                targets += exchange.ids[first:last]
                owners += [owner] * (last - first)
            owner += 1
    at, own, wanted, whose = (torch.tensor(values, device=home) for values in (before, places, targets, owners))
    return Rows(torch.tensor([tokens], device=home), Layout.of(segments, home), at, own, wanted, whose, owner)


def token_logprobs(model: LanguageModel, rows: Rows) -> Tensor:
    """Log-probability of each token of the answers, [K] in nats, differentiable."""
    with autocast():
        hidden = model.hidden(rows.tokens, layout=rows.layout)[0, rows.before]
        return linear_logprobs(hidden, model.head_weight, rows.targets)


def answer_logprobs(model: LanguageModel, rows: Rows) -> Tensor:
    """Sum of the log-probabilities of each exchange's answers, [exchanges] in nats, differentiable."""
    return rows.sums(token_logprobs(model, rows))


def _shared(group: Sequence[Exchange]) -> int:
    """How many tokens all begin with, before any answer."""
    most = min(exchange.earlier[0][0] if exchange.earlier else exchange.start for exchange in group)
    first, last = min(exchange.ids[:most] for exchange in group), max(exchange.ids[:most] for exchange in group)
    return next((at for at in range(most) if first[at] != last[at]), most)


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
