"""Tiers and intervals over seeds, on models whose difference is known."""

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from stages.base import schemas
from stages.base.contracts.leaderboard import AGAIN, COVERAGE
from stages.base.errors import InputError
from stages.base.tables import write_table
from stages.judging.leaderboard import LeaderboardParams, placed, read_reruns
from stages.judging.statistics.tiers import Scored, difference, over_seeds, scored, tiers
from tests.contracts.judging import row
from tests.judging.test_leaderboard import board, judged


def model(mean: float, seeds: int = 1, noise: float = 1.0, draw: int = 0, questions: int = 200) -> Scored:
    rng = np.random.default_rng([draw, seeds])
    shared = 5 * np.random.default_rng(0).normal(size=questions)
    table = mean + shared + noise * rng.normal(size=(seeds, 1)) + 3 * rng.normal(size=(seeds, questions))
    return Scored(("", *map(str, range(2, seeds + 1))), table)


def test_one_training_each_is_the_paired_t_test_over_questions() -> None:
    a, b = model(50, draw=1), model(51, draw=2)
    found = difference(a, b)
    theirs = stats.ttest_rel(a.table[0], b.table[0])
    assert found is not None and found.p_two_sided() == pytest.approx(theirs.pvalue, rel=1e-9)
    gaps = Scored(a.seeds, np.where(np.arange(200) < 20, np.nan, a.table))
    left = difference(gaps, b)
    assert left is not None and left.n_items == 180
    assert difference(Scored(("",), np.full((1, 200), np.nan)), b) is None
    assert difference(a, a) is not None and difference(a, a).p_two_sided() == 1  # type: ignore[union-attr]


def test_what_questions_alone_tell_apart_seeds_may_not() -> None:
    """Trainings that vary by 2 points, models half a point apart: questions alone see a difference that isn't one."""
    told = {1: 0, 4: 0}
    for draw in range(60):
        for seeds in told:
            pair = {"a": model(50, seeds, 2.0, 2 * draw), "b": model(50, seeds, 2.0, 2 * draw + 1)}
            told[seeds] += tiers(pair)["b"] != tiers(pair)["a"]
    assert told[1] > 30 and told[4] <= 9


def test_models_of_a_tier_cannot_be_told_from_its_first() -> None:
    far = {
        "best": model(60, draw=1),
        "near": model(59.9, draw=2),
        "worse": model(50, draw=3),
        "worst": model(20, draw=4),
    }
    assert tiers(far) == {"best": 1, "near": 1, "worse": 2, "worst": 3}
    assert tiers({"alone": model(50)}) == {"alone": 1} and tiers({}) == {}
    # Models in between chain from one tier to the next; the tier is what its first one can't be told from.
    chain = {f"m{i}": model(60 - 0.5 * i, draw=i) for i in range(6)}
    placed_ = tiers(chain)
    assert placed_["m0"] == 1 and placed_["m5"] > 1 and sorted(placed_.values()) == list(placed_.values())


def test_trainings_of_other_seeds_are_counted_once_and_their_interval_is_wider() -> None:
    own = {f"q{i}": float(v) for i, v in enumerate(np.random.default_rng(1).normal(50, 5, size=50))}
    other = {q: v + 4 for q, v in own.items()}
    found = scored(own, {"1": dict(own), "2": other, "3": {q: v - 5 for q, v in own.items()}})
    assert found.seeds == ("", "2", "3") and found.table.shape == (3, 50)
    again = over_seeds(found, "win_rate")
    assert again is not None and again.n == 3 and again.mean == pytest.approx(np.mean(found.table))
    alone = stats.sem(found.table[0]) * stats.t.isf(0.025, 49)
    assert again.high - again.low > 2 * alone  # type: ignore[operator]
    assert over_seeds(scored(own, {}), "win_rate") is None


def test_the_board_has_tiers_and_says_what_its_intervals_are_over() -> None:
    plain = board()
    rows = {one.model: one for one in plain.rows}
    assert plain.tier_metric == "right" and COVERAGE in plain.notes
    assert rows["constant"].tier is None and rows["base"].tier > rows["dpo"].tier == 1  # type: ignore[operator]
    assert all(one.reruns is None for one in plain.rows)
    assert board(truth=False).tier_metric == "win_rate"
    again, metric = placed(
        [row("dpo"), row("sft", baseline=True)],
        {"dpo": judged(0.7, 0.6, 130, 3), "sft": judged(0.5, 0.5, 100, 2)},
        {"dpo": {"2": judged(0.7, 0.5, 130, 5), "3": judged(0.7, 0.7, 130, 6)}},
    )
    assert metric == "right" and again[0].reruns is not None and again[0].reruns.n == 3
    assert again[1].reruns is None
    with pytest.raises(InputError, match="seed 2 of `dpo` was asked other questions"):
        placed([row("dpo")], {"dpo": judged(0.7, 0.6, 130, 3)}, {"dpo": {"2": judged(0.7, 0.6, 130, 3, n=150)}})
    assert "dpo" in AGAIN.format(models="dpo")


class Run:
    """As much of a stage's run as reading takes."""

    params = LeaderboardParams(subject="sft", against=[], choose_by="right", reruns="reruns")

    def input(self, path: object) -> Path:
        return Path(str(path))

    def read_table(self, path: Path, schema: object) -> object:
        from stages.base.tables import read_table

        return read_table(path, schema)  # type: ignore[arg-type]


def test_reruns_are_read_by_seed_and_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow as pa

    monkeypatch.chdir(tmp_path)
    rows = [
        {name: "" for name in ("id", "model", "baseline", "annotator", "error")}
        | {"instruction_index": i, "id": str(i), "split": split, "preference": 1.5, "baseline_first": math.nan,
           "output_first": math.nan, "weighted": False, "usd": 0.0, "seconds": 0.0, "len_output": 1, "len_baseline": 1}
        for split in ("validation", "test") for i in range(3)
    ]  # fmt: skip
    exact = [
        {"id": str(i), "split": "test", "model": "", "asked": 1, "correct": 1, "wrong": 0, "score": 1, "right": True}
        for i in range(3)
    ]
    Path("reruns").mkdir()
    assert read_reruns(Run(), ["dpo"]) == {}  # type: ignore[arg-type]
    write_table("reruns/2/dpo.parquet", pa.Table.from_pylist(rows, schemas.ANNOTATION), schemas.ANNOTATION)
    found = read_reruns(Run(), ["dpo"])  # type: ignore[arg-type]
    assert [len(found["dpo"]["2"].annotations), len(found["dpo"]["2"].exact)] == [3, 0]
    write_table("reruns/2/dpo.exact.parquet", pa.Table.from_pylist(exact, schemas.EXACT), schemas.EXACT)
    assert len(read_reruns(Run(), ["dpo"])["dpo"]["2"].exact) == 3  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"dpo.*parquet: no model `dpo` is judged"):
        read_reruns(Run(), ["sft"])  # type: ignore[arg-type]
