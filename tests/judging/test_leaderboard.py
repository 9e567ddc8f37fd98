import math

import numpy as np
import pytest

from stages.annotators.grades import EXACT, OVERLAP
from stages.base.contracts.leaderboard import COVERAGE, Judge, Leaderboard
from stages.base.errors import InputError
from stages.judging.judge import annotation_rows, paired_outputs, positions
from stages.judging.leaderboard import LeaderboardParams, choose, entrant, judge_facts, judge_notes, standings
from stages.judging.models import Control
from stages.judging.scores import Judged, implied_battles
from stages.judging.statistics.plain_counts import counts
from tests.annotators.judges import settings

PARAMS = LeaderboardParams(subject="sft", against=["base"], choose_by="right", reruns="reruns")


def judged(win: float, right: float, length: int, seed: int, n: int = 200) -> Judged:
    generator = np.random.default_rng(seed)
    annotations, exact = [], []
    for i in range(n):
        preference = 1.5 if win == 0.5 else 1 + float(np.clip(generator.normal(win, 0.2), 0.01, 0.99))
        size = length if win == 0.5 else length + int(generator.integers(-20, 20))
        annotations.append(
            {
                "id": str(i),
                "model": str(seed),
                "instruction_index": i,
                "preference": preference,
                "len_output": size,
                "len_baseline": 100,
                "baseline_first": preference,
                "output_first": math.nan,
                "annotator": "j",
                "usd": 0.0,
                "seconds": 1.0,
                "error": "",
                "weighted": True,
            }
        )
        exact.append({"id": str(i), "right": bool(generator.random() < right), "score": 1})
    return Judged(annotations, exact)


JUDGE = Judge(simulated=False, provider="openai", model="j", label="j", signal="", versions={"j": 9})


def board(truth: bool = True) -> Leaderboard:
    splits = {
        split: {
            "base": judged(0.1, 0.02, 90, 1),
            "sft": judged(0.5, 0.5, 100, 2),
            "dpo": judged(0.7, 0.6, 130, 3),
            "constant": judged(0.2, 0.1, 60, 4),
        }
        for split in ("validation", "test")
    }
    if not truth:
        splits = {
            split: {m: Judged(one.annotations, []) for m, one in models.items()} for split, models in splits.items()
        }
    answerers = {"constant": Control(kind="constant", path="")}
    entrants = [entrant(model, answerers, {"dpo": {}}) | {"lineage": "0"} for model in splits["test"]]
    return standings(entrants, splits, "sft", JUDGE, PARAMS)


@pytest.fixture(scope="module")
def result() -> Leaderboard:
    return board()


def test_rows_are_ranked_and_carry_intervals(result: Leaderboard) -> None:
    rates = [row.lc_win_rate for row in result.rows]
    assert rates == sorted(rates, reverse=True) and [row.rank for row in result.rows] == [1, 2, 3, None]
    rows = {row.model: row for row in result.rows}
    assert rows["sft"].lc_win_rate == 50 and rows["sft"].baseline
    assert rows["constant"].control and not rows["dpo"].control
    assert (rows["dpo"].kind, rows["sft"].kind, rows["sft"].source) == ("imported", "trained", "data/models/sft")
    for row in result.rows:
        assert row.right_low <= row.right <= row.right_high
        assert row.bradley_terry_low < row.bradley_terry < row.bradley_terry_high
    assert rows["dpo"].bradley_terry > rows["sft"].bradley_terry > rows["base"].bradley_terry
    assert result.notes[0] == COVERAGE
    assert Leaderboard.model_validate_json(result.model_dump_json()) == result


def test_the_choice_is_made_on_validation_among_tuned_models(result: Leaderboard) -> None:
    assert (result.chosen.model, result.chosen.split, result.chosen.by) == ("dpo", "validation", "right")
    by_validation = {"base": 99.0, "sft": 20.0, "dpo": 10.0, "constant": 99.0}
    rows = [
        row.model_copy(update={"validation": row.validation.model_copy(update={"right": by_validation[row.model]})})
        for row in result.rows
    ]
    assert choose(rows, ["base"], "right").model == "sft"
    assert choose([], [], "right") is None


def test_paired_differences_are_the_means_differences(result: Leaderboard) -> None:
    right = {row.model: row.right for row in result.rows}
    first, chosen = result.comparisons
    assert first.difference == pytest.approx(right["sft"] - right["base"]) and first.low > 0
    assert (chosen.model, chosen.against, chosen.metric) == ("dpo", "sft", "right")


def test_without_truth_wins_are_compared_and_the_choice_says_by_what() -> None:
    unknown = board(truth=False)
    assert all(row.right is None and row.mean_score is None for row in unknown.rows)
    assert (unknown.chosen.model, unknown.chosen.by) == ("dpo", "lc_win_rate")
    assert any("chosen by lc_win_rate" in note for note in unknown.notes)
    rates = {row.model: row.win_rate for row in unknown.rows}
    first, _ = unknown.comparisons
    assert first.metric == "win_rate" and first.difference == pytest.approx(rates["sft"] - rates["base"])


def test_a_simulated_judge_says_what_it_went_by() -> None:
    known = {"test": {"sft": judged(0.5, 0.5, 100, 2, n=30)}}
    unknown = {"test": {"sft": Judged(known["test"]["sft"].annotations, [])}}
    assert judge_facts(settings(), known).signal == EXACT
    facts = judge_facts(settings(), unknown)
    assert facts.simulated and facts.signal == OVERLAP and "simulated" in facts.label
    assert judge_notes([], [], facts) == [f"The simulated annotators went by {OVERLAP}."]


def test_plain_counts_by_hand() -> None:
    def row(preference: float, first: float, second: float, annotator: str = "judge") -> dict:
        return {
            "preference": preference, "baseline_first": first, "output_first": second,
            "annotator": annotator, "usd": 0.01, "seconds": 2.0, "len_output": 200, "len_baseline": 100,
        }  # fmt: skip

    nan = math.nan
    rows = [
        row(2.0, 2.0, nan), row(1.9, nan, 1.9), row(1.0, 1.0, nan), row(1.5, 1.0, 2.0),
        row(1.5, nan, nan, "identical"), row(nan, nan, nan), row(0.0, 0.0, nan),
    ]  # fmt: skip
    found = counts(rows)
    assert (found["n_wins"], found["n_wins_base"], found["n_draws"], found["n_total"]) == (2, 1, 3, 6)
    assert found["discrete_win_rate"] == pytest.approx(100 * 3.5 / 6)
    assert found["standard_error"] == pytest.approx(100 * np.std([1, 0.9, 0, 0.5, 0.5, 0.5], ddof=1) / 6**0.5)
    # Shown first and preferred: the output (1.9), the baseline (1.0), and both of the pair that was shown both ways.
    assert found["prefers_first"] == pytest.approx(100 * 4 / 5)
    # The longer answer is the model's: it won two decided comparisons of three. One pair was shown in both orders, and
    # the first answer won in both.
    assert found["prefers_longer"] == pytest.approx(100 * 2 / 3) and found["consistent"] == 0
    assert found["usd_per_1000"] == pytest.approx(1000 * 0.07 / 6) and found["seconds_per_1000"] == 2000


def test_what_is_wrong_with_the_verdicts_is_said(result: Leaderboard) -> None:
    row = result.rows[0]
    rows = [
        row.model_copy(update={"model": m, "n_total": 30, "prefers_first": p}) for m, p in (("a", 0.0), ("b", 60.0))
    ]
    said = {"preference": 1.2, "annotator": "gpt-1", "error": "", "weighted": True, "len_output": 9, "len_baseline": 9}
    annotations = [said | {"model": "a"}] * 3 + [
        said | {"model": "b", "weighted": False},
        said | {"model": "b", "preference": math.nan, "error": "why"},
    ]
    versions = {"gpt-1 (x)": 3, "gpt-1 (y)": 2}
    told = " ".join(judge_notes(rows, annotations, JUDGE.model_copy(update={"versions": versions})))
    assert "gpt-1 (x) (3), gpt-1 (y) (2)" in told and "their rows say why: b 1." in told
    assert "against a 0 %." in told and "1 of 4 verdicts" in told
    assert judge_notes(rows[1:], annotations[:2], JUDGE) == []
    assert "All verdicts are 1 or 2 off the judge's text" in judge_notes(rows[1:], annotations[3:4], JUDGE)[0]


def test_implied_battles_by_hand() -> None:
    def model(*preferences: float) -> Judged:
        return Judged([{"id": str(i), "preference": p} for i, p in enumerate(preferences)], [])

    battles = implied_battles(
        {"x": model(1.8, 1.2, math.nan), "y": model(1.6, 1.2, 1.9), "base": model(1.5, 1.5, 1.5)}, "base"
    )
    rows = set(zip(*battles.values(), strict=True))
    assert rows == {
        ("base", "x", "model_b", "0"), ("base", "x", "model_a", "1"),
        ("base", "y", "model_b", "0"), ("base", "y", "model_a", "1"), ("base", "y", "model_b", "2"),
        ("x", "y", "model_a", "0"), ("x", "y", "tie", "1"),
    }  # fmt: skip


def test_outputs_pair_with_the_baselines_by_id() -> None:
    from stages.annotators.client import Preference

    ours = [{"id": "b", "split": "test", "output": "xyz"}, {"id": "a", "split": "test", "output": "x"}]
    theirs = [{"id": "a", "output": "12"}, {"id": "b", "output": "1"}]
    pairs = paired_outputs(ours, theirs)
    index = positions([{"id": "z", "split": "sft"}, {"id": "a", "split": "test"}, {"id": "b", "split": "test"}])
    rows = annotation_rows(
        "m", "base", pairs, [Preference("b", 2.0, "j", ""), Preference("a", math.nan, "j", "why")], index
    )
    assert [(r["instruction_index"], r["len_output"], r["len_baseline"], r["error"]) for r in rows] == [
        (1, 3, 1, ""),
        (0, 1, 2, "why"),
    ]
    with pytest.raises(InputError, match="other instructions"):
        paired_outputs(ours, theirs[:1])
