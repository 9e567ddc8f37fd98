"""A batch whose rows join and leave between two tokens: continuous batching (Orca, Yu et al. 2022) of `lm.incremental`.

On a CPU a row computes the same bits whatever stands beside it (`lm.incremental`), so a request's tokens don't depend
on who else asks.
"""

import copy

import torch
from torch import Tensor

from stages.lm.build import LanguageModel
from stages.lm.cache import KeyValueCache
from stages.lm.generate import fill_gaps
from stages.lm.incremental import IncrementalDecoder, IncrementalLSTM, incremental

SPARE_ROWS = 8  # a cache that is laid out anew gets a multiple of so many rows


class Batch:
    """`hidden` [B, C] is where the rows stand: each waits for its next token."""

    def __init__(self, model: LanguageModel) -> None:
        self._weights = incremental(model)
        self._reader = self._weights
        self._lengths: list[int] = []  # tokens read of each row
        self.hidden: Tensor = model.head_weight.new_empty((0, 0))

    def __len__(self) -> int:
        return len(self._lengths)

    def logits(self) -> Tensor:
        """[B, V], fp32."""
        return self._reader.logits(self.hidden)

    def join(self, prompts: list[list[int]]) -> None:
        """Read prompts, none empty, as further rows behind those that are there."""
        fresh = copy.copy(self._weights)
        hidden = fresh.read(prompts)
        if not self._lengths:
            self._reader, self.hidden = fresh, hidden
        else:
            _append_rows(self._reader, fresh)
            self.hidden = torch.cat((self.hidden, hidden))
        self._lengths += map(len, prompts)

    def step(self, going: list[int], tokens: Tensor) -> list[int]:
        """Go on with these ascending rows only, each of which reads its token of `tokens` [B]. Where each of the rows
        that are left stood before: their order changes, as moving one costs a copy of its cache.
        """
        rows = going
        if len(going) < len(self._lengths):
            rows = fill_gaps(going)
            if not rows:
                self._lengths, self._reader = [], self._weights
                return rows
            self._reader.select(rows)
            tokens = tokens[torch.tensor(rows, device=tokens.device)]
            self._lengths = [self._lengths[row] for row in rows]
            if isinstance(self._reader, IncrementalDecoder):
                _trim(self._reader, max(self._lengths))
        self.hidden = self._reader.step(tokens)
        self._lengths = [length + 1 for length in self._lengths]
        return rows


def _append_rows(reader: object, fresh: object) -> None:
    if isinstance(reader, IncrementalLSTM) and isinstance(fresh, IncrementalLSTM):
        reader.state = tuple(torch.cat(parts, dim=1) for parts in zip(reader.state, fresh.state, strict=True))
        return
    assert isinstance(reader, IncrementalDecoder) and isinstance(fresh, IncrementalDecoder)
    _append_cache(reader.cache, fresh.cache, len(reader.positions), len(fresh.positions))
    reader.positions = torch.cat((reader.positions, fresh.positions))
    reader.longest = max(reader.longest, fresh.longest)


def _append_cache(cache: KeyValueCache, fresh: KeyValueCache, count: int, more: int) -> None:
    """Put the first `more` rows of `fresh` behind the first `count`; into spare rows where there are some."""
    length, rows = max(cache.length, fresh.length), count + more
    for layers, new in ((cache.keys, fresh.keys), (cache.values, fresh.values)):
        for index, old in enumerate(layers):
            if old.shape[0] < rows or old.shape[2] < length:
                room = -(-rows // SPARE_ROWS) * SPARE_ROWS
                layers[index] = old.new_zeros((room, old.shape[1], length, old.shape[3]))
                layers[index][:count, :, : old.shape[2]] = old[:count]
            layers[index][count:rows, :, : new[index].shape[2]] = new[index][:more]


def _trim(reader: IncrementalDecoder, longest: int) -> None:
    """Once the longest rows have left, no step should read the columns that only they had."""
    reader.longest, cache = longest, reader.cache
    enough = -(-(longest + 1) // cache.span) * cache.span
    if cache.length > 2 * enough:
        for layers in (cache.keys, cache.values):
            layers[:] = [layer[:, :, :enough].contiguous() for layer in layers]
