"""Log-probabilities of given tokens, for evaluation (no gradient, batched by length) and for DPO and PPO (with
gradient).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from stages.base.errors import InputError
from stages.base.progress import Progress
from stages.lm.build import LanguageModel
from stages.lm.data import PackedRows
from stages.lm.device import autocast
from stages.lm.forks import in_forks
from stages.lm.incremental import IncrementalDecoder
from stages.lm.loss import document_ids, linear_cross_entropy, linear_logprobs
from stages.lm.prefixes import Ids, Pairs, Plan
from stages.lm.transformer import Decoder
from stages.lm.tree_reader import TreeReader


@torch.inference_mode()
def token_logprobs(
    model: LanguageModel, sequences: list[tuple[list[int], int]], batch_tokens: int = 8192
) -> list[list[float]]:
    """log p(ids[t] | ids[:t]) for t = start .. len(ids) - 1 of each (ids, start), in nats; start >= 1.

    Sequences of similar length share a right-padded batch of at most about `batch_tokens` tokens. On a CPU, batches are
    computed by as many processes as there are workers, with the same result.
    """
    limit = model.config.max_seq_len
    for index, (ids, start) in enumerate(sequences):
        if not 1 <= start <= len(ids) or len(ids) > limit + 1:
            raise InputError(
                f"sequence {index}: {len(ids)} tokens, scored from {start}; it must have at most {limit + 1} tokens "
                "and be scored from 1 at the earliest"
            )
    home = model.head_weight.device
    batches = _batches([len(ids) for ids, _ in sequences], batch_tokens)

    @torch.inference_mode()
    def score(number: int) -> list[float]:
        batch = batches[number]
        width = max(2, *(len(sequences[i][0]) for i in batch))
        tokens = torch.zeros((len(batch), width), dtype=torch.int64)
        mask = torch.zeros((len(batch), width), dtype=torch.bool)
        for row, i in enumerate(batch):
            ids, start = sequences[i]
            tokens[row, : len(ids)] = torch.tensor(ids)
            mask[row, start : len(ids)] = True
        return masked_logprobs(model, tokens.to(home), mask.to(home)).tolist()

    out: list[list[float]] = [[] for _ in sequences]
    for number, values in in_forks(score, len(batches)):
        place = 0
        for i in batches[number]:
            ids, start = sequences[i]
            out[i] = values[place : place + len(ids) - start]
            place += len(ids) - start
    return out


class Continuation(NamedTuple):
    logprobs: np.ndarray  # of its tokens, nats
    greedy: bool  # whether each was the likeliest, the first of equals


def continuation_logprobs(
    model: LanguageModel, pairs: Pairs, label: str | None = None, reader: TreeReader | None = None
) -> list[Continuation]:
    """log p(continuation[t] | context, continuation[:t]) of each (context, continuation), neither empty: arrays of ids.

    A decoder reads what several begin with once (`prefixes.Plan`), an LSTM each by itself. The order of pairs changes
    no number. On a CPU as many processes as there are workers share the work, with the same result. `reader`: of this
    model, where there is one from before.
    """
    for index, (context, continuation) in enumerate(pairs):
        if not len(context) or not len(continuation) or len(context) + len(continuation) > model.config.max_seq_len + 1:
            raise InputError(
                f"pair {index}: {len(context)} tokens of context and {len(continuation)} of continuation; each must "
                f"have some, and the model reads {model.config.max_seq_len}"
            )
    if not isinstance(model, Decoder):
        return _read_separately(model, pairs)
    targets = np.concatenate([continuation for _, continuation in pairs]) if pairs else np.empty(0, np.int32)
    offsets, values, likeliest = _read_together(model, pairs, label or "scoring", reader)
    spans = pairwise(offsets)
    return [Continuation(values[start:end], bool((likeliest == targets)[start:end].all())) for start, end in spans]


def next_tokens(
    model: LanguageModel, prompts: Sequence[Ids], label: str | None = None, reader: TreeReader | None = None
) -> list[int]:
    """The likeliest token behind each prompt, what several begin with read once; arguments as of
    `continuation_logprobs`. InputError where logits are no numbers.
    """
    assert isinstance(model, Decoder)
    any_token = np.zeros(1, np.int32)
    _, values, likeliest = _read_together(model, [(prompt, any_token) for prompt in prompts], label or "next", reader)
    if not np.isfinite(values).all():
        raise InputError("the model's logits hold NaN or infinity; check its weights")
    return likeliest.tolist()


def _read_together(
    model: Decoder, pairs: Pairs, label: str, reader: TreeReader | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where each pair's scores begin [pairs + 1], and of all the log-probability and the likeliest token."""
    plan = Plan(pairs)
    values, likeliest = np.empty(plan.offsets[-1], np.float32), np.empty(plan.offsets[-1], np.int64)
    trees = reader or TreeReader(IncrementalDecoder(model))

    @torch.inference_mode()
    def score(part: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        return [trees.read(plan, step) for step in plan.parts[part]]

    with Progress(sum(step.tokens for step in plan.steps), label, unit="tokens") as bar:
        for part, found in in_forks(score, len(plan.parts)):
            for slots, logprobs, best in found:
                values[slots], likeliest[slots] = logprobs, best
            bar.advance(sum(step.tokens for step in plan.parts[part]))
    return plan.offsets, values, likeliest


def _read_separately(model: LanguageModel, pairs: Pairs, batch_tokens: int = 8192) -> list[Continuation]:
    home = model.head_weight.device
    batches = _batches([len(context) + len(continuation) for context, continuation in pairs], batch_tokens)

    @torch.inference_mode()
    def score(number: int) -> list[Continuation]:
        rows = [torch.from_numpy(np.concatenate(pairs[i]).astype(np.int64)) for i in batches[number]]
        tokens = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(home)
        out = []
        with autocast():
            hidden = model.hidden(tokens[:, :-1])
            for row, i in enumerate(batches[number]):
                end = len(rows[row]) - 1
                span = slice(end - len(pairs[i][1]), end)
                logits, wanted = model.logits(hidden[row, span]).float(), tokens[row, 1:][span, None]
                values = (logits.gather(1, wanted) - logits.logsumexp(dim=1, keepdim=True)).flatten()
                greedy = bool((logits.argmax(dim=1, keepdim=True) == wanted).all())
                out.append(Continuation(values.cpu().numpy(), greedy))
        return out

    found: dict[int, Continuation] = {}
    for number, values in in_forks(score, len(batches)):
        found |= zip(batches[number], values, strict=True)
    return [found[index] for index in range(len(pairs))]


def sequence_logprobs(
    model: LanguageModel, sequences: list[tuple[list[int], int]], batch_tokens: int = 8192
) -> list[float]:
    """Sum over t >= start of log p(ids[t] | ids[:t]) for each (ids, start), in nats."""
    return [math.fsum(values) for values in token_logprobs(model, sequences, batch_tokens)]


def masked_logprobs(model: LanguageModel, ids: Tensor, mask: Tensor) -> Tensor:
    """Log-probabilities of the tokens that mask [B, T] marks (column 0 excepted), flat in row order, differentiable.

    ids [B, T] is padded on the right with any id. Only marked positions are multiplied with the vocabulary.
    """
    with autocast():
        hidden = model.hidden(ids[:, :-1])
        wanted = mask[:, 1:].bool()
        return linear_logprobs(hidden[wanted], model.head_weight, ids[:, 1:][wanted])


def completion_logprobs(model: LanguageModel, ids: Tensor, mask: Tensor) -> Tensor:
    """Sum of the log-probabilities of each row's marked tokens, [B], differentiable: what DPO compares.

    ids [B, T], mask [B, T] true on completion tokens.
    """
    values = masked_logprobs(model, ids, mask)
    rows = torch.arange(ids.shape[0], device=ids.device)[:, None].expand(-1, ids.shape[1] - 1)[mask[:, 1:].bool()]
    return torch.zeros(ids.shape[0], device=ids.device).index_add(0, rows, values)


@dataclass(frozen=True)
class RowsLoss:
    nats: float  # summed over the tokens that count
    tokens: int  # how many: not padding, not the specials that packing put between documents

    @property
    def loss(self) -> float:
        """Nats per token."""
        return self.nats / self.tokens

    def bits_per_byte(self, text_bytes: int) -> float:
        """Comparable across tokenizers: bits over the UTF-8 bytes of the text."""
        return self.nats / (math.log(2) * text_bytes)


def _targets_of(
    model: LanguageModel,
    rows: np.ndarray,
    exclude: tuple[int, ...],
    batch_rows: int,
    first: int,
    end: int,
    bos_id: int | None,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Of each batch of rows first .. end - 1: hidden states [n, C] and ids [n] of the targets that count, and which
    these are [B, T]. With `bos_id` a token sees its own document only.
    """
    home = model.head_weight.device
    excluded = torch.tensor(exclude, device=home)
    was_training = model.training
    model.eval()
    for start in range(first, end, batch_rows):
        batch = torch.from_numpy(rows[start : min(start + batch_rows, end)].astype("int64")).to(home)
        tokens, targets = batch[:, :-1], batch[:, 1:]
        counted = ~torch.isin(targets, excluded)
        documents = None if bos_id is None else document_ids(tokens, bos_id)
        with autocast():
            yield model.hidden(tokens, documents=documents)[counted], targets[counted], counted
    model.train(was_training)


@torch.inference_mode()
def rows_loss(
    model: LanguageModel,
    rows: PackedRows,
    exclude: tuple[int, ...],
    batch_rows: int = 32,
    limit: int | None = None,
    first: int = 0,
    bos_id: int | None = None,
) -> RowsLoss:
    """Loss over `limit` (default: all) packed rows from row `first`; targets in `exclude` (pad and bos ids) don't
    count. With `bos_id` a token sees its own document only, as in `next_token_loss`.

    The one definition of validation loss: ladder, plan, pretraining and evaluation must all call it to be comparable.
    """
    end = len(rows) if limit is None else min(first + limit, len(rows))
    nats, tokens = 0.0, 0
    for hidden, targets, _ in _targets_of(model, rows.rows, exclude, batch_rows, first, end, bos_id):
        nats += linear_cross_entropy(hidden, model.head_weight, targets).item()
        tokens += len(targets)
    return RowsLoss(nats, tokens)


@torch.inference_mode()
def token_losses(
    model: LanguageModel, rows: np.ndarray, exclude: tuple[int, ...], batch_rows: int = 32, bos_id: int | None = None
) -> np.ndarray:
    """The same loss target by target, in nats: rows [N, T + 1] of ids → float32 [N, T], NaN where a target is in
    `exclude`.
    """
    out = np.full((len(rows), rows.shape[1] - 1), np.nan, dtype=np.float32)
    start = 0
    for hidden, targets, counted in _targets_of(model, rows, exclude, batch_rows, 0, len(rows), bos_id):
        part = out[start : start + len(counted)]
        part[counted.cpu().numpy()] = -linear_logprobs(hidden, model.head_weight, targets).float().cpu().numpy()
        start += len(counted)
    return out


def _batches(lengths: list[int], batch_tokens: int) -> list[list[int]]:
    """Indices in order of length, cut so that count x longest stays within batch_tokens."""
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        if batches and (len(batches[-1]) + 1) * lengths[index] <= batch_tokens:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches
