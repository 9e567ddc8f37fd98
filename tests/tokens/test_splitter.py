import pytest
import regex
from hypothesis import given, settings
from tokenizers import pre_tokenizers

from stages.base.errors import ParamError
from stages.tokens.characters import CUT, LETTER, NEWLINE, NUMBER, OTHER, PLANES, SPACE, kinds_for
from stages.tokens.pretokenizers import PRETOKENIZERS, byte_characters, hugging_face
from stages.tokens.splitter import split
from tests.tokens.alphabet import CURATED, texts

NAMES = list(PRETOKENIZERS)
BYTE_OF = {character: byte for byte, character in enumerate(byte_characters())}


def by_library(text: str, name: str) -> list[bytes]:
    """The pieces that `tokenizer.json` cuts."""
    pieces = hugging_face(name).pre_tokenize_str(text)
    return [bytes(BYTE_OF[character] for character in piece) for piece, _ in pieces]


def by_pattern(text: str, name: str) -> list[bytes]:
    """The pieces that the declared pattern finds in the `regex` module, digits cut off first where the name says so."""
    chosen = PRETOKENIZERS[name]
    parts = regex.split(r"(\p{N})", text) if chosen.digits_apart else [text]
    return [found.encode() for part in parts for found in regex.findall(chosen.pattern, part)]


@pytest.mark.parametrize("name", NAMES)
def test_curated_texts_are_cut_as_the_library_cuts_them(name: str) -> None:
    for text in CURATED:
        assert split([text], name) == by_library(text, name), repr(text[:40])


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=400, deadline=None)
@given(text=texts)
def test_random_texts_are_cut_as_the_library_cuts_them(name: str, text: str) -> None:
    pieces = split([text], name)
    assert pieces == by_library(text, name)
    assert b"".join(pieces) == text.encode()


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=300, deadline=None)
@given(text=texts)
def test_the_declared_pattern_cuts_them_so(name: str, text: str) -> None:
    kinds = kinds_for("gpt2")
    known = {OTHER: r"[^\p{L}\p{N}\s]", LETTER: r"\p{L}", NUMBER: r"\p{N}", SPACE: r"\s", NEWLINE: r"[\r\n]"}
    # Each library has a Unicode version of its own: only characters that both classify alike.
    text = "".join(character for character in text if regex.match(known[int(kinds[ord(character)])], character))
    text = text.replace("㉐", "")  # a digit to one part of the library only, see `characters`
    assert split([text], name) == by_pattern(text, name)


def test_no_piece_crosses_two_texts() -> None:
    assert split(["ab", "cd", "", " ", " e"], "gpt2") == [b"ab", b"cd", b" ", b" e"]


def test_what_the_names_promise() -> None:
    text = "x = 12345\n        if y:\n"
    pieces = {name: [piece.decode() for piece in split([text], name)] for name in NAMES}
    assert " 12345" in pieces["gpt2"]
    assert [piece for piece in pieces["digits"] if piece.isdigit()] == list("12345")
    assert [piece for piece in pieces["digits2"] if piece.isdigit()] == ["12", "34", "5"]
    assert [piece for piece in pieces["cl100k"] if piece.isdigit()] == ["123", "45"]
    assert "        " in pieces["code"] and [piece for piece in pieces["code"] if piece.isdigit()] == list("12345")


def test_kinds_of_all_code_points_are_the_librarys() -> None:
    """Beyond `PLANES` too, where the table takes it that nothing is a letter, a digit or a space."""
    kinds = kinds_for("digits")
    for plane in range(17):
        points = [point for point in range(plane << 16, (plane + 1) << 16) if not 0xD800 <= point < 0xE000]
        if plane not in PLANES:
            assert (kinds[points] == OTHER).all()
            text = "".join(map(chr, points))
            assert len(pre_tokenizers.Digits(individual_digits=True).pre_tokenize_str(text)) == 1
            # One run of others: a letter, digit or space would end it.
            assert len(hugging_face("gpt2").pre_tokenize_str(text)) == 1
    assert {kinds[ord(character)] for character in "7½"} == {CUT}
    assert [kinds_for("gpt2")[ord(character)] for character in "7aß語 \u0085\n-"] == [
        NUMBER, LETTER, LETTER, LETTER, SPACE, SPACE, NEWLINE, OTHER,
    ]  # fmt: skip


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ParamError, match=r"tokens\.tokenizer\.pretokenizer.*did you mean `gpt2`"):
        hugging_face("gpt5")
