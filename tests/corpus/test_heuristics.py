from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from stages.base.errors import ParamError
from stages.base.params import parse
from stages.corpus import outliers, repetition
from stages.corpus.heuristics import HeuristicsParams, apply_rules, filter_documents
from stages.corpus.words import sentences, words
from tests.corpus.documents import prose, settings, table

QUALITY = {
    "min_doc_words": 50,
    "max_doc_words": 100000,
    "min_avg_word_length": 3,
    "max_avg_word_length": 10,
    "max_symbol_word_ratio": 0.1,
    "max_bullet_lines_ratio": 0.9,
    "max_ellipsis_lines_ratio": 0.3,
    "max_non_alpha_words_ratio": 0.8,
    "min_stop_words": 2,
}
REPETITION = {
    "dup_line_frac": 0.3,
    "dup_para_frac": 0.3,
    "dup_line_char_frac": 0.2,
    "dup_para_char_frac": 0.2,
    "top_n_grams": ((2, 0.2), (3, 0.18), (4, 0.16)),
    "dup_n_grams": ((5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.1)),
}
C4 = {
    "remove_citations": True,
    "filter_no_terminal_punct": True,
    "min_num_sentences": 5,
    "min_words_per_line": 3,
    "max_word_length": 1000,
    "filter_lorem_ipsum": True,
    "filter_javascript": True,
    "filter_curly_bracket": True,
    "filter_policy": True,
}
FINEWEB = {
    "line_punct_thr": 0.12,
    "line_punct_exclude_zero": False,
    "short_line_thr": 0.67,
    "short_line_length": 30,
    "char_duplicates_ratio": 0.01,
    "new_line_ratio": 0.3,
}
GOOD = "The baker and the miller have " + prose(120, 1)


def reason(text: str, **rules: dict) -> str:
    (decision,) = apply_rules([text], rules)
    assert decision.kept == (decision.reason == "") == (decision.rule == "")
    return decision.reason


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GOOD, ""),
        ("The baker and the miller.", "gopher_short_doc"),
        ("", "gopher_short_doc"),
        ("it is to be of an ox " * 20, "gopher_below_avg_threshold"),
        ("internationalisation institutionalisation " * 40, "gopher_above_avg_threshold"),
        (GOOD + " # # #" * 10, "gopher_too_many_hashes"),
        (GOOD + " ... " * 20, "gopher_too_many_ellipsis"),
        ("\n".join("- " + line + "." for line in GOOD.split(". ")), "gopher_too_many_bullets"),
        (GOOD.replace(". ", " ...\n"), "gopher_too_many_end_ellipsis"),
        (GOOD + " 12345" * 60, "gopher_below_alpha_threshold"),
        (prose(100, 3), "gopher_enough_stop_words"),
    ],
)
def test_gopher_quality_reasons(text: str, expected: str) -> None:
    assert reason(text, gopher_quality=QUALITY) == expected


def test_the_longest_document() -> None:
    assert reason(GOOD, gopher_quality=QUALITY | {"max_doc_words": 100}) == "gopher_long_doc"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GOOD, ""),
        ("", ""),
        ("\n\n".join(["one paragraph"] * 2 + [prose(40, 1)]), "dup_para_frac"),
        ("\n\n".join([prose(30, n) for n in range(6)] + [prose(30, 1), prose(30, 2)]), "dup_para_char_frac"),
        ("\n".join(["one line"] * 5 + [prose(40, n) for n in range(5)]), "dup_line_frac"),
        ("\n".join([prose(30, n) for n in range(6)] + [prose(30, 1), prose(30, 2)]), "dup_line_char_frac"),
        ("good bye " * 10 + prose(40, 1), "top_2_gram"),
        (" ".join(prose(3, n) + " so it goes" for n in range(30)), "top_3_gram"),
    ],
)
def test_gopher_repetition_reasons(text: str, expected: str) -> None:
    assert reason(text, gopher_repetition=REPETITION) == expected


def test_repeated_n_grams_name_their_length() -> None:
    phrase, other = prose(7, 50).replace(".", ""), prose(7, 51).replace(".", "")
    text = " ".join([phrase, prose(40, 1), other, prose(45, 2), phrase, prose(30, 3), other])
    only = REPETITION | {"dup_n_grams": {"7": 0.05}}
    assert reason(text, gopher_repetition=only) == "duplicated_7_n_grams"
    assert reason(text, gopher_repetition=REPETITION | {"dup_n_grams": {"8": 0.05}}) == ""


def naive_top(tokens: list[str], n: int) -> int:
    grams = [" ".join(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
    if not grams:
        return 0
    gram, count = Counter(grams).most_common(1)[0]
    return len(gram) * count


def naive_repeated(tokens: list[str], n: int) -> int:
    seen, characters, place = set(), 0, 0
    while place + n <= len(tokens):
        gram = "".join(tokens[place : place + n])
        characters += len(gram) * (gram in seen)
        place += n if gram in seen else 1
        seen.add(gram)
    return characters


@hypothesis_settings(deadline=None, max_examples=200)
@given(st.lists(st.sampled_from(["a", "b", "ab", "ba", "é", "𐍈", "."]), max_size=60))
def test_n_gram_counts_equal_a_naive_count(tokens: list[str]) -> None:
    top, repeated = [1, 2, 3, 4], [2, 3, 5, 10]
    assert repetition.ngram_characters(tokens, top, repeated) == (
        [naive_top(tokens, n) for n in top],
        [naive_repeated(tokens, n) for n in repeated],
    )


def test_c4_cuts_lines_and_keeps_the_rest() -> None:
    lines = [
        "Home",
        "The mill stands by the river.[3] It is old.",
        "Please enable Javascript to read this page.",
        "By reading on you accept our privacy policy.",
        "No stop at the end of this line",
        "Two words.",
        "The miller sleeps. The river does not. Does it?",
        "a" * 1001 + " is too long a word.",
    ]
    (decision,) = apply_rules(["\n".join(lines)], {"c4_quality": C4})
    assert decision == (
        True,
        "",
        "",
        "The mill stands by the river. It is old.\nThe miller sleeps. The river does not. Does it?",
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Lorem ipsum dolor sit amet.", "lorem_ipsum"),
        ("The body is set in braces { like this }.", "curly_bracket"),
        ("The first is here. The second is here.", "too_few_sentences"),
    ],
)
def test_c4_drops_documents(text: str, expected: str) -> None:
    assert reason(text, c4_quality=C4) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GOOD, ""),
        ("\n\n", "empty"),
        ("\n".join(["a line without a full stop at its end"] * 9 + ["One with."]), "line_punct_ratio"),
        ("\n".join(f"Short line {n}." for n in range(9)), "short_line_ratio"),
        ("\n".join([GOOD, "The same words stand here two times."] * 2), "char_dup_ratio"),
        ("\n".join(f"Line{n}{'x' * 30}." for n in range(30)), "list_ratio"),
    ],
)
def test_fineweb_reasons(text: str, expected: str) -> None:
    assert reason(text, fineweb_quality=FINEWEB) == expected


def test_rules_run_in_order_and_later_ones_see_the_rewritten_text() -> None:
    text = "\n".join(["menu"] * 10) + "\n" + GOOD
    assert reason(text, gopher_repetition=REPETITION, c4_quality=C4) == "dup_line_frac"
    (decision,) = apply_rules([text], {"c4_quality": C4, "fineweb_quality": FINEWEB})
    assert decision.kept and decision.text == GOOD


def test_a_misspelt_rule_is_an_error() -> None:
    with pytest.raises(ParamError, match="did you mean `min_doc_words`"):
        apply_rules(["text"], {"gopher_quality": QUALITY | {"min_doc_word": 3}})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It's 3.14, isn't it?", ["It", "'s", "3.14", ",", "is", "n't", "it", "?"]),
        ("np.array is well-known...", ["np.array", "is", "well", "-", "known", "..."]),
        ("The end.", ["The", "end", "."]),
        ("snake_case = 1,000", ["snake_case", "=", "1,000"]),
    ],
)
def test_words_are_cut_as_spacy_cuts_them(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_sentences() -> None:
    assert [sentences(line) for line in ("One. Two! Three?", 'He said "no." She left', "no end", "v1.2.3 is out.")] == [
        3,
        2,
        1,
        1,
    ]


def test_cross_entropy_leaves_the_text_out() -> None:
    texts = [["a", "b"], ["a", "b"], ["a", "c"]]
    # Others of the last: a 2, b 2; smoothed over 3 words: a 3/7, c 1/7.
    expected = -(np.log(3 / 7) + np.log(1 / 7)) / 2
    assert outliers.cross_entropies(texts)[2] == pytest.approx(expected)
    assert np.isnan(outliers.cross_entropies([[], ["a"]])[0])


def test_gibberish_is_an_outlier_and_each_source_has_its_rules() -> None:
    rows = [{"text": prose(80, n), "source": "plain"} for n in range(40)]
    rows.append({"text": " ".join(f"zq{n}x" for n in range(80)), "source": "plain"})
    rows += [{"text": "Short.", "source": "strict"}, {"text": GOOD, "source": "strict"}]
    params = parse(
        "corpus.heuristics",
        settings("{max_drop: 0.5, max_outlier_score: {plain: 6.0, default: null}}")
        | {
            "rules": {
                "plain": dict.fromkeys(("gopher_repetition", "gopher_quality", "c4_quality", "fineweb_quality")),
                "default": {
                    "gopher_repetition": None,
                    "gopher_quality": QUALITY,
                    "c4_quality": None,
                    "fineweb_quality": None,
                },
            }
        },
        HeuristicsParams,
    )
    kept, drops, metrics = filter_documents(table(rows), params)
    assert kept.num_rows == 41
    assert list(zip(drops["rule"].to_pylist(), drops["reason"].to_pylist(), strict=True)) == [
        ("token_distribution", "cross_entropy_high"),
        ("gopher_quality", "gopher_short_doc"),
    ]
    assert metrics["strict_kept_by_rules"] == 0.5
