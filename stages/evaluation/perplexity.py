"""How many bits a model needs for a byte of unseen text.

Bits per byte, not perplexity per token, is comparable across tokenizers: nats / (ln 2 · UTF-8 bytes) (Gao et al. 2020,
"The Pile", §3.1). Only text tokens are predicted; the BOS that stands before each window is read and never scored.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from stages.base.errors import InputError
from stages.evaluation.windows import bos_windows
from stages.lm.build import LanguageModel
from stages.lm.chat import ChatTokenizer
from stages.lm.scoring import sequence_logprobs


@dataclass(frozen=True)
class TextLoss:
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


def total(losses: Sequence[TextLoss]) -> TextLoss:
    """Micro-average: every byte weighs the same, so long documents count more than short ones."""
    return TextLoss(math.fsum(x.nats for x in losses), sum(x.tokens for x in losses), sum(x.bytes for x in losses))


def grouped(losses: Sequence[TextLoss], groups: Sequence[str]) -> dict[str, TextLoss]:
    """Totals by group, in the groups' alphabetical order."""
    members: dict[str, list[TextLoss]] = defaultdict(list)
    for loss, group in zip(losses, groups, strict=True):
        members[group].append(loss)
    return {group: total(members[group]) for group in sorted(members)}


def text_losses(model: LanguageModel, tokenizer: ChatTokenizer, texts: Sequence[str], overlap: int) -> list[TextLoss]:
    """Loss of each text by itself, read from a BOS, in windows that share `overlap` tokens (`windows.bos_windows`)."""
    bos = tokenizer.prefix_id
    sequences: list[tuple[list[int], int]] = []
    owners: list[int] = []
    tokens: list[int] = []
    for index, text in enumerate(texts):
        ids = tokenizer.encode(text)
        tokens.append(len(ids))
        parts = bos_windows(ids, bos, model.config.max_seq_len, overlap)
        sequences += parts
        owners += [index] * len(parts)
    values: list[list[float]] = [[] for _ in texts]
    for owner, value in zip(owners, sequence_logprobs(model, sequences), strict=True):
        values[owner].append(value)
    return [
        TextLoss(-math.fsum(parts), count, len(text.encode()))
        for parts, count, text in zip(values, tokens, texts, strict=True)
    ]


def sample_documents(table: pa.Table, bytes_per_source: int, bytes_per_document: int) -> pa.Table:
    """Some documents of each source (schema MIXED), long ones cut, up to about `bytes_per_source` bytes a source.

    In order of id: ids are hashes, so that is a random sample, the same for every model. Raises InputError if empty.
    """
    spent: dict[str, int] = defaultdict(int)
    rows = []
    for row in sorted(table.to_pylist(), key=lambda row: (row["source"], row["id"])):
        text = row["text"].encode()[:bytes_per_document].decode(errors="ignore")
        if text.strip() and spent[row["source"]] < bytes_per_source:
            spent[row["source"]] += len(text.encode())
            rows.append(row | {"text": text})
    if not rows:
        raise InputError("data/corpus/mix/validation.parquet: no text to evaluate on; raise the share in corpus.mix")
    return pa.Table.from_pylist(rows, schema=table.schema)
