import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from stages.base import schemas
from stages.base.errors import ParamError
from stages.base.tables import write_table
from stages.corpus import heuristics
from stages.corpus.heuristics import DOCUMENTS, apply_rules
from stages.corpus.rules import outliers, repetition
from stages.corpus.rules.characters import codes
from stages.corpus.rules.lexicon import hashes
from tests.corpus.documents import prose, table

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
        ("", "empty"),
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


@hypothesis_settings(deadline=None, max_examples=300)
@given(st.lists(st.sampled_from(["a", "b", "ab", "ba", "é", "𐍈", "."]), max_size=60))
def test_n_gram_counts_equal_a_naive_count(tokens: list[str]) -> None:
    names = sorted(set(tokens))
    row = np.array([names.index(token) for token in tokens], np.int32)
    numbers = *hashes(names), np.array([2, 3, 1, 2, 3, 5, 10])
    counts = [naive_top(tokens, n) for n in (2, 3, 1)] + [naive_repeated(tokens, n) for n in (2, 3, 5, 10)]
    for rule, count in enumerate(counts):  # bounds that only this rule breaks, and by one character
        bounds = np.full(7, 1e9)
        bounds[rule] = count - 0.5
        assert repetition.first_broken(row, *numbers, bounds, 3, 1) == rule
        bounds[rule] = count
        assert repetition.first_broken(row, *numbers, bounds, 3, 1) == -1


@hypothesis_settings(deadline=None, max_examples=300)
@given(st.lists(st.sampled_from(["a", "ab", " ", "\n", "\n\n", "\n\n\n", "é\r", ""]), max_size=30).map("".join))
def test_duplicate_lines_and_paragraphs_equal_a_naive_count(text: str) -> None:
    for feeds in (1, 2):
        parts = re.split(f"\n{{{feeds},}}", text)
        again = [part for place, part in enumerate(parts) if part in parts[:place]]
        assert repetition.duplicates(codes(text), feeds) == (len(parts), len(again), len("".join(again)))


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


def test_cross_entropy_leaves_the_text_out() -> None:
    texts = [np.array(row) for row in ([1, 2], [1, 2], [1, 3])]
    counts = np.zeros(1 << outliers.BITS, np.int64)
    for met, number in map(outliers.count, [texts[:2], texts[2:]]):
        counts[met] += number
    source = outliers.summed(counts)
    # Others of the last: word 1 twice, word 2 twice; smoothed over 3 words: word 1 3/7, word 3 1/7.
    assert outliers.cross_entropy(texts[2], source) == pytest.approx(-(np.log(3 / 7) + np.log(1 / 7)) / 2)
    assert np.isnan(outliers.cross_entropy(np.zeros(0, np.int64), source))


def test_scores_are_robust() -> None:
    scale = outliers.scale(np.array([1.0, 2.0, 3.0, 4.0, 1000.0, np.nan]))
    assert scale == (3.0, 1.4826)
    assert scale.score(3.0 + 2 * 1.4826) == pytest.approx(2.0)
    assert scale.score(float("nan")) == 0.0
    assert outliers.scale(np.full(5, 7.0)).score(100.0) == 0.0


@pytest.fixture
def crawl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two sources in several batches; one text of gibberish in `plain`, one short text in `strict`."""
    monkeypatch.chdir(tmp_path)
    rows = [{"text": prose(80, n), "source": "plain"} for n in range(400)]
    rows[300:300] = [{"text": " ".join(f"zq{n}x" for n in range(80)), "source": "plain"}]
    rows += [{"text": "Short.", "source": "strict"}, {"text": f"menu\n{GOOD}\nLines with no stop", "source": "strict"}]
    Path(DOCUMENTS).parent.mkdir(parents=True)
    write_table(DOCUMENTS, table(rows), schemas.DOCUMENT)
    none = dict.fromkeys(("gopher_repetition", "gopher_quality", "c4_quality", "fineweb_quality"))
    repetition_rules = json.loads(json.dumps(REPETITION))
    params = {
        "max_drop": 0.5,
        "max_outlier_score": {"plain": 6.0, "default": None},
        "rules": {
            "plain": none | {"gopher_repetition": repetition_rules},
            "default": none | {"gopher_quality": QUALITY, "c4_quality": C4 | {"min_num_sentences": 3}},
        },
    }
    Path("params.yaml").write_text(yaml.safe_dump({"corpus": {"heuristics": params}}))
    return Path("data/corpus/heuristics")


def test_gibberish_is_an_outlier_and_each_source_has_its_rules(crawl: Path) -> None:
    heuristics.main()
    drops = pq.read_table(crawl / "drops.parquet")
    assert list(zip(drops["rule"].to_pylist(), drops["reason"].to_pylist(), strict=True)) == [
        ("token_distribution", "cross_entropy_high"),
        ("gopher_quality", "gopher_short_doc"),
    ]
    texts = pq.read_table(crawl / "documents.parquet")["text"].to_pylist()
    assert len(texts) == 401
    assert texts[-1] == GOOD  # C4's rules cut the other lines
    metrics = json.loads((crawl / "metrics.json").read_text())
    assert metrics["strict_kept_by_rules"] == 0.5
    assert metrics["plain_kept_by_rules"] == 1.0
    assert metrics["documents_out"] == 401
    histogram = json.loads((crawl / "histograms.json").read_text())["outlier_score"]
    assert sum(histogram["counts"]["plain"]) == 401
    assert sum(histogram["dropped"]["plain"]) == 1
    assert histogram["threshold"] == {"plain": 6.0}
    assert len(histogram["edges"]) == len(histogram["counts"]["plain"]) + 1


def test_any_number_of_workers_writes_the_same_bytes(crawl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    for workers in ("1", "2"):
        monkeypatch.setenv("TRAINYARD_WORKERS", workers)
        heuristics.main()
        written.append({path.name: path.read_bytes() for path in crawl.iterdir()})
    assert written[0] == written[1]
