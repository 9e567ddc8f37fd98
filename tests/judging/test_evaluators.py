import math

import numpy as np
import pytest

from stages.base.errors import InputError
from stages.judging.statistics.evaluators import evaluators_table, modes

Row = tuple[str, int, float]


def table(rows: list[Row]) -> dict[str, list]:
    return dict(zip(("annotator", "item", "preference"), map(list, zip(*rows, strict=True)), strict=True))


def by_name(rows: list[dict]) -> dict[str, dict]:
    return {row["annotator"]: row for row in rows}


def humans(*items: str) -> list[Row]:
    return [("humans", i, float(v)) for i, verdicts in enumerate(items) for v in verdicts]


def test_humans_against_each_other_as_in_the_official_docstring() -> None:
    """`Analyzer.agreement_of_annotations`: one against the other three of 1111 and 2221 is 0.875."""
    row = evaluators_table(table(humans("1111", "2221")), gold="humans").rows[0]
    assert (row["agreement"], row["bias"], row["variance"]) == (87.5, 0, 12.5)


def test_a_judge_by_hand() -> None:
    judge = [("judge", 0, 1), ("judge", 0, 2), ("judge", 0, 1), ("judge", 1, 1), ("judge", 1, 1), ("judge", 1, 1)]
    got = by_name(evaluators_table(table(humans("1112", "2221") + judge), gold="humans").rows)["judge"]
    # item 0: 2 of 3 verdicts as the humans' mode, item 1 none of 3; its own modes are 1 and 1
    assert got["agreement"] == pytest.approx(100 / 3) and got["bias"] == 50
    # item 0: each 1 against {2, 1} is half right, the 2 against {1, 1} wrong
    assert got["variance"] == pytest.approx(100 * (1 - (1 / 3 + 1) / 2))
    assert got["prefers_first"] == pytest.approx(100 * 5 / 6) and got["n"] == 6


def test_ties_of_the_gold_annotators_count_half_and_draws_lie_between() -> None:
    rows = evaluators_table(table([*humans("1122"), ("x", 0, 1), ("draw", 0, 1.5), ("zero", 0, 0)]), gold="humans").rows
    assert {row["annotator"]: row["agreement"] for row in rows if row["annotator"] != "humans"} == {
        "x": 50,
        "draw": 50,
        "zero": 50,
    }
    assert modes([1.1, 1.2, 1.9]) == [1.2] and modes([1, 2]) == [1, 2]


def test_leanings_by_hand() -> None:
    rows = table([("humans", i, v) for i, v in enumerate([2, 1, 2, 1.5, 1])])
    rows |= {
        "len_1": [10, 100, 10, 10, 50],
        "len_2": [90, 10, 30, 90, 100],  # the third pair is too close, the fourth a draw, the fifth prefers the shorter
        "lists_1": [0, 3, 1, 0, 0],
        "lists_2": [2, 0, 1, 1, 1],
        "price": [0.001, 0.003, math.nan, math.nan, math.nan],
    }
    row = evaluators_table(rows, gold="humans").rows[0]
    assert row["prefers_longer"] == pytest.approx(200 / 3) and row["prefers_lists"] == pytest.approx(200 / 3)
    assert row["price_per_1000"] == pytest.approx(2) and math.isnan(row["seconds_per_1000"])


def test_models_are_correlated_with_golds_ranking() -> None:
    rows, model = [], []
    for k, rate in enumerate((0.2, 0.4, 0.6, 0.8)):
        for i in range(20):
            verdict = 2.0 if i < 20 * rate else 1.0
            rows += [("humans", 20 * k + i, verdict), ("judge", 20 * k + i, 3 - verdict)]
            model += [f"m{k}", f"m{k}"]
    got = by_name(evaluators_table(table(rows) | {"model": model}, gold="humans").rows)
    assert got["judge"]["spearman"] == pytest.approx(-1) and got["humans"]["spearman"] == pytest.approx(1)


def test_missing_verdicts_are_named_and_left_out() -> None:
    rows = table([*humans("11", "22"), ("judge", 0, 1), ("judge", 1, math.nan), ("judge", 1, 3)])
    got = evaluators_table(rows, gold="humans")
    assert got.problems == ["row 5: `judge` on 1: no verdict", "row 6: `judge` on 1: verdict 3 isn't in 1..2"]
    judge = by_name(got.rows)["judge"]
    assert judge["agreement"] == 100 and (judge["n"], judge["missing"]) == (1, 2) and math.isnan(judge["variance"])
    with pytest.raises(InputError, match="no verdict of `people`; annotators are humans, judge"):
        evaluators_table(rows, gold="people")
    with pytest.raises(InputError, match="column `item` is missing"):
        evaluators_table({"annotator": ["x"], "preference": [1]}, gold="x")


def test_independent_flips_show_as_variance_and_a_fixed_error_as_bias() -> None:
    generator = np.random.default_rng(0)
    truth = generator.integers(1, 3, 400)
    rows = [("humans", i, float(t)) for i, t in enumerate(truth) for _ in range(3)]
    for i, t in enumerate(truth):
        wrong = i < 80  # the same items always
        rows += [("stubborn", i, float(3 - t if wrong else t)) for _ in range(3)]
        rows += [("noisy", i, float(3 - t if generator.random() < 0.2 else t)) for _ in range(5)]
    got = by_name(evaluators_table(table(rows), gold="humans").rows)
    assert (got["stubborn"]["bias"], got["stubborn"]["variance"]) == (pytest.approx(20), 0)
    assert got["noisy"]["bias"] < 9 and got["noisy"]["variance"] > 18
