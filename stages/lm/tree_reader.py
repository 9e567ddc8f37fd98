"""Reads trees of tokens behind trunks: what `prefixes.Plan` lays out, on a decoder's weights as `incremental` has them.

The matrix products see a step's tokens one after another, without padding. A token attends to the trunk, which is
there once for all, and to its own ancestors; the two results are joined by their normalisers, as flash attention joins
blocks (Dao et al. 2022; for shared prefixes Juravsky et al. 2024, "Hydragen").
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stages.lm.incremental import IncrementalDecoder
from stages.lm.prefixes import Plan, Reading, Step

CHUNK = 1024  # tokens of a trunk that are read at a time
ROUND = 16  # trees whose lengths are equal when rounded up to this attend together


@dataclass
class Group:
    """Trees of about one length. index [B, T]: their tokens among a step's, a tree's last one repeated as padding;
    real [B, T]: which aren't padding; bias [B, 1, T, T] to add to scores, None where all are chains.
    """

    index: Tensor
    real: Tensor
    bias: Tensor | None


class TreeReader:
    """Holds the keys and values of the trunks that it last stood behind, of whatever plan: read again or still held,
    they are bitwise the same.
    """

    def __init__(self, decoder: IncrementalDecoder) -> None:
        self.decoder, self.home = decoder, decoder.embedding.device
        self.kinds = decoder.config.n_kv_head, decoder.config.n_head // decoder.config.n_kv_head
        self.held: list[bytes] = []  # tokens of each trunk
        self.depth = 0
        empty = torch.empty((self.kinds[0], 0, decoder.config.head_dim), dtype=decoder.dtype, device=self.home)
        self.keys = [empty for _ in decoder.blocks]
        self.values = [empty for _ in decoder.blocks]

    def read(self, plan: Plan, step: Step) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(slots, log-probabilities of the targets, the likeliest tokens) of what a step is asked for."""
        self._stand_behind([plan.trunk(trunk) for trunk in step.path])
        reading = plan.reading(step)
        hidden = self._trunk(reading) if step.trunk else self._trees(reading, reading.nodes)
        return reading.slots, *self._scores(hidden, reading)

    def _stand_behind(self, path: list[np.ndarray]) -> None:
        """Keep the trunks that `path` begins with, and read the others."""
        kept = depth = 0
        for tokens, held in zip(path, self.held, strict=False):
            if tokens.tobytes() != held:
                break
            kept, depth = kept + 1, depth + len(tokens)
        self.held, self.depth = self.held[:kept], depth
        for layers in (self.keys, self.values):
            for index, old in enumerate(layers):
                layers[index] = old[:, :depth]
        for tokens in path[kept:]:
            size, none = len(tokens), np.empty(0, np.int64)
            places, ends = np.arange(self.depth, self.depth + size), np.full(size, size)
            self._trunk(Reading(tokens, places, ends, [0, size], none, none, none, none))

    def _trunk(self, reading: Reading) -> Tensor:
        """Read a chain, keep its keys and values. Hidden states at `nodes` [n, C]."""
        found = []
        for start in range(0, len(reading.tokens), CHUNK):
            end = min(start + CHUNK, len(reading.tokens))
            part, size = slice(start, end), end - start
            wanted = reading.nodes[(reading.nodes >= start) & (reading.nodes < end)] - start
            chain = Reading(
                reading.tokens[part], reading.positions[part], np.full(size, size), [0, size],
                wanted, reading.rows, reading.targets, reading.slots,
            )  # fmt: skip
            found.append(self._trees(chain, wanted, keep=True))
        self.held.append(reading.tokens.tobytes())
        self.depth += len(reading.tokens)
        return torch.cat(found)

    def _trees(self, reading: Reading, nodes: np.ndarray, keep: bool = False) -> Tensor:
        decoder, home = self.decoder, self.home
        groups = [_group(reading, members, chains, home) for chains, members in _by_length(reading)]
        positions = torch.from_numpy(reading.positions).to(home)
        cos, sin = decoder.cos[positions], decoder.sin[positions]
        wanted = torch.from_numpy(nodes).to(home)
        x = F.embedding(torch.from_numpy(reading.tokens.astype(np.int64)).to(home), decoder.embedding)
        for index, block in enumerate(decoder.blocks):
            queries, keys, values = decoder.heads(block, x, cos, sin)
            last = block is decoder.blocks[-1]
            if not last or len(wanted):
                mixed = self._attend(index, queries, keys, values, groups)
            if keep:
                self.keys[index] = torch.cat((self.keys[index], keys.transpose(0, 1)), dim=1)
                self.values[index] = torch.cat((self.values[index], values.transpose(0, 1)), dim=1)
            if not last:
                x = decoder.feed_forward(block, x, mixed)
        if not len(wanted):
            return x[:0]
        return decoder.final_norm(decoder.feed_forward(decoder.blocks[-1], x[wanted], mixed[wanted]))

    def _attend(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor, groups: list[Group]) -> Tensor:
        """Queries [N, heads, D], keys and values [N, kv heads, D] → [N, heads · D]."""
        n_kv, copies = self.kinds
        size, count = queries.shape[-1], len(queries)
        grouped = queries.view(count, n_kv, copies, size)
        mixed = torch.empty_like(grouped)
        normaliser = torch.empty((count, n_kv, copies), dtype=torch.float32, device=self.home)
        for group in groups:
            batch, length = group.index.shape
            # [B · kv heads, copies, T, D]
            own = grouped[group.index].permute(0, 2, 3, 1, 4).reshape(-1, copies, length, size)
            both = [part[group.index].transpose(1, 2).reshape(-1, 1, length, size) for part in (keys, values)]
            bias = None
            if group.bias is not None:
                bias = group.bias.expand(batch, n_kv, length, length).reshape(-1, 1, length, length)
            out, logs = _attention(own, both[0].expand_as(own), both[1].expand_as(own), bias, causal=bias is None)
            places = group.index[group.real]
            mixed[places] = out.view(batch, n_kv, copies, length, size).permute(0, 3, 1, 2, 4)[group.real]
            normaliser[places] = logs.view(batch, n_kv, copies, length).permute(0, 3, 1, 2)[group.real]
        if self.keys[layer].shape[1]:
            held = [part[layer][:, None].expand(-1, copies, -1, -1) for part in (self.keys, self.values)]
            out, logs = _attention(grouped.permute(1, 2, 0, 3), held[0], held[1], None, causal=False)
            share = torch.sigmoid(logs.permute(2, 0, 1) - normaliser)[..., None].to(mixed.dtype)
            mixed = torch.lerp(mixed, out.permute(2, 0, 1, 3), share)
        return mixed.view(count, -1)

    def _scores(self, hidden: Tensor, reading: Reading) -> tuple[np.ndarray, np.ndarray]:
        values = np.empty(len(reading.rows), np.float32)
        likeliest = np.empty(len(reading.rows), np.int64)
        order = np.argsort(reading.rows, kind="stable")
        bounds = np.searchsorted(reading.rows[order], np.arange(0, len(hidden) + HEAD_ROWS, HEAD_ROWS))
        for number, start in enumerate(range(0, len(hidden), HEAD_ROWS)):
            logits = self.decoder.logits(hidden[start : start + HEAD_ROWS])
            chosen = order[bounds[number] : bounds[number + 1]]
            rows = torch.from_numpy(reading.rows[chosen] - start).to(self.home)
            targets = torch.from_numpy(reading.targets[chosen].astype(np.int64)).to(self.home)
            found, best = logits[rows, targets], logits.argmax(dim=1)[rows]
            values[chosen] = (found - logits.logsumexp(dim=1)[rows]).cpu().numpy()
            likeliest[chosen] = best.cpu().numpy()
        return values, likeliest


HEAD_ROWS = 256  # positions at a time that are multiplied with the vocabulary


def _by_length(reading: Reading) -> list[tuple[bool, list[tuple[int, int]]]]:
    """(start, end) of trees whose rounded lengths are equal: chains, and apart from them others."""
    groups: dict[tuple[int, bool], list[tuple[int, int]]] = {}
    for start, end in zip(reading.starts, reading.starts[1:], strict=False):
        chain = bool((reading.ends[start:end] == end).all())
        groups.setdefault((-(-(end - start) // ROUND), chain), []).append((start, end))
    return [(chains, members) for (_, chains), members in groups.items()]


def _group(reading: Reading, members: list[tuple[int, int]], chains: bool, home: torch.device) -> Group:
    starts, ends = (torch.tensor(part)[:, None] for part in zip(*members, strict=True))
    columns = torch.arange(int((ends - starts).max()))
    index = torch.minimum(starts + columns, ends - 1)
    below = torch.from_numpy(reading.ends)[index] - starts  # [B, T]
    bias = None
    if not chains:
        # Column c is an ancestor of row r, or r itself, where it stands no later and r is below it.
        seen = (columns <= columns[:, None]) & (columns[:, None] < below[:, None, :])
        seen |= columns == columns[:, None]  # padding sees itself
        bias = torch.zeros(seen.shape).masked_fill_(~seen, float("-inf"))[:, None].to(home)
    return Group(index.to(home), (columns < ends - starts).to(home), bias)


def _attention(
    queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None, causal: bool
) -> tuple[Tensor, Tensor]:
    """Attention of scaled queries [B, H, T, D] and the log-normaliser of each, [B, H, T]."""
    if queries.device.type == "cpu" and queries.dtype == torch.float32:
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            queries, keys, values, 0.0, causal, attn_mask=bias, scale=1.0
        )
    scores = (queries @ keys.transpose(-1, -2)).float()
    if causal:
        scores += torch.full(scores.shape[-2:], float("-inf"), device=scores.device).triu_(1)
    elif bias is not None:
        scores += bias
    return scores.softmax(dim=-1).to(values.dtype) @ values, scores.logsumexp(dim=-1)
