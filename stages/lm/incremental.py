"""Models that read a batch of prompts and then go on token by token: what decoding and scoring with a cache run on.

A step of a small batch is mostly overhead when it goes through the modules: casts, masks and copies of the cache at
each layer. `IncrementalDecoder` lays the weights out once and computes what `Decoder` does with them.

On a CPU a row's result is bitwise the same in any batch: matrix products have at least `MIN_ROWS` rows, each prompt
attends to itself alone and without padding, and later attention spans whole vector registers (`KeyValueCache`).
"""

import copy
from collections.abc import Iterator
from itertools import groupby
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pack_sequence

from stages.lm.build import LanguageModel
from stages.lm.cache import KeyValueCache
from stages.lm.device import autocast, compute_dtype
from stages.lm.lstm import LSTMLanguageModel
from stages.lm.transformer import Block, Decoder

MIN_ROWS = 4  # kernels for fewer rows sum in another order
PREFILL_TOKENS = 1024  # read at a time: enough for the matrix products, few enough for a core's cache


class IncrementalModel(Protocol):
    def read(self, prompts: list[list[int]]) -> Tensor:
        """Start a batch. Hidden states [B, C] of the prompts' ends."""

    def step(self, tokens: Tensor) -> Tensor:
        """Read one more token of each row, [B]. Hidden states [B, C]."""

    def select(self, rows: list[int]) -> None:
        """Go on with these rows only, in this order."""

    def logits(self, hidden: Tensor) -> Tensor:
        """[B, V], fp32."""


def incremental(model: LanguageModel) -> IncrementalModel:
    """What reads as `model` does; its weights as they are now."""
    return IncrementalDecoder(model) if isinstance(model, Decoder) else IncrementalLSTM(model)


class PackedLinear:
    """x [M, in] → [M, out], with the weight in the dtype of the computation.

    On a CPU in the blocks that oneDNN's kernels read (as inductor lays out frozen weights): 1.1x to 1.8x faster than
    row by row at 8 to 32 rows, more where weights come from memory, for a second copy of the weight.
    """

    def __init__(self, weight: Tensor, dtype: torch.dtype, bias: Tensor | None = None) -> None:
        self.bias = None if bias is None else bias.detach().to(dtype)
        self.weight, self.dtype, self.on_cpu = weight.detach().to(dtype), dtype, weight.device.type == "cpu"
        self.packed = self.on_cpu and dtype == torch.float32 and torch.backends.mkldnn.is_available()
        if self.packed:
            self.weight = torch.ops.mkldnn._reorder_linear_weight(self.weight, 32)

    def __call__(self, x: Tensor) -> Tensor:
        rows = x.shape[0]
        if self.on_cpu and rows < MIN_ROWS:
            return self._product(F.pad(x, (0, 0, 0, MIN_ROWS - rows)))[:rows]
        return self._product(x)

    def _product(self, x: Tensor) -> Tensor:
        if self.packed:
            return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], None)
        return F.linear(x.to(self.dtype), self.weight, self.bias)


class RootMeanSquare:
    """RMSNorm over the last dimension, x · weight · sqrt(size) / sqrt(|x|² + size · eps).

    By way of the Euclidean norm it is 2x faster than `F.rms_norm` on a CPU at 32 rows and 10x at 1,024.
    """

    def __init__(self, weight: Tensor, eps: float) -> None:
        size = weight.shape[-1]
        self.weight, self.least = weight.detach() * size**0.5, torch.tensor((size * eps) ** 0.5, device=weight.device)

    def __call__(self, x: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        return (x * self.weight).div_(torch.hypot(norm, self.least))


class IncrementalBlock:
    """The weights of one block."""

    def __init__(self, block: Block, dtype: torch.dtype) -> None:
        attention, mlp = block.self_attn, block.mlp
        self.input_norm = RootMeanSquare(block.input_layernorm.weight, block.input_layernorm.eps)
        self.feed_forward_norm = RootMeanSquare(
            block.post_attention_layernorm.weight, block.post_attention_layernorm.eps
        )
        self.qkv = PackedLinear(attention.qkv_proj.weight, dtype, attention.qkv_proj.bias)
        self.out = PackedLinear(attention.o_proj.weight, dtype, attention.o_proj.bias)
        self.gate_up = PackedLinear(mlp.gate_up_proj.weight, dtype, mlp.gate_up_proj.bias)
        self.down = PackedLinear(mlp.down_proj.weight, dtype, mlp.down_proj.bias)
        self.rotated, self.activation = attention.rotated, mlp.activation
        query_scale = key_scale = torch.ones(attention.head_dim, device=attention.qkv_proj.weight.device)
        if attention.qk_norm:
            query_scale, key_scale = attention.q_norm, attention.k_norm
        # [query and key heads, D]; attention's own scale 1 / sqrt(D) is in it.
        self.head_scale = torch.cat(
            (
                (query_scale * attention.head_dim**-0.5).expand(attention.n_head, -1),
                key_scale.expand(attention.n_kv_head, -1),
            )
        )
        self.head_norm = RootMeanSquare(self.head_scale, attention.eps)


class IncrementalDecoder:
    def __init__(self, model: Decoder) -> None:
        self.config, self.embedding = model.config, model.embed_tokens.weight
        with autocast():
            self.dtype = compute_dtype(self.embedding)
        self.blocks = [IncrementalBlock(block, self.dtype) for block in model.layers]  # type: ignore[arg-type]
        self.final_norm = RootMeanSquare(model.norm.weight, model.norm.eps)
        self.head = PackedLinear(model.head_weight, self.dtype)
        cos, sin = model.get_buffer("cos"), model.get_buffer("sin")  # [max_seq_len, 1, D / 2]
        self.cos, self.sin = torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)

    def read(self, prompts: list[list[int]]) -> Tensor:
        home = self.embedding.device
        self.longest = max(map(len, prompts))
        self.cache = KeyValueCache(self.config, len(prompts), self.longest + 1, self.dtype, home)
        ends, first = [], 0
        for portion in _portions(prompts):
            ends.append(self._read_portion(portion, first))
            first += len(portion)
        # Of the last block only the prompts' ends are wanted.
        x, queries = (torch.cat(parts) for parts in zip(*ends, strict=True))
        self.positions = torch.tensor([len(prompt) - 1 for prompt in prompts], device=home)
        mixed = self.cache.attend(len(self.blocks) - 1, queries, self._bias(self.positions[:, None]))
        return self.final_norm(self.feed_forward(self.blocks[-1], x, mixed))

    def step(self, tokens: Tensor) -> Tensor:
        return self.read_on(tokens[:, None])[:, 0]

    def read_on(self, tokens: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Read more tokens of each row, [B, T], the first `lengths` [B] where given. Hidden states [B, T, C]."""
        batch, width = tokens.shape
        places = self.positions[:, None] + torch.arange(1, width + 1, device=tokens.device)
        self.positions = places[:, -1] if lengths is None else self.positions + lengths
        self.longest += width
        if self.longest > self.cache.length:
            self.cache.grow(batch, self.longest)
        bias, slots = self._bias(places), self.cache.slots(places)
        cos, sin = self.cos[places.flatten()], self.sin[places.flatten()]
        x = F.embedding(tokens.flatten(), self.embedding)
        for index, block in enumerate(self.blocks):
            queries, keys, values = self.heads(block, x, cos, sin)
            self.cache.append(index, keys, values, slots)
            x = self.feed_forward(block, x, self.cache.attend(index, queries, bias))
        return self.final_norm(x).view(batch, width, -1)

    def read_ragged(self, rests: list[list[int]]) -> Tensor:
        """Read more tokens of each row, of any number but 0. Hidden states [B, C] of the rows' ends."""
        home, width = self.positions.device, max(map(len, rests))
        tokens = torch.tensor([[*rest, *[0] * (width - len(rest))] for rest in rests], device=home)
        lengths = torch.tensor([len(rest) for rest in rests], device=home)
        return self.read_on(tokens, lengths)[torch.arange(len(rests), device=home), lengths - 1]

    def fork(self, rows: Tensor) -> "IncrementalDecoder":
        """A reader that goes on from these rows, several times from one where it is repeated; this one stays."""
        branch = copy.copy(self)
        branch.cache, branch.positions = self.cache.select(rows), self.positions[rows]
        return branch

    def select(self, rows: list[int]) -> None:
        index = torch.tensor(rows, device=self.positions.device)
        moved = torch.tensor([row for row, source in enumerate(rows) if row != source], device=index.device)
        if len(moved):
            self.cache.move(index[moved], moved)
        self.positions = self.positions[index]

    def logits(self, hidden: Tensor) -> Tensor:
        return self.head(hidden).float()

    def _read_portion(self, prompts: list[list[int]], first: int) -> tuple[Tensor, Tensor]:
        """Fill the cache's rows from row `first`. What enters the last block at the prompts' ends, and its queries.

        Prompts stand one after another, equal neighbours once. Attention is computed for all of one length together.
        """
        home = self.embedding.device
        distinct = [(prompt, len(list(copies))) for prompt, copies in groupby(prompts)]
        runs = [(n, [copies for _, copies in run]) for n, run in groupby(distinct, key=lambda one: len(one[0]))]
        positions = torch.cat([torch.arange(len(prompt), device=home) for prompt, _ in distinct])
        cos, sin = self.cos[positions], self.sin[positions]
        tokens = torch.tensor([token for prompt, _ in distinct for token in prompt], device=home)
        x = F.embedding(tokens, self.embedding)
        for index, block in enumerate(self.blocks):
            heads = self.heads(block, x, cos, sin)
            mixed, start, row = [], 0, first
            for length, counts in runs:
                end = start + length * len(counts)
                queries, keys, values = (part[start:end].unflatten(0, (-1, length)).transpose(1, 2) for part in heads)
                copies = torch.tensor(counts, device=home)
                rows = torch.repeat_interleave(copies)
                self.cache.prefill(index, keys[rows], values[rows], row)
                if block is not self.blocks[-1]:
                    mixed.append(_causal(queries, keys, values))
                start, row = end, row + len(rows)
            if block is not self.blocks[-1]:
                x = self.feed_forward(block, x, torch.cat(mixed))
        sizes = torch.tensor([len(prompt) for prompt, _ in distinct], device=home)
        copies = torch.tensor([count for _, count in distinct], device=home)
        ends = torch.repeat_interleave(sizes.cumsum(0) - 1, copies)
        return x[ends], heads[0][ends]

    def heads(self, block: IncrementalBlock, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries [N, heads, D], scaled, and keys and values [N, kv heads, D] of x [N, C]."""
        n_head, n_kv_head, size = self.config.n_head, self.config.n_kv_head, self.config.head_dim
        heads = block.qkv(block.input_norm(x)).unflatten(1, (-1, size))
        rotated, values = heads.split((n_head + n_kv_head, n_kv_head), dim=1)
        rotated = block.head_norm(rotated) if self.config.qk_norm else rotated * block.head_scale
        if block.rotated:
            rotated = torch.addcmul(rotated * cos, rotated.roll(size // 2, -1), sin)
        rotated = rotated.to(self.dtype)
        return *rotated.split((n_head, n_kv_head), dim=1), values

    def feed_forward(self, block: IncrementalBlock, x: Tensor, mixed: Tensor) -> Tensor:
        x = x + block.out(mixed)
        gate, up = block.gate_up(block.feed_forward_norm(x)).chunk(2, dim=-1)
        return x + block.down(block.activation(gate) * up)

    def _bias(self, places: Tensor) -> Tensor:
        """[B, 1, T, 1, length of the cache]: 0 up to each token's place [B, T], -inf after it."""
        columns = torch.arange(self.cache.length, device=places.device)
        bias = torch.zeros((*places.shape, len(columns)), dtype=self.dtype, device=columns.device)
        return bias.masked_fill_(columns > places[:, :, None], float("-inf"))[:, None, :, None]


class IncrementalLSTM:
    def __init__(self, model: LSTMLanguageModel) -> None:
        self.model = model

    def read(self, prompts: list[list[int]]) -> Tensor:
        rows = [torch.tensor(prompt, device=self.model.head_weight.device) for prompt in prompts]
        with autocast():
            packed = pack_sequence([self.model.embed_tokens(row) for row in rows], enforce_sorted=False)
            # Of every layer [layer, B, C]; a row's state is that of its last token.
            self.state = self.model.lstm(packed)[1]
            return self.model.norm(self.state[0][-1])

    def step(self, tokens: Tensor) -> Tensor:
        with autocast():
            out, self.state = self.model.lstm(self.model.embed_tokens(tokens[:, None]), self.state)
            return self.model.norm(out)[:, 0]

    def select(self, rows: list[int]) -> None:
        self.state = tuple(part[:, rows].contiguous() for part in self.state)

    def logits(self, hidden: Tensor) -> Tensor:
        with autocast():
            return self.model.logits(hidden).float()


def _causal(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Causal attention of whole prompts, [n, heads, T, D] → [n · T, heads · D]; the queries are already scaled."""
    grouped = queries.shape[1] != keys.shape[1]
    mixed = F.scaled_dot_product_attention(queries, keys, values, is_causal=True, scale=1.0, enable_gqa=grouped)
    return mixed.transpose(1, 2).flatten(0, 1).flatten(1)


def _portions(prompts: list[list[int]]) -> Iterator[list[list[int]]]:
    """Runs of prompts of about `PREFILL_TOKENS` tokens, equal neighbours counted once and never parted."""
    portion: list[list[int]] = []
    size = 0
    for prompt, copies in groupby(prompts):
        if portion and size + len(prompt) > PREFILL_TOKENS:
            yield portion
            portion, size = [], 0
        portion += copies
        size += len(prompt)
    yield portion
