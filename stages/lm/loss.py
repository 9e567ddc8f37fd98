"""Cross-entropy of a linear output layer without the logits of all positions at once.

At vocabulary V the naive path keeps [N, V] logits, their softmax and its gradient. Here a chunk of rows at a time is
multiplied, reduced and, in the same pass, turned into its gradient, so that memory is [chunk, V] (the idea of Cut
Cross-Entropy, Wijmans et al. 2024, and of the Liger kernels, Hsu et al. 2024).
"""

from typing import Any

import torch
from torch import Tensor

CHUNK = 512


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx, hidden: Tensor, weight: Tensor, targets: Tensor, weights: Tensor | None, chunk: int, training: bool
    ) -> Tensor:
        if hidden.is_cuda and torch.is_autocast_enabled():
            hidden, weight = hidden.to(torch.get_autocast_dtype("cuda")), weight.to(torch.get_autocast_dtype("cuda"))
        want_hidden, want_weight = (training and needed for needed in ctx.needs_input_grad[:2])
        grad_hidden = torch.empty_like(hidden) if want_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if want_weight else None
        total = torch.zeros((), dtype=torch.float64, device=hidden.device)
        for start in range(0, hidden.shape[0], chunk):
            part, target = hidden[start : start + chunk], targets[start : start + chunk, None]
            logits = (part @ weight.T).float()
            log_normaliser = logits.logsumexp(dim=1, keepdim=True)
            losses = log_normaliser - logits.gather(1, target)
            share = None if weights is None else weights[start : start + chunk, None]
            total += (losses if share is None else losses * share).sum()
            if want_hidden or want_weight:
                gradient = logits.sub_(log_normaliser).exp_()
                gradient.scatter_add_(1, target, torch.full_like(losses, -1.0))
                if share is not None:
                    gradient.mul_(share)
                gradient = gradient.to(hidden.dtype)
                if grad_hidden is not None:
                    torch.mm(gradient, weight, out=grad_hidden[start : start + chunk])
                if grad_weight is not None:
                    if gradient.dtype == torch.float32:
                        grad_weight.addmm_(gradient.T, part)
                    else:
                        grad_weight += gradient.T @ part
        ctx.save_for_backward(grad_hidden, grad_weight)
        return total.float()

    @staticmethod
    def backward(ctx, upstream: Tensor):
        grad_hidden, grad_weight = ctx.saved_tensors
        return (
            None if grad_hidden is None else grad_hidden * upstream,
            None if grad_weight is None else grad_weight * upstream,
            None,
            None,
            None,
            None,
        )


def linear_cross_entropy(
    hidden: Tensor, weight: Tensor, targets: Tensor, weights: Tensor | None = None, chunk: int = CHUNK
) -> Tensor:
    """Sum over rows of weights[i] · −log softmax(hidden[i] @ weightᵀ)[targets[i]], in nats, as a float32 scalar.

    hidden [N, C], weight [V, C], targets [N] int64, weights [N] or None for all ones (not differentiated).
    """
    # Inside forward() gradients are always off, so whether they are wanted has to be asked here.
    return _LinearCrossEntropy.apply(hidden, weight, targets, weights, chunk, torch.is_grad_enabled())


class _LinearLogProb(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden: Tensor, weight: Tensor, targets: Tensor, chunk: int) -> Tensor:
        if hidden.is_cuda and torch.is_autocast_enabled():
            hidden, weight = hidden.to(torch.get_autocast_dtype("cuda")), weight.to(torch.get_autocast_dtype("cuda"))
        normalisers, out = [], []
        for start in range(0, hidden.shape[0], chunk):
            logits = (hidden[start : start + chunk] @ weight.T).float()
            normaliser = logits.logsumexp(dim=1, keepdim=True)
            out.append(logits.gather(1, targets[start : start + chunk, None]) - normaliser)
            normalisers.append(normaliser)
        empty = hidden.new_zeros((0, 1), dtype=torch.float32)
        normaliser = torch.cat(normalisers) if normalisers else empty
        ctx.save_for_backward(hidden, weight, targets, normaliser)
        ctx.chunk = chunk
        return (torch.cat(out) if out else empty).squeeze(1)

    @staticmethod
    def backward(ctx, upstream: Tensor):
        hidden, weight, targets, normaliser = ctx.saved_tensors
        grad_hidden = torch.empty_like(hidden)
        grad_weight = torch.zeros_like(weight, dtype=torch.float32)
        for start in range(0, hidden.shape[0], ctx.chunk):
            rows = slice(start, start + ctx.chunk)
            part, scale = hidden[rows], upstream[rows, None].float()
            gradient = (part @ weight.T).float().sub_(normaliser[rows]).exp_().mul_(-scale)
            gradient.scatter_add_(1, targets[rows, None], scale)
            gradient = gradient.to(hidden.dtype)
            grad_hidden[rows] = gradient @ weight
            grad_weight += gradient.T @ part
        return grad_hidden, grad_weight, None, None


def linear_logprobs(hidden: Tensor, weight: Tensor, targets: Tensor, chunk: int = CHUNK) -> Tensor:
    """log softmax(hidden[i] @ weightᵀ)[targets[i]] for each row, [N] float32; differentiable in hidden and weight."""
    return _LinearLogProb.apply(hidden, weight, targets, chunk)


def next_token_loss(
    model: Any, rows: Tensor, mask: Tensor | None, micro_rows: int | None = None
) -> tuple[Tensor, dict[str, float]]:
    """Mean next-token loss of rows [B, T + 1] over the targets that count, for `loop.train`.

    mask [B, T + 1] (or None: all) says which tokens count as targets; column 0 never does. With `micro_rows`, all but
    the last micro-batch are backpropagated here and their gradients accumulate; each is divided by the whole batch's
    token count, so the gradient is that of the big batch whatever the split.
    """
    size = micro_rows or rows.shape[0]
    count = rows[:, 1:].numel() if mask is None else int(mask[:, 1:].sum())
    total = 0.0
    loss = torch.zeros((), device=rows.device)
    for start in range(0, rows.shape[0], size):
        part = rows[start : start + size]
        hidden = model.hidden(part[:, :-1])
        weights = None if mask is None else mask[start : start + size, 1:].reshape(-1).float()
        loss = linear_cross_entropy(
            hidden.reshape(-1, hidden.shape[-1]), model.head_weight, part[:, 1:].reshape(-1), weights
        ) / max(count, 1)
        total += loss.item()
        if start + size < rows.shape[0]:
            loss.backward()
    return loss, {"loss": total, "tokens": float(count)}
