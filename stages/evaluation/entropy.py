"""What a model expects of the next token: how surprised it was, how unsure, and how sure of its favourite.

One forward pass gives the loss, the entropy of the distribution over the vocabulary, its likeliest token and the
spread of log p under it (which Min-K%++ needs), token by token.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stages.base.errors import InputError
from stages.lm.build import LanguageModel
from stages.lm.device import autocast
from stages.lm.forks import in_forks

LOGITS = {"cpu": 2**21, "cuda": 2**28}  # at once; on a CPU what stays in its cache
COLUMNS = 5


@dataclass(frozen=True)
class NextTokens:
    """Of the scored tokens of a text, in order; arrays [n] of float64, in nats where not said otherwise."""

    nats: np.ndarray  # −log p(token)
    entropy: np.ndarray  # −Σ p log p over the vocabulary: its expectation under the model
    variance: np.ndarray  # of log p under the model, nats²
    confidence: np.ndarray  # probability of the likeliest token
    hit: np.ndarray  # bool: whether that token came
    context: np.ndarray  # int64: tokens that were read before it

    def __len__(self) -> int:
        return len(self.nats)


def joined(parts: Sequence[NextTokens]) -> NextTokens:
    """The tokens of several texts, or of several windows of one, one after another."""

    def column(name: str, kind: type = np.float64) -> np.ndarray:
        return np.concatenate([np.empty(0, dtype=kind), *(getattr(part, name) for part in parts)])

    return NextTokens(
        nats=column("nats"),
        entropy=column("entropy"),
        variance=column("variance"),
        confidence=column("confidence"),
        hit=column("hit", np.bool_),
        context=column("context", np.int64),
    )


@torch.inference_mode()
def next_tokens(
    model: LanguageModel,
    sequences: Sequence[tuple[list[int], int]],
    name: str = "the model",
    batch_tokens: int = 8192,
) -> list[NextTokens]:
    """Of each (ids, start): what the model expected of ids[start:], given all ids before; start >= 1.

    Raises InputError, with the model's `name`, where it gives anything but finite numbers.
    """
    lengths = [len(ids) for ids, _ in sequences]
    order = sorted(range(len(sequences)), key=lambda i: (lengths[i], i))
    rows = max(1, batch_tokens // max(lengths, default=1))
    batches = [order[first : first + rows] for first in range(0, len(order), rows)]
    home = model.head_weight.device

    @torch.inference_mode()
    def score(number: int) -> np.ndarray:
        batch = batches[number]
        ids = torch.zeros((len(batch), max(2, lengths[batch[-1]])), dtype=torch.int64)
        mask = torch.zeros_like(ids, dtype=torch.bool)
        for row, i in enumerate(batch):
            tokens, start = sequences[i]
            ids[row, : len(tokens)] = torch.tensor(tokens)
            mask[row, start : len(tokens)] = True
        ids, wanted = ids.to(home), mask.to(home)[:, 1:]
        with autocast():
            hidden = model.hidden(ids[:, :-1])[wanted]
            return expectations(hidden, model.head_weight, ids[:, 1:][wanted]).double().cpu().numpy()

    found: list[NextTokens | None] = [None] * len(sequences)
    for number, values in in_forks(score, len(batches)):
        if not np.isfinite(values).all():
            raise InputError(f"{name}: its probabilities are not finite numbers; its weights are damaged")
        place = 0
        for i in batches[number]:
            start, end = sequences[i][1], lengths[i]
            part = values[place : place + end - start]
            place += end - start
            nats, entropy, variance, confidence, hit = part.T
            found[i] = NextTokens(nats, entropy, variance, confidence, hit > 0, np.arange(start, end))
    return [one for one in found if one is not None]


def expectations(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Columns nats, entropy, variance, confidence, hit (0 or 1) of each row, [N, 5] float32.

    hidden [N, C], weight [V, C], targets [N]. Logits are taken from the largest one, so that entropy is a sum of terms
    that are not negative.
    """
    out = torch.empty((hidden.shape[0], COLUMNS), dtype=torch.float32, device=hidden.device)
    chunk = max(1, LOGITS[hidden.device.type] // weight.shape[0])
    for first in range(0, hidden.shape[0], chunk):
        rows = slice(first, first + chunk)
        logits = (hidden[rows] @ weight.T).float()
        logits -= logits.amax(dim=1, keepdim=True)
        wanted = targets[rows, None]
        target = logits.gather(1, wanted)
        hit = logits.argmax(dim=1, keepdim=True) == wanted
        probabilities = logits.exp()
        total = probabilities.sum(dim=1, keepdim=True)
        normaliser = total.log()
        below = (probabilities * logits).sum(dim=1, keepdim=True) / total  # mean of log p / max p; not above 0
        squares = (probabilities * logits.square()).sum(dim=1, keepdim=True) / total
        variance = (squares - below.square()).clamp_(min=0.0)
        out[rows] = torch.cat([normaliser - target, normaliser - below, variance, 1 / total, hit], dim=1)
    return out
