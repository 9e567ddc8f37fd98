import re

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.corpus.duplicates.ngrams import TABLE, code_points, ngram_hashes, shingles, unicode_tables, words

ODD = "aZ09_ ß\t\n.’İΣςσéÅ中१²½Ⅷ\u0307\u00a0\u2003\u200b\U0001d7d8\U00020000\ud800"


def plain_words(text: str) -> list[str]:
    """What the kernel must find, by Python's own engine; Greek's two lower-case sigmas count as one."""
    return re.findall(r"\w+", text.lower().replace("ς", "σ"))


@settings(deadline=None, max_examples=300)
@given(st.text(alphabet=st.one_of(st.sampled_from(ODD), st.characters(codec=None)), max_size=60))
def test_words_are_those_of_a_regular_expression(text: str) -> None:
    found, expected = words(code_points(text)), plain_words(text)
    # The spans cover the same words ...
    assert [word for a, b in zip(found.starts, found.ends, strict=True) for word in plain_words(text[a:b])] == expected
    # ... and two words have the same hash if and only if they are the same.
    hashes = found.hashes.tolist()
    assert len(hashes) == len(expected)
    assert len(set(zip(hashes, expected, strict=True))) == len(set(hashes)) == len(set(expected))


@settings(deadline=None)
@given(st.text(alphabet="abZ 09_.,\n", max_size=60))
def test_ascii_and_wide_texts_have_the_same_words(text: str) -> None:
    """Both representations of code points go through the kernel: the same hashes."""
    wide = words(code_points("é " + text)).hashes[1:]
    assert wide.tolist() == words(code_points(text)).hashes.tolist()


def test_the_tables_hold_every_letter_digit_space_and_case_of_python() -> None:
    lower, classes = unicode_tables()
    assert [code for code in range(0x110000) if len(chr(code).lower()) > 1] == [0x130]
    for code in range(0x110000):
        character = chr(code)
        kind = classes[code] if code < TABLE else 0
        assert (kind & 1 != 0) == (re.match(r"\w", character) is not None), hex(code)
        assert (kind & 2 != 0) == (re.match(r"\s", character) is not None), hex(code)
        assert (kind & 4 != 0) == (re.match(r"\d", character) is not None), hex(code)
        if code not in (0x130, ord("ς")):
            assert (chr(lower[code]) if code < TABLE else character) == character.lower(), hex(code)


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), max_size=30), st.integers(1, 6))
def test_ngrams_have_equal_hashes_where_they_are_equal(numbers: list[int], n: int) -> None:
    hashes = words(code_points(" ".join(f"word{number}" for number in numbers))).hashes
    grams = [tuple(numbers[place : place + n]) for place in range(len(numbers) - n + 1)]
    found = ngram_hashes(hashes, n).tolist()
    assert len(found) == len(grams)
    assert len(set(zip(found, grams, strict=True))) == len(set(found)) == len(set(grams))


def test_word_order_counts() -> None:
    one, other = (ngram_hashes(words(code_points(text)).hashes, 2) for text in ("red fox", "fox red"))
    assert one[0] != other[0]


def test_a_short_text_is_one_shingle_and_an_empty_one_none() -> None:
    assert len(shingles(words(code_points("only three words")).hashes, 5)) == 1
    assert len(shingles(words(code_points(" ... \n")).hashes, 5)) == 0


def test_no_collisions_among_the_hashes_of_many_words() -> None:
    text = " ".join(f"{number:x}" for number in range(200_000))
    hashes = words(code_points(text)).hashes
    assert len(np.unique(hashes)) == 200_000
    assert len(np.unique(hashes >> np.uint64(32))) > 199_980  # 4.7 expected by chance in 32 bits
