"""How many bits a model needs for a byte of unseen text.

Bits per byte, not perplexity per token, is comparable across tokenizers: nats / (ln 2 · UTF-8 bytes) (Gao et al. 2020,
"The Pile", §3.1). Only text tokens are predicted; the BOS that stands before each window (or, where a tokenizer has
none, what its documents are separated by) is read and never scored.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from stages.lm.build import LanguageModel
from stages.lm.chat import ChatTokenizer
from stages.lm.scoring import sequence_logprobs


@dataclass(frozen=True)
class Loss:
    """What a model paid for a text, or for many texts together."""

    nats: float
    tokens: int
    bytes: int

    @property
    def bits_per_byte(self) -> float:
        return bits_per_byte(self.nats, self.bytes)

    @property
    def perplexity(self) -> float:
        """Per token: comparable between models of one tokenizer only."""
        return math.exp(self.nats / self.tokens)


def bits_per_byte(nats: float, text_bytes: int) -> float:
    return nats / (math.log(2) * text_bytes)


def total(losses: Sequence[Loss]) -> Loss:
    """Micro-average: every byte weighs the same, so long documents count more than short ones."""
    return Loss(math.fsum(x.nats for x in losses), sum(x.tokens for x in losses), sum(x.bytes for x in losses))


def grouped(losses: Sequence[Loss], groups: Sequence[str]) -> dict[str, Loss]:
    """Totals by group, in the groups' alphabetical order."""
    members: dict[str, list[Loss]] = defaultdict(list)
    for loss, group in zip(losses, groups, strict=True):
        members[group].append(loss)
    return {group: total(members[group]) for group in sorted(members)}


def windows(length: int, limit: int, overlap: int) -> list[tuple[int, int, int]]:
    """(begin, score_from, end) of windows of at most `limit` tokens that score each of `length` tokens exactly once.

    Every window but the first reads the `overlap` tokens before its first scored one as context.
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


def text_losses(model: LanguageModel, tokenizer: ChatTokenizer, texts: Sequence[str], overlap: int) -> list[Loss]:
    """Loss of each text by itself, read in windows that share `overlap` tokens."""
    sequences: list[tuple[list[int], int]] = []
    owners: list[int] = []
    tokens: list[int] = []
    for index, text in enumerate(texts):
        ids = tokenizer.encode(text)
        tokens.append(len(ids))
        parts = prefixed_windows(ids, tokenizer.prefix_id, model.config.max_seq_len, overlap)
        sequences += parts
        owners += [index] * len(parts)
    values: list[list[float]] = [[] for _ in texts]
    for owner, value in zip(owners, sequence_logprobs(model, sequences), strict=True):
        values[owner].append(value)
    return [
        Loss(-math.fsum(parts), count, len(text.encode()))
        for parts, count, text in zip(values, tokens, texts, strict=True)
    ]


def sample_documents(table: pa.Table, bytes_per_source: int, bytes_per_document: int) -> pa.Table:
    """Some documents of each source (schema MIXED), long ones cut, up to about `bytes_per_source` bytes a source.

    In order of id: ids are hashes, so that is a random sample, the same for every model.
    """
    spent: dict[str, int] = defaultdict(int)
    rows = []
    for row in sorted(table.to_pylist(), key=lambda row: (row["source"], row["id"])):
        text = row["text"].encode()[:bytes_per_document].decode(errors="ignore")
        if text.strip() and spent[row["source"]] < bytes_per_source:
            spent[row["source"]] += len(text.encode())
            rows.append(row | {"text": text})
    return pa.Table.from_pylist(rows, schema=table.schema)
