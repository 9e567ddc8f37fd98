"""A packed token leads to its document, and its chain is verified."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from stages import cli
from stages.base.errors import InputError
from stages.lm.chat import load_tokenizer
from stages.publishing.lineage.token_source import find_token
from tests.pretraining.test_pretraining import prepare, tokenise


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    prepare(folder)
    tokenise(folder)
    return folder


def test_every_token_of_a_row_is_its_documents(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(packed)
    tokenizer = load_tokenizer("data/tokens/tokenizer")
    texts = pq.read_table("data/corpus/mix/train.parquet").to_pylist()
    ids = {row["id"]: tokenizer.encode(row["text"]) for row in texts}
    rows = np.fromfile("data/tokens/pack/train.bin", "<u2").reshape(-1, 33)
    seen = 0
    for row in (0, len(rows) - 1):
        for column in range(33):
            source = find_token(f"train:{row}:{column}")
            assert source.token == rows[row, column]
            if source.document is None:
                assert tokenizer.tokenizer.id_to_token(source.token) in ("<|bos|>", "<|pad|>")
            else:
                assert ids[source.document["id"]][source.document["place"]] == source.token
                seen += 1
    assert seen > 40


def test_the_command_prints_the_document_and_the_verified_chain(
    packed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(packed)
    assert cli.main(["trace", "train:3:5"]) == 0
    out = capsys.readouterr().out
    assert "train.bin, row 3, column 5: token" in out and "tokens.pack" in out and "verified:" in out
    assert cli.main(["trace", "train:3:5", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["token"]["document"]["id"].startswith("train") and told["chain"][0]["stage"] == "tokens.pack"
    assert cli.main(["trace", "validation:0:0"]) == 0
    assert "of no document" in capsys.readouterr().out
    with pytest.raises(InputError, match="has rows 0 to"):
        find_token("train:99999:0")
    assert cli.main(["trace", "train:0:33"]) == 2
    capsys.readouterr()
    index = Path("data/tokens/pack/train.documents.parquet")
    good = index.read_bytes()
    try:
        index.write_bytes(good + b"x")
        assert cli.main(["trace", "train:3:5"]) == 1
    finally:
        index.write_bytes(good)
