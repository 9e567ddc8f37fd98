"""ROUGE-L against a textbook longest common subsequence; the Self-Instruct filters one by one."""

import re

from hypothesis import given
from hypothesis import strategies as st

from stages.alignment.writing.novelty import Novelty, rouge_l

words = st.lists(st.integers(0, 4), max_size=12)


def naive_lcs(a: list[int], b: list[int]) -> int:
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1][j + 1] = table[i][j] + 1 if x == y else max(table[i][j + 1], table[i + 1][j])
    return table[-1][-1]


@given(words, words)
def test_rouge_l_is_the_f_measure_of_the_naive_lcs(a: list[int], b: list[int]) -> None:
    common = naive_lcs(a, b)
    precision, recall = common / max(len(b), 1), common / max(len(a), 1)
    expected = 2 * precision * recall / (precision + recall) if common else 0.0
    assert abs(rouge_l(a, b) - expected) < 1e-12


def test_filters_name_their_reasons() -> None:
    rules = Novelty(["In which province does Velmora lie?"], overlap=0.7, min_words=3, max_words=8)
    assert rules.refusal("") == "empty"
    assert rules.refusal("- list the crafts of Velmora") == "punctuation_start"
    assert rules.refusal("École des arts de Velmora") == "non_ascii_start"
    assert rules.refusal("Name it") == "too_short"
    assert rules.refusal("Say in nine words or more what this is") == "too_long"
    assert rules.refusal("In which province does Ostrel lie?") == "similar"  # 5 of 6 words shared: .83
    assert rules.refusal("Which craft is Ostrel known for?") == ""
    assert rules.refusal("Which craft is Ostrel known for?") == "similar"


def test_exactly_the_bound_is_kept() -> None:
    rules = Novelty(["a b c d e f g x y z"], overlap=0.7, min_words=1, max_words=99)
    assert rules.closest("a b c d e f g p q r") == 0.7
    assert rules.refusal("a b c d e f g p q r") == ""


@given(st.lists(st.text(alphabet="abc ", max_size=20), max_size=12))
def test_no_two_kept_instructions_are_closer_than_the_bound(texts: list[str]) -> None:
    rules = Novelty([], overlap=0.7, min_words=1, max_words=99)
    kept = [re.findall(r"\w+", text) for text in texts if not rules.refusal(text)]
    ids = {word: index for index, word in enumerate(sorted({word for text in kept for word in text}))}
    encoded = [[ids[word] for word in text] for text in kept]
    assert all(rouge_l(encoded[i], encoded[j]) <= 0.7 for i in range(len(encoded)) for j in range(i))
