"""The token rows that all contestants of `bench/pretraining/equal_time.py` share, made once from real documents.

Documents come in the order of `bench/corpus/documents.py`, which is that of their hash: the first of them are the two
validation texts (one to choose learning rates on, one to report), the next the training text. The tokenizer sees the
training text only.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

CONTEXT, VOCABULARY = 256, 4096
TRAIN_BYTES, VALIDATION_BYTES = 14_000_000, 300_000  # the second of each of the two


@dataclass(frozen=True)
class Rows:
    train: np.ndarray  # uint16 [n, 257], every row <|bos|> first
    select: np.ndarray
    report: np.ndarray
    pad: int
    bos: int
    bytes: dict[str, int]  # UTF-8 of the text in each
    tokens: dict[str, int]  # of that text: neither <|bos|> nor padding

    def order(self, seed: int) -> np.ndarray:
        """In which a run reads the training rows."""
        return np.random.default_rng(seed).permutation(len(self.train))

    def batch(self, order: np.ndarray, step: int, size: int) -> np.ndarray:
        """int64 [size, 257]."""
        return self.train[order[np.arange(step * size, (step + 1) * size) % len(order)]].astype(np.int64)


def split(texts: list[str]) -> dict[str, list[str]]:
    """Whole documents, in order, until each part has its bytes."""
    parts: dict[str, list[str]] = {}
    rest = iter(texts)
    for name, wanted in (("select", VALIDATION_BYTES), ("report", VALIDATION_BYTES), ("train", TRAIN_BYTES)):
        parts[name], size = [], 0
        while size < wanted and (text := next(rest, None)) is not None:
            parts[name].append(text)
            size += len(text.encode())
    return parts


def make(folder: Path, documents: Path) -> None:
    """Write `rows.npz` and `rows.json` into `folder`, from a table with a column "text"."""
    from stages.lm.chat import BOS, PAD
    from stages.tokens.packing import pack, shuffle_rows
    from stages.tokens.vocabulary import encode_documents, train_bpe

    parts = split(pq.read_table(documents)["text"].to_pylist())
    tokenizer = train_bpe(parts["train"], VOCABULARY, "gpt2")
    ids = {token: tokenizer.token_to_id(token) for token in (BOS, PAD)}
    facts: dict[str, object] = {"pad": ids[PAD], "bos": ids[BOS]}
    arrays, sizes, tokens = {}, {}, {}
    for name, texts in parts.items():
        encoded = encode_documents(tokenizer, texts)
        packed = shuffle_rows(pack(encoded, list(range(len(encoded))), CONTEXT, ids[BOS], ids[PAD], 48, 256), 0)
        arrays[name] = packed.rows
        sizes[name], tokens[name] = sum(len(text.encode()) for text in texts), packed.tokens
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "rows.npz", **arrays)  # type: ignore[arg-type]
    (folder / "rows.json").write_text(json.dumps(facts | {"bytes": sizes, "tokens": tokens}))


def load(folder: Path) -> Rows:
    facts, arrays = json.loads((folder / "rows.json").read_text()), np.load(folder / "rows.npz")
    train, select, report = (arrays[name] for name in ("train", "select", "report"))
    return Rows(train, select, report, facts["pad"], facts["bos"], facts["bytes"], facts["tokens"])
