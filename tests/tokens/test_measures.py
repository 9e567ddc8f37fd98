import numpy as np
import pytest

from stages.base.errors import InputError
from stages.tokens.measures import is_code_space, is_digits, measure, metrics, token_bytes
from stages.tokens.vocabulary import encode_documents, train_bpe

TEXTS = ["year 1999 was é\n", "if x:\n    return 1999\n", "naïve é"]


def test_figures_are_what_counting_gives() -> None:
    tokenizer = train_bpe(TEXTS * 5, 400, "gpt2")
    ids = encode_documents(tokenizer, TEXTS)
    known = token_bytes(tokenizer)
    figures = metrics(measure(ids, TEXTS, ["a", "b", "a"], ["x", "x", ""], len(known)), tokenizer)
    every = [known[number] for document in ids for number in document]
    assert b"".join(every) == "".join(TEXTS).encode()
    size, tokens = len("".join(TEXTS).encode()), len(every)
    assert figures["bytes_per_token"] == pytest.approx(size / tokens)
    assert figures["bytes_per_character"] == pytest.approx(size / sum(map(len, TEXTS)))
    assert figures["characters_per_token"] == pytest.approx(sum(map(len, TEXTS)) / tokens)
    assert figures["tokens_per_word"] == pytest.approx(tokens / sum(len(text.split()) for text in TEXTS))
    assert figures["vocabulary_used"] == len(set(every)) < len(known)
    assert figures["vocabulary_used_share"] == pytest.approx(len(set(every)) / len(known))
    assert figures["digit_share"] == pytest.approx(sum(map(is_digits, every)) / tokens) and figures["digit_share"] > 0
    assert figures["code_space_share"] == pytest.approx(sum(map(is_code_space, every)) / tokens)
    assert figures["bytes_per_token_source_b"] == pytest.approx(len(TEXTS[1].encode()) / len(ids[1]))
    assert figures["bytes_per_token_domain_x"] == pytest.approx(
        sum(len(text.encode()) for text in TEXTS[:2]) / (len(ids[0]) + len(ids[1]))
    )
    assert "bytes_per_token_domain_none" in figures


def test_kinds_of_tokens() -> None:
    assert [is_digits(token) for token in (b"12", b" 1999", b"1a", b" ", "½".encode(), b"\xd9")] == [True] * 2 + [
        False
    ] * 4
    spaces = {b"  ": True, b"\n": True, b"\t": True, b" ": False, b" x": False, b"\n\n    ": True}
    assert {token: is_code_space(token) for token in spaces} == spaces


def test_no_documents_are_refused() -> None:
    with pytest.raises(InputError, match="no documents"):
        measure([], [], [], [], 256)


def test_empty_documents_divide_by_nothing() -> None:
    tokenizer = train_bpe(TEXTS, 320, "gpt2")
    figures = metrics(measure([np.zeros(0, np.uint16)], [""], ["a"], ["x"], len(token_bytes(tokenizer))), tokenizer)
    assert figures["bytes_per_token"] == 0 and figures["vocabulary_used"] == 0
