"""The packed shards of two sources."""

from typing import Any

from stages.base.contracts.pack import Pack


def pack(**changes: Any) -> Pack:
    sources = {
        "atlas": {"unique_tokens": 150_000, "unique_bytes": 450_000, "tokens": 3_000_000},
        "package_docs": {"unique_tokens": 2_750_000, "unique_bytes": 8_250_000, "tokens": 3_200_000},
    }
    train = {
        "rows": 24_000, "tokens": 6_200_000, "padding": 100, "utilisation": 0.99, "splits": 50, "documents": 3000,
        "bytes": 18_600_000, "sources": sources,
    }  # fmt: skip
    validation = {"rows": 100, "tokens": 25_000, "bytes": 75_000, "utilisation": 0.99, "sources": {}, "domains": {}}
    values = {
        "seq_len": 256, "vocab_size": 4096, "dtype": "uint16", "tokenizer_sha256": "0" * 64, "pad_id": 0, "bos_id": 1,
        "train": train, "anneal": train, "validation": validation,
        "unique_tokens": {name: one["unique_tokens"] for name, one in sources.items()},
    }  # fmt: skip
    return Pack.model_validate(values | changes)
