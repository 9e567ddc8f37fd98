"""Causal attention for training on a CPU: blocks of queries against the keys up to them, by batched matrix products.

torch's flash kernel for CPUs keeps no [T, T] matrix, but its backward runs far below the rate of matrix products: at
T = 256 and 32 dimensions a head, forward and backward take a third of its time in bf16 and about the same in fp32 (in
fp32 at 64 dimensions, two thirds). Rows of the lengths that one trains on a CPU can afford to keep their probabilities:
B·H·T²/2 numbers a layer. Half of the products above the diagonal are never computed.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.lm.layout import Segment

BLOCK = 64  # queries; of 64, 128 and 256 the fastest in fp32, and as fast as 128 in bf16
LONGEST = 2048  # tokens in a row; beyond them the probabilities are too many to keep


class _BlockCausalAttention(torch.autograd.Function):
    """Scaled queries, keys and values [N, T, D], N = B·H → [N, T, D]. The segments cover the T positions."""

    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, values: Tensor, segments: tuple[Segment, ...]) -> Tensor:
        mixed = torch.empty_like(queries)
        future = torch.full((BLOCK, BLOCK), float("-inf"), dtype=queries.dtype).triu_(1)
        kept = []
        for start, end, seen in _blocks(segments):
            size = end - start
            scores = torch.bmm(queries[:, start:end], _taken(keys, seen).mT)
            scores[:, :, -size:].add_(future[:size, :size])
            kept.append(torch.softmax(scores, dim=-1))
            mixed[:, start:end] = torch.bmm(kept[-1], _taken(values, seen))
        ctx.save_for_backward(queries, keys, values, *kept)
        ctx.segments = segments
        return mixed

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:  # type: ignore[override]
        queries, keys, values, *kept = ctx.saved_tensors
        grad_queries, grad_keys, grad_values = (
            torch.empty_like(queries),
            torch.zeros_like(keys),
            torch.zeros_like(values),
        )
        for (start, end, seen), weights in zip(_blocks(ctx.segments), kept, strict=True):
            part = upstream[:, start:end]
            through = torch.bmm(part, _taken(values, seen).mT)
            through = torch._softmax_backward_data(through, weights, -1, weights.dtype)
            _add(grad_values, seen, torch.bmm(weights.mT, part))
            _add(grad_keys, seen, torch.bmm(through.mT, queries[:, start:end]))
            grad_queries[:, start:end] = torch.bmm(through, _taken(keys, seen))
        return grad_queries, grad_keys, grad_values, None


Spans = tuple[tuple[int, int], ...]


def _blocks(segments: tuple[Segment, ...]) -> Iterator[tuple[int, int, Spans]]:
    """(start, end) of at most BLOCK queries, and the spans of keys that they see, their own last."""
    for segment in segments:
        for start in range(segment.start, segment.end, BLOCK):
            end = min(start + BLOCK, segment.end)
            if not segment.prefix:
                yield start, end, ((segment.start, end),)
            elif segment.prefix_end == segment.start:
                yield start, end, ((segment.prefix_start, end),)
            else:
                yield start, end, ((segment.prefix_start, segment.prefix_end), (segment.start, end))


def _taken(rows: Tensor, spans: Spans) -> Tensor:
    parts = [rows[:, start:end] for start, end in spans]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def _add(rows: Tensor, spans: Spans, values: Tensor) -> None:
    at = 0
    for start, end in spans:
        rows[:, start:end] += values[:, at : at + end - start]
        at += end - start


def causal_attention(
    queries: Tensor, keys: Tensor, values: Tensor, segments: tuple[Segment, ...] | None = None
) -> Tensor:
    """softmax(QKᵀ / √D) V over the positions up to each one's own; with `segments`, over those that its segment sees.

    Queries [B, H, T, D], keys and values [B, H_kv, T, D] → [B, H, T, D].

    H is a multiple of H_kv (grouped queries, Ainslie et al. 2023).
    """
    grouped = queries.shape[1] // keys.shape[1]
    batch, heads, length, size = queries.shape
    longest = length if segments is None else max(one.prefix + one.end - one.start for one in segments)
    if queries.is_cuda or longest > LONGEST or not torch.is_grad_enabled():
        if segments is None:
            return F.scaled_dot_product_attention(queries, keys, values, is_causal=True, enable_gqa=grouped > 1)
        return torch.cat([_one_segment(queries, keys, values, one, grouped > 1) for one in segments], dim=2)
    if grouped > 1:
        keys, values = keys.repeat_interleave(grouped, dim=1), values.repeat_interleave(grouped, dim=1)
    flat = (batch * heads, length, size)
    parts = (queries * size**-0.5).reshape(flat), keys.reshape(flat), values.reshape(flat)
    return _BlockCausalAttention.apply(*parts, segments or (Segment(0, length),)).view(queries.shape)


def _one_segment(queries: Tensor, keys: Tensor, values: Tensor, segment: Segment, grouped: bool) -> Tensor:
    own = queries[:, :, segment.start : segment.end]
    if not segment.prefix:
        span = slice(segment.start, segment.end)
        return F.scaled_dot_product_attention(
            own, keys[:, :, span], values[:, :, span], is_causal=True, enable_gqa=grouped
        )
    size = segment.end - segment.start
    spans = slice(segment.prefix_start, segment.prefix_end), slice(segment.start, segment.end)
    seen = torch.ones((size, segment.prefix + size), dtype=torch.bool, device=queries.device).tril(segment.prefix)
    keys, values = (torch.cat([rows[:, :, span] for span in spans], dim=2) for rows in (keys, values))
    return F.scaled_dot_product_attention(own, keys, values, attn_mask=seen, enable_gqa=grouped)
