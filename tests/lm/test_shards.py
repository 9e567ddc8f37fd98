"""A shard is read as its pack.json describes it, or refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.base.contracts.pack import Pack
from stages.base.errors import InputError
from stages.lm.chat import token_dtype
from stages.lm.config import ModelConfig
from stages.lm.data import PackedRows
from tests.contracts import tokens
from tests.lm.conftest import tiny


def facts(vocab_size: int = 320, **changes: Any) -> Pack:
    train = tokens.pack().train.model_dump() | {"rows": 9}
    told = {"seq_len": 16, "vocab_size": vocab_size, "dtype": token_dtype(vocab_size), "bos_id": 7, "train": train}
    return tokens.pack(**(told | changes))


def shard(folder: Path, dtype: str, largest: int = 319, rows: int = 9, width: int = 17, bos: int = 7) -> Path:
    ids = np.random.default_rng(0).integers(0, largest, (rows, width)).astype(dtype)
    ids[:, 0], ids[-1, -1] = bos, largest
    ids.tofile(folder / "train.bin")
    return folder / "train.bin"


@pytest.mark.parametrize(("vocab_size", "dtype"), [(320, "<u2"), (65536, "<u2"), (65600, "<u4"), (131072, "<u4")])
def test_the_dtype_follows_from_the_vocabulary(tmp_path: Path, vocab_size: int, dtype: str) -> None:
    path = shard(tmp_path, dtype, largest=vocab_size - 1)
    rows = PackedRows.of(path, facts(vocab_size))
    assert rows.rows.dtype == np.dtype(dtype) and len(rows) == 9
    assert (rows.rows == np.fromfile(path, dtype).reshape(9, 17)).all()
    assert isinstance(rows.rows, np.memmap)
    assert ModelConfig.from_dict(tiny().to_dict() | {"vocab_size": vocab_size}).vocab_size == vocab_size


@pytest.mark.parametrize(
    ("written", "told", "said"),
    [
        (
            {"dtype": "<u2"},
            {"vocab_size": 65600, "dtype": "uint16"},
            "stored as uint16, a vocabulary of 65600 needs uint32",
        ),
        ({"dtype": "<u4"}, {}, "18 rows of 17 uint16 tokens, pack.json says 9"),
        ({"dtype": "<u2", "rows": 18}, {"vocab_size": 65600, "dtype": "uint32"}, "tokenizer"),
        ({"dtype": "<u2", "rows": 8}, {}, "8 rows of 17 uint16 tokens, pack.json says 9; it was cut short"),
        ({"dtype": "<u2", "width": 18, "rows": 17}, {"seq_len": 33}, "not packed with the tokenizer and row length"),
        ({"dtype": "<u2", "width": 16}, {}, "no whole number of rows of 17 uint16 tokens"),
        ({"dtype": "<u2", "bos": 9}, {}, "not packed with the tokenizer and row length"),
        ({"dtype": "<u2", "largest": 400}, {}, "not packed with the tokenizer and row length"),
    ],
)
def test_another_shard_is_refused(tmp_path: Path, written: dict[str, Any], told: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        PackedRows.of(shard(tmp_path, **written), facts(**told))
