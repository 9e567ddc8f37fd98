import json
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer

from stages.base.errors import InputError
from stages.tokens import encoder as encoders
from stages.tokens import vocabulary
from stages.tokens.encoder import Encoder, encode_batches
from stages.tokens.merging import SHORT
from stages.tokens.pretokenizers import PRETOKENIZERS
from stages.tokens.vocabulary import encode_documents, train_bpe
from tests.tokens.alphabet import CURATED, texts
from tests.tokens.test_merges import corpus


@pytest.fixture(scope="module", params=PRETOKENIZERS)
def pair(request: pytest.FixtureRequest) -> tuple[Tokenizer, Encoder]:
    tokenizer = train_bpe(corpus(), 704, request.param)
    return tokenizer, Encoder(tokenizer.to_str())


def ids_by_library(tokenizer: Tokenizer, many: list[str]) -> list[list[int]]:
    return [found.ids for found in tokenizer.encode_batch(many, add_special_tokens=False)]


def as_lists(encoded: encoders.Encoded) -> list[list[int]]:
    return [ids.tolist() for ids in encoded.documents()]


def test_curated_texts_have_the_librarys_ids(pair: tuple[Tokenizer, Encoder]) -> None:
    tokenizer, encoder = pair
    assert as_lists(encoder.encode(CURATED)) == ids_by_library(tokenizer, CURATED)
    assert as_lists(encoder.encode(CURATED)) == ids_by_library(tokenizer, CURATED), "from the cache too"


@settings(max_examples=300, deadline=None)
@given(text=texts)
def test_random_texts_have_the_librarys_ids(pair: tuple[Tokenizer, Encoder], text: str) -> None:
    tokenizer, encoder = pair
    assert as_lists(encoder.encode([text, text])) == ids_by_library(tokenizer, [text, text])


def test_pieces_of_every_length_have_the_librarys_ids(pair: tuple[Tokenizer, Encoder]) -> None:
    """Around the cache's longest piece, the limit between the two ways to merge, and a run of a hundred thousand."""
    tokenizer, encoder = pair
    generator = random.Random(5)
    lengths = [*range(1, 2 * SHORT), 255, 256, 257, 4000, 100_000]
    many = ["".join(generator.choices("aahernlt", k=length)) for length in lengths]
    assert as_lists(encoder.encode(many)) == ids_by_library(tokenizer, many)


def test_pieces_of_one_length_and_like_bytes_are_told_apart() -> None:
    """A cache's row holds the piece itself: zeros behind its end, or a long common beginning, mislead nothing."""
    tokenizer = train_bpe(corpus(), 400, "gpt2")
    many = [
        "\x00",
        "\x00\x00",
        "\x00" * 8,
        "\x00" * 9,
        "ab",
        "ab\x00",
        "a" * 31 + "b",
        "a" * 31 + "c",
        "a" * 32,
        "a" * 33,
    ]
    encoder = Encoder(tokenizer.to_str())
    for _ in range(2):
        assert as_lists(encoder.encode(many)) == ids_by_library(tokenizer, many)


def test_a_cache_of_one_set_gives_the_same_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every piece fights for four rows: what is evicted is merged again."""
    tokenizer = train_bpe(corpus(), 704, "gpt2")
    expected = as_lists(Encoder(tokenizer.to_str()).encode(corpus()))
    monkeypatch.setattr(encoders, "SETS", 1)
    small = Encoder(tokenizer.to_str())
    assert small._cache.shape == (4, 8)
    assert as_lists(small.encode(corpus())) == expected == ids_by_library(tokenizer, corpus())


@pytest.mark.parametrize("workers", ["1", "2"])
def test_any_number_of_workers_gives_the_same_ids(workers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = train_bpe(corpus(), 500, "cl100k")
    monkeypatch.setenv("TRAINYARD_WORKERS", workers)
    monkeypatch.setenv("TRAINYARD_ENGINE", "processes")
    monkeypatch.setattr(vocabulary, "ALONE_BYTES", 0)
    monkeypatch.setattr(vocabulary, "BATCH_BYTES", 3000)
    found = encode_documents(tokenizer, corpus())
    assert [ids.tolist() for ids in found] == ids_by_library(tokenizer, corpus())
    assert {ids.dtype for ids in found} == {np.dtype(np.uint16)}


def test_batches_keep_their_order() -> None:
    tokenizer = train_bpe(corpus(), 500, "gpt2")
    batches = [corpus()[:3], [], corpus()[3:5]]
    assert [as_lists(part) for part in encode_batches(batches, tokenizer.to_str())] == [
        ids_by_library(tokenizer, batch) for batch in batches
    ]


def test_a_vocabulary_over_two_bytes_has_wider_ids() -> None:
    tokenizer = train_bpe(corpus(), 500, "gpt2")
    tokenizer.add_tokens([f"<{number}>" for number in range(1 << 16)])
    (ids,) = encode_documents(tokenizer, ["heron <65535> <0>"])
    assert ids.dtype == np.uint32 and ids.max() > 1 << 16
    assert ids.tolist() == ids_by_library(tokenizer, ["heron <65535> <0>"])[0]


ADDED = ["heron", "herons", "her", " miller", "<b>", "é", "🧑‍🌾", "aa", ".", "\n\n", "<|tool|>"]


@pytest.fixture(scope="module", params=PRETOKENIZERS)
def extended(request: pytest.FixtureRequest) -> tuple[Tokenizer, Encoder]:
    tokenizer = train_bpe(corpus(), 704, request.param)
    tokenizer.add_tokens(ADDED[:-1])
    tokenizer.add_special_tokens(ADDED[-1:])
    return tokenizer, Encoder(tokenizer.to_str())


@settings(max_examples=200, deadline=None)
@given(parts=st.lists(st.one_of(st.sampled_from(ADDED), texts), max_size=12))
def test_added_tokens_have_the_librarys_ids(extended: tuple[Tokenizer, Encoder], parts: list[str]) -> None:
    tokenizer, encoder = extended
    many = ["".join(parts), *CURATED[:3], *parts, ""]
    assert as_lists(encoder.encode(many)) == ids_by_library(tokenizer, many)


def test_an_added_token_that_strips_is_refused() -> None:
    tokenizer = train_bpe(corpus(), 500, "gpt2")
    tokenizer.add_tokens([AddedToken("heron", lstrip=True)])
    with pytest.raises(InputError, match="strips"):
        Encoder(tokenizer.to_str())


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(InputError, match="UTF-8"):
        Encoder(train_bpe(corpus(), 500, "gpt2").to_str()).encode(["\ud800"])


def test_a_foreign_tokenizer_is_refused() -> None:
    declared = json.loads(train_bpe(corpus(), 500, "gpt2").to_str())
    with pytest.raises(InputError, match="pre-tokenizer is none"):
        Encoder(json.dumps(declared | {"pre_tokenizer": {"type": "Whitespace"}}))
    with pytest.raises(InputError, match="no byte-level BPE"):
        Encoder(json.dumps(declared | {"model": declared["model"] | {"type": "WordPiece"}}))
    with pytest.raises(InputError, match="no byte-level BPE"):
        Encoder(json.dumps(declared | {"normalizer": {"type": "NFC"}}))
