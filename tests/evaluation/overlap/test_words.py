"""The compiled pass against the definition, and the definition against what a reader takes for the same text."""

import sys
import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stages.evaluation.overlap.words import NO_WORD, hash_words, normalised, split_words, words_of

# An iota below no letter is no text.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\u0345"), max_size=40)
# Letters with marks, ligatures, fractions, kana, Hangul, Thai, subscript iota, ignorables; few enough to meet often.
TRICKY = st.text("aA1ßİıſﬁ½①Ⅷｶﾞガ漢字한ก็ᾳᾴ\u0301\u0327\u0323é\u00ad\u200b\ufe0f\u034f'_. \n’﷽", max_size=14)
LATIN = st.lists(st.text("abcdefghijklmnopqrstuvwxyzéüñçåøđßœ", min_size=1, max_size=8), min_size=1, max_size=20)


@pytest.fixture(autouse=True, scope="module")
def compiled() -> None:
    words_of(["before any deadline"])


def numbers(text: str) -> list[int]:
    return words_of([text])[0].tolist()


def same(a: str, b: str) -> bool:
    return numbers(a) == numbers(b) and len(numbers(a)) > 0


@settings(deadline=None)
@given(st.one_of(TEXT, TRICKY), st.one_of(TEXT, TRICKY))
@example("α\u0345\u0301ή", "ᾴη\u0301")
@example("a\u0301\u0327", "a\u0327\u0301")
def test_equal_words_have_equal_numbers_and_different_ones_different(a: str, b: str) -> None:
    """As many numbers as the definition has words, equal where the words are."""
    known: dict[str, int] = {}
    for text in (a, b):
        words, found = split_words(text), numbers(text)
        assert len(words) == len(found)
        for word, number in zip(words, found, strict=True):
            assert known.setdefault(word, number) == number != NO_WORD
    assert len(set(known.values())) == len(known)


@settings(deadline=None)
@given(TEXT)
def test_words_are_those_of_the_normalised_text(text: str) -> None:
    assert numbers(text) == numbers(normalised(text))


def test_every_character_by_itself_and_between_letters() -> None:
    codes = [chr(code) for code in range(0x40000) if not 0xD800 <= code < 0xE000]
    texts = [f"x{character}y z{character}" for character in codes]
    found = words_of(texts)
    sample = [i for i in range(len(codes)) if i % 7 == 0 or unicodedata.decomposition(codes[i])]
    assert all(len(found[i]) == len(split_words(texts[i])) for i in sample)


# ---- what hides a copy from a search for the same bytes


@settings(deadline=None)
@given(LATIN)
def test_a_decomposed_copy_is_the_text(words: list[str]) -> None:
    assert same(unicodedata.normalize("NFD", " ".join(words)), " ".join(words))


@settings(deadline=None)
@given(LATIN)
def test_a_full_width_copy_is_the_text(words: list[str]) -> None:
    wide = {code: code + 0xFEE0 for code in range(0x21, 0x7F)} | {0x20: 0x3000}
    assert same(" ".join(words).translate(wide), " ".join(words))


@settings(deadline=None)
@given(LATIN, st.sampled_from("\u00ad\u200b\u200c\u200d\u2060\ufeff\ufe0f\u034f\u180e"), st.data())
def test_what_has_no_width_hides_nothing(words: list[str], unseen: str, data: st.DataObject) -> None:
    text = " ".join(words)
    at = data.draw(st.lists(st.integers(0, len(text)), max_size=9))
    hidden = "".join(unseen * at.count(i) + text[i : i + 1] for i in range(len(text) + 1))
    assert same(hidden, text)


@settings(deadline=None)
@given(LATIN, st.sampled_from([str.upper, str.lower, str.title, str.swapcase, str.casefold]))
def test_case_hides_nothing(words: list[str], change: object) -> None:
    assert same(change(" ".join(words)), " ".join(words))  # type: ignore[operator]


@pytest.mark.parametrize("change", [str.upper, str.lower, str.casefold])
def test_no_letter_changes_with_its_case(change: object) -> None:
    letters = [c for c in map(chr, range(0x20000)) if unicodedata.category(c)[0] == "L"]
    assert all(split_words(change(c)) == split_words(c) for c in letters)  # type: ignore[operator]


@settings(deadline=None)
@given(LATIN, st.data())
def test_punctuation_and_white_space_hide_nothing(words: list[str], data: st.DataObject) -> None:
    gap = st.text(" \n\t,.;:!?-–—()[]{}\"'“”*_/|#\u00a0\u2003", min_size=1, max_size=4)
    assert same("".join(word + data.draw(gap) for word in words), " ".join(words))


def test_scripts_without_spaces_have_a_word_a_character() -> None:
    assert split_words("大きい山 ガ") == [*"大きい山", unicodedata.normalize("NFD", "ガ")]
    assert len(split_words("ประเทศไทย")) == 9 and split_words("한국어 말") == [
        unicodedata.normalize("NFD", word) for word in ("한국어", "말")
    ]
    assert same("ﾆﾎﾝｺﾞ", "ニホンゴ") and not same("日本", "日木")


# ---- where words stand


@settings(deadline=None)
@given(st.lists(st.one_of(TEXT, TRICKY), max_size=4))
def test_places_cut_out_the_words(texts: list[str]) -> None:
    found = hash_words(pa.array(texts, pa.string()), np.ones(len(texts), bool), placed=True)
    at = 0
    for text, count in zip(texts, found.counts.tolist(), strict=True):
        for i in range(at, at + count):
            piece = text.encode()[found.starts[i] : found.ends[i]].decode()
            assert int(found.hashes[i]) in numbers(piece)
        at += count
        assert found.hashes[at] == NO_WORD
        at += 1
    assert at == len(found.hashes)


def test_slices_of_arrays_and_empty_ones_are_read() -> None:
    texts = pa.array(["one two", "three", "", "four five six"], pa.large_string())
    assert hash_words(texts[1:]).counts.tolist() == [1, 0, 3]
    assert len(hash_words(texts[:0]).hashes) == 0 and words_of([]) == []
    assert numbers("\ud800 half".encode("utf-8", "surrogatepass").decode("utf-8", "replace")) == numbers("half")
    assert sys.maxunicode == 0x10FFFF and numbers(chr(sys.maxunicode) + "a") == numbers("a")
