import itertools
import json
import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from stages.base.errors import ResourceError
from stages.tokens.merges import learn_merges
from stages.tokens.pieces import PieceCounter, Pieces
from stages.tokens.pretokenizers import PRETOKENIZERS, hugging_face
from stages.tokens.splitter import split
from stages.tokens.vocabulary import train_bpe
from tests.tokens.alphabet import CURATED

SAME = np.arange(256, dtype=np.int32)  # byte → id


def pieces_of(counts: dict[bytes, int]) -> Pieces:
    text = b"".join(counts)
    ends = np.cumsum([len(piece) for piece in counts], dtype=np.int64)
    return Pieces(np.frombuffer(text, np.uint8), ends, np.array(list(counts.values()), np.int64))


def naive(counts: dict[bytes, int], limit: int, least: int) -> list[list[int]]:
    """The rule as `merges` states it, everything counted anew for each merge."""
    words = {piece: list(piece) for piece in counts}
    merges: list[list[int]] = []
    while len(merges) < limit:
        pairs: Counter[tuple[int, int]] = Counter()
        for piece, symbols in words.items():
            for pair in itertools.pairwise(symbols):
                pairs[pair] += counts[piece]
        if not pairs or max(pairs.values()) < least:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        for piece, symbols in words.items():
            merged: list[int] = []
            place = 0
            while place < len(symbols):
                if tuple(symbols[place : place + 2]) == best:
                    merged.append(256 + len(merges))
                    place += 2
                else:
                    merged.append(symbols[place])
                    place += 1
            words[piece] = merged
        merges.append(list(best))
    return merges


def spelled(merges: list[list[int]]) -> list[bytes]:
    tokens = [bytes([byte]) for byte in range(256)]
    for left, right in merges:
        tokens.append(tokens[left] + tokens[right])
    return tokens


@settings(max_examples=300, deadline=None)
@given(
    counts=st.dictionaries(
        st.one_of(st.text("ab", min_size=1, max_size=14), st.text("aab c", min_size=1, max_size=30)).map(str.encode),
        st.integers(1, 5),
        min_size=1,
        max_size=12,
    ),
    least=st.integers(1, 3),
)
def test_merges_are_those_of_a_naive_trainer(counts: dict[bytes, int], least: int) -> None:
    merges = learn_merges(pieces_of(counts), SAME, 60, least).tolist()
    assert merges == naive(counts, 60, least)
    assert len(set(spelled(merges))) == 256 + len(merges), "no string is two tokens"


@pytest.mark.parametrize("run", range(2, 40))
def test_runs_of_one_letter_merge_from_the_left(run: int) -> None:
    counts = {b"a" * run: 3, b"b" + b"a" * (run // 2): 2, b"ab" * run: 1}
    assert learn_merges(pieces_of(counts), SAME, 50, 2).tolist() == naive(counts, 50, 2)


def test_many_pairs_make_the_tables_grow() -> None:
    generator = random.Random(3)
    counts = {generator.randbytes(12): generator.randint(1, 9) for _ in range(700)}
    merges = learn_merges(pieces_of(counts), SAME, 120, 2).tolist()
    assert len(merges) == 120 and merges == naive(counts, 120, 2)


def test_equal_counts_are_settled_by_the_ids() -> None:
    assert learn_merges(pieces_of({b"zy": 2, b"ba": 2, b"bz": 2}), SAME, 3, 2).tolist() == [
        [98, 97],
        [98, 122],
        [122, 121],
    ]
    backwards = SAME[::-1].copy()
    assert learn_merges(pieces_of({b"zy": 2, b"ba": 2}), backwards, 1, 2).tolist() == [[255 - 122, 255 - 121]]


def test_pairs_below_the_least_frequency_stay_apart() -> None:
    assert learn_merges(pieces_of({b"ab": 1, b"cd": 2}), SAME, 9, 2).tolist() == [[99, 100]]


def test_counts_over_four_bytes_are_refused() -> None:
    with pytest.raises(ResourceError, match="max_bytes"):
        learn_merges(pieces_of({b"ab": 2**31}), SAME, 1, 2)


@pytest.mark.parametrize("name", PRETOKENIZERS)
def test_pieces_are_counted(name: str) -> None:
    counter = PieceCounter(name)
    texts = CURATED * 3 + [f"word{number} {number}" for number in range(30000)]
    for start in range(0, len(texts), 7000):
        counter.add(texts[start : start + 7000])
    found = counter.pieces()
    starts = [0, *found.ends[:-1].tolist()]
    whole = found.text.tobytes()
    counts = {
        whole[first:last]: count
        for first, last, count in zip(starts, found.ends.tolist(), found.counts.tolist(), strict=True)
    }
    assert counts == Counter(split(texts, name)) and len(counts) == len(found.ends)


def corpus() -> list[str]:
    generator = random.Random(0)
    words = [
        "heron",
        "naïveté",
        "河川の",
        "lantern's",
        "12",
        "1999",
        "   ",
        "\n\t",
        "aaaa",
        "übersetzt",
        "==",
        "the",
        "and",
    ]
    return [
        " ".join(generator.choices(words, k=40)) + "\n" + "a" * generator.randint(0, 9) for _ in range(300)
    ] + CURATED


@pytest.mark.parametrize("name", PRETOKENIZERS)
def test_the_librarys_trainer_agrees(name: str) -> None:
    peer = Tokenizer(models.BPE())
    peer.pre_tokenizer = hugging_face(name)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=600, min_frequency=2, show_progress=False, initial_alphabet=alphabet, special_tokens=[]
    )
    peer.train_from_iterator(corpus(), trainer)
    ours = json.loads(train_bpe(corpus(), 605, name).to_str())["model"]
    theirs = json.loads(peer.to_str())["model"]
    assert len(ours["merges"]) > 100 and ours == theirs


def test_the_order_of_texts_changes_nothing() -> None:
    texts = corpus()
    first = train_bpe(texts, 600, "gpt2").to_str()
    random.Random(1).shuffle(texts)
    assert train_bpe(texts, 600, "gpt2").to_str() == first
    assert train_bpe(iter(["", *texts]), 600, "gpt2").to_str() == first
