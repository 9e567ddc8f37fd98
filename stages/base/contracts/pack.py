"""`pack.json`: the shards of packed rows and what they hold."""

from stages.base.contracts import Contract


class TrainSource(Contract):
    """One source in a training shard."""

    unique_tokens: int
    unique_bytes: int
    tokens: int
    """Repeats counted."""


class ValidationSource(Contract):
    """Rows first_row to first_row + rows − 1 of the validation shard hold this source alone."""

    first_row: int
    rows: int
    tokens: int
    bytes: int


class Domain(Contract):
    tokens: int
    bytes: int


class TrainShard(Contract):
    """train.bin, anneal.bin"""

    rows: int
    tokens: int
    padding: int
    utilisation: float
    """Share of the places that hold text."""
    splits: int
    """Documents cut at the end of a row."""
    documents: int
    bytes: int
    """UTF-8, of the text, repeats counted."""
    sources: dict[str, TrainSource]


class ValidationShard(Contract):
    """validation.bin"""

    rows: int
    tokens: int
    bytes: int
    """UTF-8, of the text."""
    utilisation: float
    sources: dict[str, ValidationSource]
    domains: dict[str, Domain]


class Pack(Contract):
    """data/tokens/pack/pack.json"""

    seq_len: int
    vocab_size: int
    """Padded to a multiple of 64."""
    dtype: str
    """Of a token in the shards, little-endian."""
    tokenizer_sha256: str
    pad_id: int
    bos_id: int
    train: TrainShard
    anneal: TrainShard
    validation: ValidationShard
    unique_tokens: dict[str, int]
    """Of the training shard, by source."""
