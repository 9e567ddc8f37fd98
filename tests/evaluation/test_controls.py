import gzip
import lzma
from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.base import schemas
from stages.base.contracts.evaluation import Controls
from stages.base.files import read_json
from stages.base.tables import write_table
from stages.evaluation import controls
from stages.evaluation.controls import ByteNgrams, compressed_bits, measure, ngram_bits, training_sample

texts = st.lists(st.text("abé", max_size=12).map(str.encode), max_size=4)


def naive(training: list[bytes], order: int, history: bytes, byte: int) -> Fraction:
    """Witten and Bell's recursion as it is written, with dictionaries and fractions."""
    if order == 0:
        return Fraction(1, 256)
    if len(history) < order - 1:
        return naive(training, order - 1, history, byte)
    history = history[len(history) - order + 1 :]
    shorter = naive(training, order - 1, history[1:], byte)
    followers = Counter(
        text[i + order - 1]
        for text in training
        for i in range(len(text) - order + 1)
        if text[i : i + order - 1] == history
    )
    if not followers:
        return shorter
    return (followers[byte] + len(followers) * shorter) / Fraction(followers.total() + len(followers))


@settings(max_examples=60)
@given(texts, st.text("abéz", max_size=10).map(str.encode), st.integers(1, 5))
def test_bits_equal_a_naive_recursion(training, text, order) -> None:
    bits = ByteNgrams(training, order).bits(text)
    expected = [-np.log2(float(naive(training, order, text[:i], byte))) for i, byte in enumerate(text)]
    assert bits == pytest.approx(np.array(expected), rel=1e-12)


def test_bits_by_hand() -> None:
    """abab: a and b twice each of four, two different; a is followed by b twice, b by a once."""
    (a, b) = ByteNgrams([b"abab"], 2).bits(b"ab")
    one = (2 + 2 / 256) / 6  # p(a), of one byte alone
    assert a == pytest.approx(-np.log2(one))
    assert b == pytest.approx(-np.log2((2 + 1 * one) / 3))


@settings(max_examples=30)
@given(texts, st.text("abé", max_size=6).map(str.encode), st.integers(1, 5))
def test_probabilities_of_the_next_byte_add_up_to_one(training, history, order) -> None:
    model = ByteNgrams(training, order)
    total = sum(2.0 ** -model.bits(history + bytes([byte]))[-1] for byte in range(256))
    assert total == pytest.approx(1.0)


def test_an_ngram_never_spans_two_texts() -> None:
    apart, together = ByteNgrams([b"xa", b"bx"], 2), ByteNgrams([b"xabx"], 2)
    assert apart.bits(b"ab")[1] > together.bits(b"ab")[1]


def test_what_was_read_costs_less_with_every_order() -> None:
    training = [b"the mill stands by the river, the river turns the wheel of the mill. " * 20]
    bits = [ngram_bits(ByteNgrams(training, order), [b"the wheel of the mill turns"]) for order in (1, 2, 3, 4)]
    assert bits == sorted(bits, reverse=True)
    assert bits[-1] < 1.5 < 3 < bits[0] < 8


def test_without_training_text_every_byte_costs_eight_bits() -> None:
    assert ngram_bits(ByteNgrams([], 5), [b"anything"]) == 8.0


def test_compressors() -> None:
    noise = np.random.default_rng(0).bytes(20_000)
    assert all(8 < bits < 8.1 for bits in compressed_bits([noise]).values())
    found = compressed_bits([b"salt" * 1000, b"glass" * 1000])
    joined = b"salt" * 1000 + b"\n\n" + b"glass" * 1000
    assert found["gzip"] == 8 * len(gzip.compress(joined, 9, mtime=0)) / len(joined) < 0.2
    assert found["lzma"] == 8 * len(lzma.compress(joined, preset=9)) / len(joined) < 0.3


def test_the_sample_of_training_text_is_bounded() -> None:
    def batches():
        yield ["é" * 10, "b" * 10]
        yield ["c" * 10]
        raise AssertionError("read on after the bound")

    assert training_sample(batches(), 35) == ["é".encode() * 10, b"b" * 10, b"c" * 5]
    assert training_sample(iter([["ab"]]), 35) == [b"ab"]


def test_measure() -> None:
    found = measure(["salt and glass", "copper"], [b"copper and salt " * 9], 3)
    assert list(found.bpb) == ["uniform", "gzip", "lzma", "unigram", "ngram"]
    assert found.bpb["uniform"] == 8.0 > found.bpb["unigram"] > found.bpb["ngram"] > 0
    assert (found.documents, found.bytes, found.trained_bytes, found.order) == (2, 20, 144, 3)


def mixed(texts: list[str]) -> pa.Table:
    rows = [
        {"id": f"{i:02}", "source": "web", "domain": "d", "text": text, "epochs": 1.0} for i, text in enumerate(texts)
    ]
    return pa.Table.from_pylist(rows, schema=schemas.MIXED)


def test_the_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The documents that models read, cut as they are for them; training text up to the bound."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRAINYARD_TRACK", "off")
    monkeypatch.setattr("sys.argv", ["controls", "held_out"])
    sampled = {"bytes_per_source": 60, "bytes_per_document": 40}
    params = {"evaluation": {"controls": {"training_bytes": 50, "order": 2}, "evaluate": sampled}}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    write_table("data/evaluation/text/held_out/documents.parquet", mixed(["salt and glass " * 9] * 5), schemas.MIXED)
    with pytest.raises(SystemExit):  # no training text: one line, nothing written
        controls.main()
    assert not Path("data/evaluation/controls/held_out").exists()
    write_table("data/corpus/mix/train.parquet", mixed(["copper and salt " * 9, "dun"]), schemas.MIXED)
    controls.main()
    found = Controls.model_validate(read_json("data/evaluation/controls/held_out/controls.json"))
    assert (found.documents, found.bytes, found.trained_bytes) == (2, 80, 50)
    expected = ngram_bits(ByteNgrams([(b"copper and salt " * 9)[:50]], 2), [(b"salt and glass " * 9)[:40]] * 2)
    assert found.bpb["ngram"] == pytest.approx(expected)
