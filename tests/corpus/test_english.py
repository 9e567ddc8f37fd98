"""English words and sentences, remembered chunk by chunk, against spaCy on the whole text."""

from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.corpus.rules import lexicon as module
from stages.corpus.rules.english import LONG, english
from stages.corpus.rules.lexicon import Lexicon, Text
from stages.corpus.rules.sentences import count

# Pieces that affix rules, exceptions and white space meet in; joined at random.
PIECES = [
    *"abzABZ019.,:;!?()[]{}<>_#*&'\"`%=$+-~^/\\|@ \t\n",
    *"…‘’“”„‚«»—–−§°²³€£¥µéßñİſÅñабвЖ漢字。、！？ー・한ا،؟।☂★→™©👍🏽👩👧🇩🇪",
    *"\u0301\u200d\u200b\u00ad\u00a0\u2003\u3000\u2028\u2029\x85\x1c\x1d\x1e\x1f\x0b\x0c\ufeff\ufe0f\u202e\x00",
    " ",
    " ",
    "  ",
    ". ",
    ".\n",
    "...",
    "..",
    "--",
    "---",
    "''",
    "'s",
    "’s",
    "n't",
    "n’t",
    "'ll",
    "'em",
    "US$",
    "A$",
    "km",
    "km/h",
    "http://",
    "www.",
    ".com",
    ".co.uk",
    "a.m.",
    "p.m.",
    "e.g.",
    "i.e.",
    "Mr.",
    "Dr.",
    "U.S.",
    "vs.",
    "Ph.D.",
    "and/or",
    "w/o",
    ":)",
    ":-)",
    ":(",
    ":-))",
    ":((",
    "):",
    "(:",
    "=(",
    "<3",
    "<33",
    ":D",
    ":'(",
    "8)",
    "8-)",
    "^_^",
    "(^_^)",
    "-_-",
    "(-_-)",
    "><(((*>",
    "(o:",
    ":0",
    ":3",
    "[:",
    ":]",
    "=[",
    '\\")',
    "<space>",
    "10a.m.",
    "cannot",
    "gonna",
    "don't",
    "Don’t",
    "I'm",
    "word",
    "Word",
    "WORD",
    "well-known",
    "snake_case",
    "IS_ALPHA",
    "1,000.5",
    "3.14",
    "x=1",
    "f(x)",
    "a.b(c)",
    "np.array",
]
ODD_TEXTS = st.lists(st.sampled_from(PIECES), max_size=25).map("".join)
SMILES = st.lists(st.sampled_from([*"():-=8<3>D'[]/ ", " ", "a", ":-)", "\n"]), max_size=14).map("".join)


@cache
def pipeline() -> Any:
    import spacy

    nlp = spacy.blank("en")
    nlp.add_pipe("sentencizer")
    return nlp


def spacy_words(text: str) -> list[str]:
    return [token.text for token in pipeline().tokenizer(text) if not token.is_space]


def spacy_sentences(text: str) -> int:
    return max(1, len(list(pipeline()(text).sents)))


def words(text: str, lexicon: Lexicon) -> list[str]:
    """The words that the numbers stand for."""
    one = Text(text, lexicon)
    lexicon.describe()
    names = list(lexicon._words)
    return [names[number] for number in one.words]


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    return Lexicon()


@settings(deadline=None, max_examples=1500)
@given(st.one_of(ODD_TEXTS, SMILES, st.text(max_size=30)))
def test_words_chunk_by_chunk_are_spacys_of_the_whole_text(lexicon: Lexicon, text: str) -> None:
    expected = spacy_words(text)
    assert words(text, lexicon) == expected
    assert [token for token in english().whole(text) if token != "\n"] == expected


@settings(deadline=None, max_examples=1500)
@given(st.one_of(ODD_TEXTS, SMILES, st.text(st.sampled_from("ab.!?)\"' \t\n\u00a0。…"), max_size=20)))
def test_sentences_are_those_of_spacys_sentencizer(lexicon: Lexicon, text: str) -> None:
    assert count(text, lexicon) == spacy_sentences(text)


def test_every_short_chunk_of_ascii_is_cut_as_spacy_cuts_it() -> None:
    """All of up to three characters of those that rules mention, and every exception in every setting."""
    alphabet = "aZm1.,:'\"!()-+$%/_=<~^"
    chunks = [*alphabet, *(a + b for a in alphabet for b in alphabet)]
    chunks += [a + b + c for a in alphabet for b in alphabet for c in alphabet]
    chunks += [chr(code) + after for code in range(33, 127) for after in ("", "a", "1", ".", "..", "A", "ab")]
    chunks += [before + chr(code) for code in range(33, 127) for before in ("a", "1", ".", "..", "A", "AB", "1m")]
    chunks += [
        f"{a}{chr(code)}{b}" for code in range(33, 127) for a in ("a", "A", "1", "'") for b in ("a", "A", "1", '"')
    ]
    for text in english().exceptions:
        if not any(map(str.isspace, text)):
            chunks += [
                text,
                f"({text}",
                f"{text})",
                f"({text}).",
                f"x{text}",
                f"{text}x",
                f"1{text}",
                f"{text}-y",
                f"..{text},",
            ]
    tokens, starts, ends, _, _, order = english().cut(chunks)
    found = {chunks[place]: tokens[a:b] for place, a, b in zip(order, starts, ends, strict=True)}
    for chunk in chunks:
        assert found[chunk] == [token.text for token in pipeline().tokenizer(chunk)], chunk


def test_long_chunks_are_cut_as_spacy_cuts_them() -> None:
    ends = ["!" * 40, "." * 2000, "(" * 30 + "…", "'s" * 20, "»" * 300 + ".." + "€", ":-)" * 10, "é5km)", "文。」"]
    for before in ends:
        for after in ends:
            chunk = before + "é" * LONG + "," + "b" * 20 + after
            assert words(chunk, Lexicon()) == spacy_words(chunk), (before[:3], after[:3])


def test_a_hostile_chunk_takes_no_time_to_speak_of() -> None:
    assert len(words("!" * 300_000, Lexicon())) == 300_000
    assert len(words("é" + "»!" * 20_000, Lexicon())) == 40_001


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "unit", ["http://é.com/é", "http://a.com/a", "é-", "a@b.c-é", "é://", "é..", "..é", "…é", "é" + "." * 999, ".é'"]
)
def test_no_repetition_takes_more_than_linear_time(unit: str) -> None:
    """Half a megabyte; quadratic time would be minutes."""
    assert "".join(words(unit * (500_000 // len(unit)), Lexicon())) == unit * (500_000 // len(unit))


def test_a_long_run_of_dots_inside_a_chunk_is_one_infix() -> None:
    assert words("é" + "." * 200_000 + "é", Lexicon()) == ["é", "." * 200_000, "é"]


@settings(deadline=None, max_examples=500)
@given(st.lists(st.sampled_from([*"a1é:@/.?#-_", "http://", "me:pass@", "b.com", "10.1.2.3", ":80"]), max_size=12))
def test_what_is_a_url_is_what_spacy_says(parts: list[str]) -> None:
    text = "".join(parts)
    assert bool(english().is_url(text)) == bool(pipeline().tokenizer.url_match(text))


def test_neighbours_that_hide_each_others_exceptions() -> None:
    text = "x:-) ) and y:( ( or z:-)) )"
    assert words(text, Lexicon()) == spacy_words(text)
    apart = [token for chunk in text.split() for token in spacy_words(chunk)]
    assert apart != spacy_words(text)  # chunk by chunk alone would be wrong here


@settings(deadline=None, max_examples=30)
@given(st.lists(ODD_TEXTS, min_size=2, max_size=8))
def test_what_is_remembered_changes_nothing(texts: list[str]) -> None:
    lexicon = Lexicon()
    together = [words(text, lexicon) for text in texts]
    assert together == [words(text, Lexicon()) for text in texts]
    assert together[::-1] == [words(text, lexicon) for text in texts[::-1]]


def test_lone_surrogates_are_letters_of_no_alphabet() -> None:
    assert words("a\ud800b, é\udfff.", Lexicon()) == ["a\ud800b", ",", "é\udfff."]


def test_too_much_is_forgotten_and_learned_again(monkeypatch: pytest.MonkeyPatch) -> None:
    lexicon = Lexicon()
    monkeypatch.setattr(module, "MAX_CHUNKS", 5)
    for text in ("one two three four", "five, six. seven!", "one (two) three's", "eight nine"):
        lexicon.trim()
        assert words(text, lexicon) == spacy_words(text)
        assert lexicon._chunks.size <= 9
