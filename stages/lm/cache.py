"""The keys and values of what a decoder has read, and attention over them by new tokens of each row."""

import copy

import torch
from torch import Tensor

from stages.lm.config import ModelConfig

SPAN = 16  # columns: a sum over a whole number of vector registers, 16 floats each, has one order at any length
LOOP = 400  # matrices with fewer multiplications are multiplied by another kernel of torch, in another order


class KeyValueCache:
    """Keys and values of every layer, each [B, kv heads, length, head size].

    A row stands at its own positions from 0 on, and the length is a multiple of `span`, so what a row computes doesn't
    depend on its neighbours' lengths. What lies behind it is finite, and masked: 0 times that adds nothing.
    """

    def __init__(
        self, config: ModelConfig, batch: int, length: int, dtype: torch.dtype, device: torch.device | str = "cpu"
    ) -> None:
        self.span = SPAN * -(-LOOP // (SPAN * config.n_head // config.n_kv_head * config.head_dim))
        shape = (batch, config.n_kv_head, self._whole(length), config.head_dim)
        self.keys = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(config.n_layer)]
        self.values = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(config.n_layer)]

    @property
    def length(self) -> int:
        return self.keys[0].shape[2]

    def select(self, rows: Tensor) -> "KeyValueCache":
        """A cache of copies of these batch rows, in this order."""
        chosen = copy.copy(self)
        chosen.keys, chosen.values = [keys[rows] for keys in self.keys], [values[rows] for values in self.values]
        return chosen

    def move(self, sources: Tensor, targets: Tensor) -> None:
        """Copy rows over others in place."""
        for layer in (*self.keys, *self.values):
            layer[targets] = layer[sources]

    def grow(self, batch: int, length: int) -> None:
        """Make room for `length` positions in each of the first `batch` rows, and keep no others.

        Decoding reads a layer from end to end at each token. A reserve behind every head would cost more than copying
        does: at 104 columns of 128 in use, attention takes 2.3 times as long as without a gap.
        """
        room = self._whole(max(length, self.length + self.length // 8))
        for layers in (self.keys, self.values):
            for index, old in enumerate(layers):
                layers[index] = new = old.new_empty((batch, old.shape[1], room, old.shape[3]))
                new[:, :, : old.shape[2]] = old[:batch]
                new[:, :, old.shape[2] :] = 0

    def prefill(self, layer: int, keys: Tensor, values: Tensor, first: int = 0) -> None:
        """Store keys and values [n, kv heads, T, D] of rows first .. first + n - 1 at positions 0 .. T - 1."""
        rows, length = slice(first, first + keys.shape[0]), keys.shape[2]
        self.keys[layer][rows, :, :length] = keys
        self.values[layer][rows, :, :length] = values

    def slots(self, positions: Tensor) -> Tensor:
        """Where `append` puts what stands at positions [B, T]: indices of vectors in a layer, [B · T · kv heads]."""
        batch, heads = positions.shape[0], self.keys[0].shape[1]
        starts = torch.arange(batch * heads, device=positions.device).view(batch, 1, heads) * self.length
        return (starts + positions[:, :, None]).flatten()

    def append(self, layer: int, keys: Tensor, values: Tensor, slots: Tensor) -> None:
        """Store keys and values [B · T, kv heads, D] of the first B rows' new tokens in their slots."""
        size = keys.shape[-1]
        self.keys[layer].view(-1, size).index_copy_(0, slots, keys.reshape(-1, size))
        self.values[layer].view(-1, size).index_copy_(0, slots, values.reshape(-1, size))

    def attend(self, layer: int, queries: Tensor, bias: Tensor) -> Tensor:
        """Attention of T scaled queries a row, [B · T, heads, D], over the first B rows: [B · T, heads · D].

        bias [B, 1, T, 1, length] is 0 for the columns that a query sees, else -inf. Two products over views of the
        cache, with the queries of one key head as the rows of a matrix: with one query a row nothing is copied.
        """
        batch, length = bias.shape[0], bias.shape[2]
        heads, size = queries.shape[1:]
        keys, values = self.keys[layer][:batch].flatten(0, 1), self.values[layer][:batch].flatten(0, 1)
        grouped = queries.view(batch, length, self.keys[layer].shape[1], -1, size).transpose(1, 2)
        scores = torch.bmm(grouped.reshape(len(keys), -1, size), keys.transpose(1, 2))
        scores.view(*grouped.shape[:-1], -1).add_(bias)
        weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(values.dtype)
        return torch.bmm(weights, values).view(grouped.shape).transpose(1, 2).reshape(batch * length, heads * size)

    def _whole(self, length: int) -> int:
        return -(-length // self.span) * self.span
