"""Cross-entropy of a linear output layer without the logits of all positions at once.

At vocabulary V the naive path keeps [N, V] logits, their softmax and its gradient. Here a chunk of rows at a time is
multiplied, reduced and, in the same pass, turned into its gradient, so that memory is [chunk, V] (the idea of Cut
Cross-Entropy, Wijmans et al. 2024, and of the Liger kernels, Hsu et al. 2024).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from stages.lm import distributed
from stages.lm.device import compute_dtype

# Rows at once: on a CPU what stays in its cache; on CUDA more, as the gradient of the head is read and written once a
# chunk.
CHUNK = {"cpu": 512, "cuda": 8192}

# (logits [n, V], targets [n, 1], z_loss) → losses [n, 1] in fp32, and their gradient [n, V] in the logits' dtype
Kernel = Callable[[Tensor, Tensor, float], tuple[Tensor, Tensor]]


def chunk_kernel(logits: Tensor, target: Tensor, z_loss: float) -> tuple[Tensor, Tensor]:
    """The losses of a chunk and their gradient, written to be compiled: three passes over the logits. Eagerly,
    `_InPlace` is faster.
    """
    wide = logits.float()
    highest = wide.amax(dim=1, keepdim=True)
    exponentials = (wide - highest).exp()
    normaliser = exponentials.sum(dim=1, keepdim=True)
    log_normaliser = highest + normaliser.log()
    losses = log_normaliser - wide.gather(1, target) + z_loss * log_normaliser.square()
    chosen = torch.arange(logits.shape[1], device=logits.device)[None] == target
    gradient = exponentials / normaliser * (1.0 + 2.0 * z_loss * log_normaliser) - chosen.float()
    return losses, gradient.to(logits.dtype)


class _InPlace:
    """`chunk_kernel` in the memory of the logits, and of one fp32 buffer for all chunks where they are narrower: fresh
    memory of this size is mapped and cleared by the kernel every time.
    """

    def __init__(self) -> None:
        self.buffer: Tensor | None = None

    def __call__(self, logits: Tensor, target: Tensor, z_loss: float) -> tuple[Tensor, Tensor]:
        wide = logits
        if logits.dtype != torch.float32:
            if self.buffer is None:
                self.buffer = torch.empty_like(logits, dtype=torch.float32)
            wide = self.buffer[: len(logits)].copy_(logits)
        chosen, highest = wide.gather(1, target), wide.amax(dim=1, keepdim=True)
        # The only pass of exponentials: the largest probability is 1 / Σ exp(logit − highest).
        probabilities = torch.softmax(wide, dim=1, out=wide)
        log_normaliser = highest - probabilities.amax(dim=1, keepdim=True).log()
        losses = log_normaliser - chosen
        if z_loss:
            losses += z_loss * log_normaliser.square()
            probabilities.mul_(1.0 + 2.0 * z_loss * log_normaliser)
        probabilities.scatter_add_(1, target, torch.full_like(losses, -1.0))
        return losses, probabilities if wide is logits else logits.copy_(probabilities)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        weights: Tensor | None,
        chunk: int,
        z_loss: float,
        training: bool,
        kernel: Kernel | None,
    ) -> Tensor:
        dtype = compute_dtype(weight)
        hidden, weight = hidden.to(dtype), weight.to(dtype)
        want_hidden, want_weight = (training and needed for needed in ctx.needs_input_grad[:2])
        grad_hidden = torch.empty_like(hidden) if want_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if want_weight else None
        total = torch.zeros((), dtype=torch.float64, device=hidden.device)
        buffer = hidden.new_empty((min(chunk, hidden.shape[0]), weight.shape[0]))
        in_place = _InPlace()
        for start in range(0, hidden.shape[0], chunk):
            part, target = hidden[start : start + chunk], targets[start : start + chunk, None]
            logits = torch.mm(part, weight.T, out=buffer[: part.shape[0]])
            # A last, shorter chunk isn't worth compiling for.
            compute = kernel if kernel is not None and len(part) == len(buffer) else in_place
            losses, gradient = compute(logits, target, z_loss)
            share = None if weights is None else weights[start : start + chunk, None]
            total += (losses if share is None else losses * share).sum()
            # Rows are weighted where they are `hidden` wide, not as wide as the vocabulary.
            if grad_hidden is not None:
                torch.mm(gradient, weight, out=grad_hidden[start : start + chunk])
                if share is not None:
                    grad_hidden[start : start + chunk] *= share
            if grad_weight is not None:
                weighted = part if share is None else (part * share).to(dtype)
                if dtype == torch.float32:
                    grad_weight.addmm_(gradient.T, weighted)
                else:
                    grad_weight += gradient.T @ weighted
        ctx.save_for_backward(grad_hidden, grad_weight)
        return total.float()

    @staticmethod
    def backward(ctx, upstream: Tensor):
        # Saved for this one call, so they may be scaled where they are.
        grad_hidden, grad_weight = ctx.saved_tensors
        return (
            None if grad_hidden is None else grad_hidden.mul_(upstream),
            None if grad_weight is None else grad_weight.mul_(upstream),
            None,
            None,
            None,
            None,
            None,
            None,
        )


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    weights: Tensor | None = None,
    chunk: int | None = None,
    z_loss: float = 0.0,
    kernel: Kernel | None = None,
) -> Tensor:
    """Sum over rows of weights[i] · (−log softmax(hidden[i] @ weightᵀ)[targets[i]] + z_loss · log² Z[i]), in nats, as a
    float32 scalar, where Z[i] is the softmax's normaliser (PaLM, Chowdhery et al. 2022, section 5: z_loss 1e-4).

    hidden [N, C], weight [V, C], targets [N] int64, weights [N] or None for all ones (not differentiated). kernel: a
    compiled `chunk_kernel`.
    """
    rows = chunk or CHUNK[hidden.device.type]
    # Inside forward() gradients are always off, so whether they are wanted has to be asked here.
    return _LinearCrossEntropy.apply(hidden, weight, targets, weights, rows, z_loss, torch.is_grad_enabled(), kernel)


class _LinearLogProb(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden: Tensor, weight: Tensor, targets: Tensor, chunk: int) -> Tensor:
        dtype = compute_dtype(weight)
        hidden, weight = hidden.to(dtype), weight.to(dtype)
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


def linear_logprobs(hidden: Tensor, weight: Tensor, targets: Tensor, chunk: int | None = None) -> Tensor:
    """log softmax(hidden[i] @ weightᵀ)[targets[i]] for each row, [N] float32; differentiable in hidden and weight."""
    return _LinearLogProb.apply(hidden, weight, targets, chunk or CHUNK[hidden.device.type])


def document_ids(tokens: Tensor, bos_id: int) -> Tensor:
    """Which document of its row each token [B, T] belongs to: a document starts at `bos_id`."""
    return (tokens == bos_id).cumsum(dim=1)


def next_token_loss(
    model: Any,
    rows: Tensor,
    mask: Tensor | None,
    micro_rows: int | None = None,
    *,
    bos_id: int | None = None,
    z_loss: float = 0.0,
    targets: int | None = None,
) -> tuple[Tensor, dict[str, float]]:
    """Mean next-token loss of rows [B, T + 1] over the targets that count, for `loop.train`.

    mask [B, T + 1] (or None: all) says which tokens count as targets; column 0 never does. With `micro_rows`, all but
    the last micro-batch are backpropagated here and their gradients accumulate; each is divided by the whole batch's
    token count, so the gradient is that of the big batch whatever the split. In several processes `rows` are this one's
    share and the count is that of all: the mean over processes of what is returned is the loss of the batch. Where rows
    are a part of a batch otherwise, `targets` is that of the whole, and the sum over parts is the loss.

    With `bos_id` a token sees its own document only. z_loss: the factor of log² of the softmax's normaliser.
    """
    size = micro_rows or rows.shape[0]
    own = rows[:, 1:].numel() if mask is None else int(mask[:, 1:].sum())
    count = distributed.total(own) if targets is None else float(targets)
    share = max(count, 1.0) / distributed.world()
    total = 0.0
    loss = torch.zeros((), device=rows.device)
    for start in range(0, rows.shape[0], size):
        part = rows[start : start + size]
        tokens = part[:, :-1]
        hidden = (
            model.hidden(tokens) if bos_id is None else model.hidden(tokens, documents=document_ids(tokens, bos_id))
        )
        weights = None if mask is None else mask[start : start + size, 1:].reshape(-1).float()
        loss = (
            linear_cross_entropy(
                hidden.reshape(-1, hidden.shape[-1]),
                model.head_weight,
                part[:, 1:].reshape(-1),
                weights,
                z_loss=z_loss,
                kernel=getattr(model, "chunk_kernel", None),
            )
            / share
        )
        total += loss.item()
        if start + size < rows.shape[0]:
            loss.backward()
    return loss, {"loss": total, "tokens": float(count)}
