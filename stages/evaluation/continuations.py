"""Log-likelihoods of several continuations of one context, where many contexts begin alike.

The tokens that all contexts of a group share (instruction, few-shot examples) are read once, each context's own rest
once, each continuation once: with five examples and four choices that is most of the work saved. Values equal those of
scoring each sequence by itself, up to rounding.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stages.base.errors import InputError
from stages.lm.build import LanguageModel
from stages.lm.device import autocast
from stages.lm.incremental import IncrementalDecoder, IncrementalModel, incremental
from stages.lm.loss import linear_logprobs
from stages.lm.scoring import sequence_logprobs

BATCH_TOKENS = 8192


@dataclass(frozen=True)
class Request:
    """context (at least two tokens, BOS first) and the continuations (none empty) to be scored behind it."""

    context: list[int]
    continuations: list[list[int]]


def score_separately(model: LanguageModel, requests: Sequence[Request]) -> list[list[float]]:
    """Sum of log p(token | all before it) over each continuation, in nats; nothing shared."""
    sequences = [
        (request.context + continuation, len(request.context))
        for request in requests
        for continuation in request.continuations
    ]
    values = iter(sequence_logprobs(model, sequences))
    return [[next(values) for _ in request.continuations] for request in requests]


@torch.inference_mode()
def score_group(
    model: LanguageModel, requests: Sequence[Request], trunk: IncrementalModel | None = None
) -> list[list[float]]:
    """As `score_separately`, sharing what the contexts have in common; `trunk`, the model as `incremental` lays it out,
    serves several groups. `InputError` for an empty continuation.
    """
    if any(len(request.context) < 2 or not all(request.continuations) for request in requests):
        raise InputError("multiple choice: an empty question or choice can't be scored; remove it from the set")
    own = max(len(r.context) for r in requests)
    longest = own + max(len(c) for r in requests for c in r.continuations)
    trunk = trunk or incremental(model)
    if not isinstance(trunk, IncrementalDecoder) or longest > model.config.max_seq_len:
        return score_separately(model, requests)
    shared = common_prefix([request.context for request in requests])
    trunk.read([requests[0].context[:shared]])
    size = max(1, BATCH_TOKENS // longest)
    out: list[list[float]] = []
    for start in range(0, len(requests), size):
        out += _score_batch(model.head_weight, trunk, shared, requests[start : start + size])
    return out


def common_prefix(contexts: Sequence[list[int]]) -> int:
    """Number of leading tokens that all share, short of the last token of any: its prediction is wanted."""
    first, last = min(contexts), max(contexts)  # in lexicographic order, all others lie between these two
    most = min(len(context) for context in contexts) - 1
    return next((i for i in range(most) if first[i] != last[i]), most)


def _score_batch(
    head: Tensor, trunk: IncrementalDecoder, shared: int, requests: Sequence[Request]
) -> list[list[float]]:
    home = head.device
    queries, lengths = _padded([request.context[shared:] for request in requests], home)
    branch = trunk.fork(torch.zeros(len(requests), dtype=torch.int64, device=home))
    hidden = branch.read_on(queries, lengths)
    ends = hidden[torch.arange(len(requests), device=home), lengths - 1]

    counts = torch.tensor([len(request.continuations) for request in requests], device=home)
    owners = torch.repeat_interleave(torch.arange(len(requests), device=home), counts)
    tokens, sizes = _padded([c for request in requests for c in request.continuations], home)
    values = torch.zeros(tokens.shape, dtype=torch.float64, device=home)
    with autocast():
        values[:, 0] = linear_logprobs(ends[owners], head, tokens[:, 0]).double()
        if tokens.shape[1] > 1:
            hidden = branch.fork(owners).read_on(tokens[:, :-1])
            real = torch.arange(1, tokens.shape[1], device=home) < sizes[:, None]
            values[:, 1:][real] = linear_logprobs(hidden[real], head, tokens[:, 1:][real]).double()
    sums = iter(values.sum(dim=1).tolist())
    return [[next(sums) for _ in request.continuations] for request in requests]


def _padded(rows: list[list[int]], home: torch.device) -> tuple[Tensor, Tensor]:
    """Right-padded [B, T] and the lengths [B]."""
    width = max(len(row) for row in rows)
    return (
        torch.tensor([row + [0] * (width - len(row)) for row in rows], device=home),
        torch.tensor([len(row) for row in rows], device=home),
    )
