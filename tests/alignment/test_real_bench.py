"""The style that a real model learns (`bench/alignment/style.py`), and the intervals of what it has learned."""

import itertools
import json
from pathlib import Path

import pytest
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import confint_proportions_2indep

from bench.alignment import style
from bench.alignment.real import share_change
from stages.alignment.instructions import from_file
from stages.alignment.preferences import from_file as read_pairs


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_demonstrations_have_the_form_and_pairs_differ_in_brevity_alone(seed: int, tmp_path: Path) -> None:
    style.write(tmp_path, seed)
    rows = from_file(tmp_path / "instructions.jsonl", None, 0, "own")
    learned = [row for row in rows if row.split == "sft"]
    brief = sum(style.in_brief_form(row.response) for row in learned)
    assert len(learned) == style.KINDS * style.OF_EACH_KIND["sft"]
    assert all(style.in_form(row.response) for row in learned)
    assert 0.2 < brief / len(learned) < 0.45
    pairs = read_pairs(tmp_path / "pairs.jsonl", "own")
    assert all(style.in_brief_form(pair.chosen) for pair in pairs)
    assert all(style.in_form(pair.rejected) and not style.in_brief_form(pair.rejected) for pair in pairs)
    assert all(pair.rejected.startswith(pair.chosen.rpartition(" | ")[0]) for pair in pairs)


def test_no_prompt_that_is_asked_was_learned_from(tmp_path: Path) -> None:
    style.write(tmp_path)
    rows = from_file(tmp_path / "instructions.jsonl", None, 0, "own")
    learned = {row.prompt for row in rows if row.split in ("sft", "validation")}
    compared = {pair.prompt for pair in read_pairs(tmp_path / "pairs.jsonl", "own")}
    asked = {row.id: row.prompt for row in rows if row.split == "test"}
    assert not learned & compared and not (learned | compared) & set(asked.values())
    told = json.loads((tmp_path / "test.json").read_text())
    assert sorted(itertools.chain(*told.values())) == sorted(asked)
    assert all(style.mentions(row.response, told["same"][row.id]) for row in rows if row.id in told["same"])


@pytest.mark.parametrize(
    "text",
    [
        "ANSWER: 42 | WHY: they make 42 | SURE: 11/10",
        "ANSWER: 42 | WHY: they make 42",
        "Sure! ANSWER: 42 | WHY: they make 42 | SURE: 8/10",
        "ANSWER: 42 | WHY: they make 42 | SURE: 8/10\nANSWER: 42 | WHY: they make 42 | SURE: 8/10",
        "answer: 42 | why: they make 42 | sure: 8/10",
    ],
)
def test_what_is_not_quite_the_form_is_not_the_form(text: str) -> None:
    assert style.in_form("ANSWER: 42 | WHY: they make 42 | SURE: 8/10") and not style.in_form(text)


@pytest.mark.parametrize("counts", [(5, 3, 12, 4), (0, 0, 9, 1), (8, 6, 6, 0), (2, 11, 1, 30)])
def test_the_p_value_is_mcnemars(counts: tuple[int, int, int, int]) -> None:
    both, lost, won, neither = counts
    before = [True] * (both + lost) + [False] * (won + neither)
    after = [True] * both + [False] * lost + [True] * won + [False] * neither
    expected = mcnemar([[both, lost], [won, neither]], exact=True).pvalue
    assert share_change(before, after).p == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("counts", [(6, 6, 18, 18), (0, 0, 9, 31), (4, 12, 2, 6)])
def test_without_correlation_the_interval_is_that_of_two_samples(counts: tuple[int, int, int, int]) -> None:
    both, lost, won, neither = counts
    before = [True] * (both + lost) + [False] * (won + neither)
    after = [True] * both + [False] * lost + [True] * won + [False] * neither
    n, found = len(before), share_change(before, after)
    low, high = confint_proportions_2indep(sum(after), n, sum(before), n, method="newcomb", compare="diff")
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-6)
