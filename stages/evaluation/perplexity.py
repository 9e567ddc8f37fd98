"""How many bits a model needs for a byte of unseen text.

Bits per byte, not perplexity per token, is comparable across tokenizers: nats / (ln 2 · UTF-8 bytes) (Gao et al. 2020,
"The Pile", §3.1). Only text tokens are predicted; the BOS that stands before each window (or, where a tokenizer has
none, what its documents are separated by) is read and never scored.
"""

import hashlib
import itertools
import json
import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from stages.base.contracts.evaluation import Position, TextLoss
from stages.base.errors import InputError
from stages.base.stats import Interval, mean_interval, paired_interval, ratio_contributions
from stages.evaluation.calibration import of_events
from stages.evaluation.entropy import NextTokens, joined, next_tokens
from stages.lm.build import LanguageModel
from stages.lm.chat import ChatTokenizer

SLACK = 1e-3  # share above the uniform control's loss that is rounding
LARGEST = 709.0  # whose exp a float has room for


class TokenizersDiffer(InputError):
    """Perplexities per token of two tokenizers say nothing of each other."""


@dataclass(frozen=True)
class Loss:
    """What a model paid for a text, or for many texts together."""

    nats: float
    tokens: int
    bytes: int
    words: int = 0

    @property
    def bits_per_byte(self) -> float:
        return bits_per_byte(self.nats, self.bytes)

    @property
    def perplexity(self) -> float:
        """Per token: comparable between models of one tokenizer only."""
        return math.exp(self.nats / self.tokens)

    @property
    def word_perplexity(self) -> float:
        """exp(nats / words): comparable between tokenizers, on one text."""
        return _exp(self.nats / self.words) if self.words else math.nan

    @property
    def byte_perplexity(self) -> float:
        """exp(nats / bytes) = 2 ** bits per byte."""
        return _exp(self.nats / self.bytes)


def _exp(value: float) -> float:
    """Infinity where a float has no room."""
    return math.exp(value) if value < LARGEST else math.inf


def bits_per_byte(nats: float, text_bytes: int) -> float:
    return nats / (math.log(2) * text_bytes)


def count_words(text: str) -> int:
    """As the LM Evaluation Harness counts them: what white space parts, also before the first and behind the last."""
    return len(re.split(r"\s+", text))


def total(losses: Sequence[Loss]) -> Loss:
    """Micro-average: every byte weighs the same, so long documents count more than short ones."""
    return Loss(
        math.fsum(x.nats for x in losses),
        sum(x.tokens for x in losses),
        sum(x.bytes for x in losses),
        sum(x.words for x in losses),
    )


def grouped(losses: Sequence[Loss], groups: Sequence[str]) -> dict[str, Loss]:
    """Totals by group, in the groups' alphabetical order."""
    members: dict[str, list[Loss]] = defaultdict(list)
    for loss, group in zip(losses, groups, strict=True):
        members[group].append(loss)
    return {group: total(members[group]) for group in sorted(members)}


# ------------------------------------------------------------------------------------------------ uncertainty


def contributions(losses: Sequence[Loss]) -> np.ndarray:
    """One number a document, [n]; their mean is the bits per byte of all (`base.stats.ratio_contributions`), so that
    `base.stats` and `base.crossed` take them as they take accuracies."""
    return ratio_contributions(np.array([x.nats for x in losses]) / math.log(2), [x.bytes for x in losses])


def bits_interval(losses: Sequence[Loss], level: float = 0.95) -> Interval:
    """Bits per byte with an interval over documents: tokens of one document are not independent."""
    return mean_interval(contributions(losses), level)


def bits_difference(a: Sequence[Loss], b: Sequence[Loss], level: float = 0.95) -> Interval:
    """Bits per byte of a − b, of two models on the same documents; whatever their tokenizers.

    InputError where the documents differ.
    """
    _same_documents(a, b)
    return paired_interval(contributions(a), contributions(b), level)


def _same_documents(a: Sequence[Loss], b: Sequence[Loss]) -> None:
    if [x.bytes for x in a] != [x.bytes for x in b]:
        raise InputError(f"losses on other documents ({len(a)} and {len(b)}) can't be compared; take the same for both")


@dataclass(frozen=True)
class ModelLosses:
    """A model's losses on some documents."""

    model: str
    tokenizer: str  # `tokenizer_digest`
    losses: tuple[Loss, ...]


def perplexity_ratio(a: ModelLosses, b: ModelLosses, level: float = 0.95) -> Interval:
    """Perplexity per token of a over that of b on the same documents, with an interval over documents.

    TokenizersDiffer, which says the bits per byte of both, where their tokens are not the same.
    """
    _same_documents(a.losses, b.losses)
    if a.tokenizer != b.tokenizer:
        bits = [total(x.losses).bits_per_byte for x in (a, b)]
        raise TokenizersDiffer(
            f"{a.model} (tokenizer {a.tokenizer}) and {b.model} (tokenizer {b.tokenizer}) cut text into other tokens: "
            f"their perplexities per token can't be compared; bits per byte can: {bits[0]:.4f} and {bits[1]:.4f}"
        )
    gap = [x.nats - y.nats for x, y in zip(a.losses, b.losses, strict=True)]
    found = mean_interval(ratio_contributions(gap, [x.tokens for x in a.losses]), level)
    return Interval(*(math.exp(value) for value in found))


def tokenizer_digest(tokenizer: ChatTokenizer) -> str:
    """16 hex digits of sha256 over what decides how text is cut: equal ones give equal tokens."""
    parts = json.loads(tokenizer.tokenizer.to_str())
    decides = {name: parts.get(name) for name in ("normalizer", "pre_tokenizer", "model")}
    decides["added"] = [token for token in parts.get("added_tokens") or () if not token.get("special")]
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]


# ------------------------------------------------------------------------------------------------ reading


def windows(length: int, limit: int, overlap: int) -> list[tuple[int, int, int]]:
    """(begin, score_from, end) of windows of at most `limit` tokens that score each of `length` tokens exactly once.

    Every window but the first reads the `overlap` tokens before its first scored one as context: the stride is
    `limit` − `overlap`.
    """
    if not 0 <= overlap < limit:
        raise ValueError(f"overlap must be from 0 to {limit - 1}, got {overlap}")
    out = []
    scored = 0
    while scored < length:
        begin = max(0, scored - overlap)
        end = min(length, begin + limit)
        out.append((begin, scored, end))
        scored = end
    return out


def prefixed_windows(ids: list[int], prefix: int, limit: int, overlap: int) -> list[tuple[list[int], int]]:
    """Sequences (tokens, index of the first scored one) for `lm.scoring`: each window behind the prefix, as rows are
    packed. `limit` is the model's max_seq_len: it reads that many tokens and predicts one more.
    """
    return [
        ([prefix, *ids[begin:end]], 1 + score_from - begin)
        for begin, score_from, end in windows(len(ids), limit, min(overlap, limit - 1))
    ]


@dataclass(frozen=True)
class Reading:
    """What a model made of texts, each read by itself."""

    model: str
    losses: list[Loss]  # of each text
    tokens: list[NextTokens]  # of each text
    vocab_size: int
    window: int
    """Tokens read at a time, what stands before the text not counted."""
    stride: int
    """Tokens scored in each window of a text but the first."""


def read(
    model: LanguageModel, tokenizer: ChatTokenizer, texts: Sequence[str], overlap: int, name: str = "the model"
) -> Reading:
    """Each text by itself, in windows that share `overlap` tokens. InputError, with `name`, for a damaged model."""
    limit = model.config.max_seq_len
    sequences: list[tuple[list[int], int]] = []
    parts = [0]
    for text in texts:
        sequences += prefixed_windows(tokenizer.encode(text), tokenizer.prefix_id, limit, overlap)
        parts.append(len(sequences))
    found = next_tokens(model, sequences, name)
    tokens = [joined(found[first:end]) for first, end in itertools.pairwise(parts)]
    losses = [
        Loss(math.fsum(one.nats), len(one), len(text.encode()), count_words(text))
        for one, text in zip(tokens, texts, strict=True)
    ]
    return Reading(name, losses, tokens, model.config.vocab_size, window=limit, stride=limit - min(overlap, limit - 1))


def by_position(tokens: NextTokens) -> list[Position]:
    """Loss by the number of tokens read before, what stands before the text among them: 1, 2–3, 4–7, 8–15, …"""
    bucket = np.frexp(tokens.context)[1] - 1  # floor(log2)
    return [
        Position(
            begin=2**power,
            end=2 ** (power + 1),
            nats_per_token=float(tokens.nats[bucket == power].mean()),
            tokens=int((bucket == power).sum()),
        )
        for power in np.unique(bucket).tolist()
    ]


def uniform_bits(loss: Loss, vocab_size: int) -> float:
    """Bits per byte of a model to which all tokens are alike: log2 V · tokens / bytes."""
    return math.log2(vocab_size) * loss.tokens / loss.bytes


def check_bounds(loss: Loss, vocab_size: int, model: str, text: str) -> list[str]:
    """Warnings, with the model's name, of a loss that no trained model should have.

    InputError for one that none can have: below zero, no number, or a perplexity that a float has no room for.
    """
    if not 0 <= loss.nats < LARGEST * loss.tokens:
        raise InputError(f"{model}: a loss of {loss.nats} nats on {text} is none; the model's folder is damaged")
    bound = uniform_bits(loss, vocab_size)
    if loss.bits_per_byte <= bound * (1 + SLACK):
        return []
    return [
        f"{model} needs {loss.bits_per_byte:.2f} bits a byte of {text}, more than the {bound:.2f} of a model to which "
        "all tokens are alike: it is untrained, damaged or read with another's tokenizer"
    ]


def text_loss(reading: Reading, documents: pa.Table, text: str) -> TextLoss:
    """The contract's numbers of a text, by its documents (schema MIXED) that were read, in their order."""
    every = total(reading.losses)
    warnings = check_bounds(every, reading.vocab_size, reading.model, text)
    interval = bits_interval(reading.losses)
    tokens = joined(reading.tokens)
    by_group = {
        column: {
            slug(name): loss.bits_per_byte
            for name, loss in grouped(reading.losses, documents[column].to_pylist()).items()
        }
        for column in ("source", "domain")
    }
    owners = np.repeat(np.arange(len(reading.tokens)), [len(one) for one in reading.tokens])
    return TextLoss(
        bpb=every.bits_per_byte,
        bpb_low=interval.low,
        bpb_high=interval.high,
        perplexity=every.perplexity,
        word_perplexity=every.word_perplexity,
        byte_perplexity=every.byte_perplexity,
        nats_per_token=every.nats / every.tokens,
        documents=documents.num_rows,
        tokens=every.tokens,
        words=every.words,
        bytes=every.bytes,
        window=reading.window,
        stride=reading.stride,
        sources=by_group["source"],
        domains=by_group["domain"],
        positions=by_position(tokens),
        entropy=float(tokens.entropy.mean()),
        next_token=of_events(tokens.confidence, tokens.hit, owners, float(tokens.entropy.mean())),
        controls={"uniform_tokens": uniform_bits(every, reading.vocab_size)},
        warnings=warnings,
    )


def slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or "none"
