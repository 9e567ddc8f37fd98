"""Causal attention for training on a CPU: blocks of queries against the keys up to them, by batched matrix products.

torch's flash kernel for CPUs keeps no [T, T] matrix, but its backward runs far below the rate of matrix products: at
T = 256 and 32 dimensions a head, forward and backward take a third of its time in bf16 and about the same in fp32 (in
fp32 at 64 dimensions, two thirds). Rows of the lengths that one trains on a CPU can afford to keep their probabilities:
B·H·T²/2 numbers a layer. Half of the products above the diagonal are never computed.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 64  # queries; of 64, 128 and 256 the fastest in fp32, and as fast as 128 in bf16
LONGEST = 2048  # tokens in a row; beyond them the probabilities are too many to keep


class _BlockCausalAttention(torch.autograd.Function):
    """Scaled queries, keys and values [N, T, D], N = B·H → [N, T, D]."""

    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        mixed = torch.empty_like(queries)
        future = torch.full((BLOCK, BLOCK), float("-inf"), dtype=queries.dtype).triu_(1)
        kept = []
        for start, end in _blocks(queries.shape[1]):
            scores = torch.bmm(queries[:, start:end], keys[:, :end].mT)
            scores[:, :, start:].add_(future[: end - start, : end - start])
            kept.append(torch.softmax(scores, dim=-1))
            mixed[:, start:end] = torch.bmm(kept[-1], values[:, :end])
        ctx.save_for_backward(queries, keys, values, *kept)
        return mixed

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        queries, keys, values, *kept = ctx.saved_tensors
        grad_queries, grad_keys, grad_values = (
            torch.empty_like(queries),
            torch.zeros_like(keys),
            torch.zeros_like(values),
        )
        for (start, end), weights in zip(_blocks(queries.shape[1]), kept, strict=True):
            part = upstream[:, start:end]
            through = torch._softmax_backward_data(torch.bmm(part, values[:, :end].mT), weights, -1, weights.dtype)
            grad_values[:, :end] += torch.bmm(weights.mT, part)
            grad_keys[:, :end] += torch.bmm(through.mT, queries[:, start:end])
            grad_queries[:, start:end] = torch.bmm(through, keys[:, :end])
        return grad_queries, grad_keys, grad_values


def _blocks(length: int) -> list[tuple[int, int]]:
    return [(start, min(start + BLOCK, length)) for start in range(0, length, BLOCK)]


def causal_attention(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """softmax(QKᵀ / √D) V over the positions up to each one's own.

    Queries [B, H, T, D], keys and values [B, H_kv, T, D] → [B, H, T, D].

    H is a multiple of H_kv (grouped queries, Ainslie et al. 2023).
    """
    grouped = queries.shape[1] // keys.shape[1]
    batch, heads, length, size = queries.shape
    if queries.is_cuda or length > LONGEST or not torch.is_grad_enabled():
        return F.scaled_dot_product_attention(queries, keys, values, is_causal=True, enable_gqa=grouped > 1)
    if grouped > 1:
        keys, values = keys.repeat_interleave(grouped, dim=1), values.repeat_interleave(grouped, dim=1)
    flat = (batch * heads, length, size)
    mixed = _BlockCausalAttention.apply((queries * size**-0.5).reshape(flat), keys.reshape(flat), values.reshape(flat))
    return mixed.view(queries.shape)
