import numpy as np
import pytest

from stages.judging.statistics.length_control import fit
from stages.judging.statistics.problems import screen, side_preference
from stages.judging.statistics.rates import fit_models


def table(models: list[str], n: int = 60) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    size = n * len(models)
    return {
        "model": np.repeat(np.array(models, dtype=object), n),
        "baseline": np.full(size, "base", dtype=object),
        "instruction_index": np.tile(np.arange(n), len(models)),
        "preference": 1 + generator.random(size),
        "len_output": generator.integers(50, 500, size).astype(float),
        "len_baseline": np.tile(generator.integers(50, 500, n), len(models)).astype(float),
    }


def test_each_model_is_fitted_as_by_itself() -> None:
    rows = table(["y", "x"])
    got = fit_models(rows)
    assert got.problems == [] and list(got.models) == ["x", "y"]
    alone = fit({name: column[60:] for name, column in rows.items()})
    assert got.models["x"].lc_win_rate == pytest.approx(alone.lc_win_rate)


def test_every_bad_row_is_named_and_none_is_averaged_in() -> None:
    rows = table(["x", "y"])
    clean = fit_models(rows).models
    rows["preference"][3] = np.nan
    rows["preference"][4] = 2.5
    rows["len_output"][5] = np.nan
    rows["model"][6] = "stranger"
    rows["baseline"][7] = "other"
    rows["instruction_index"][8] = 9  # 8 is gone, 9 is there twice and differs
    extra = {name: column[[70, 70]] for name, column in rows.items()}  # y's tenth row, twice more
    rows = {name: np.concatenate([column, extra[name]]) for name, column in rows.items()}
    got = fit_models(rows, models=["x", "y", "z", "base"], baseline="base")
    found = {(p.row, p.model, p.instruction_index, p.what) for p in got.problems}
    assert found == {
        (3, "x", 3, "no preference"),
        (4, "x", 4, "preference 2.5 isn't in 1..2"),
        (5, "x", 5, "no length"),
        (6, "stranger", 6, "unknown model"),
        (None, "x", 6, "no row"),
        (7, "x", 7, "judged against another baseline than `base`"),
        (None, "x", 7, "no row"),
        (None, "x", 8, "no row"),
        (8, "x", 9, "annotated twice, differently"),
        (9, "x", 9, "annotated twice, differently"),
        (120, "y", 10, "repeats an earlier row"),
        (121, "y", 10, "repeats an earlier row"),
        (None, "z", None, "the model has no rows"),
        (None, "base", None, "the model has no rows"),
    }
    kept = np.setdiff1d(np.arange(60), [3, 4, 5, 6, 7, 8, 9])
    assert got.models["x"].n == 53 and got.models["x"].n_missing == 1
    assert got.models["x"].win_rate == pytest.approx(100 * (rows["preference"][kept] - 1).mean())
    assert got.models["y"] == clean["y"]


def test_unknown_instructions_and_a_baseline_that_is_not_there() -> None:
    rows = table(["x"])
    difficulty = {"instruction_index": np.arange(59), "instruction_difficulty": np.linspace(-1, 1, 59)}
    got = fit_models(rows, difficulty=difficulty, models=["x"], baseline="base")
    assert {(p.row, p.what) for p in got.problems} == {
        (59, "unknown instruction"),
        (None, "the baseline isn't among the models"),
    }
    assert got.models["x"].n == 59


def test_the_baseline_has_50_even_where_the_judge_is_noisy() -> None:
    got = fit_models(table(["base", "x"]), baseline="base").models["base"]
    assert (got.lc_win_rate, got.lc_standard_error, got.interval()) == (50, 0, (50, 50))


def test_a_judge_that_always_says_the_same_is_reported_and_so_is_a_model_without_verdicts() -> None:
    rows = table(["x", "y", "z"])
    rows["preference"][:60], rows["preference"][60:120] = 1.0, np.nan
    got = fit_models(rows)
    whats = {p.model: p.what for p in got.problems if p.instruction_index is None}
    assert "every preference is 1" in whats["x"] and "at least 2 are needed" in whats["y"] and "z" not in whats
    assert got.models["x"].separated and "y" not in got.models


def test_a_judge_that_prefers_a_side() -> None:
    generator = np.random.default_rng(0)
    first = generator.random(400) < 0.5
    always = side_preference(np.where(first, 2.0, 1.0), first)
    assert always.share == 1 and always.one_sided
    assert side_preference(np.where(first, 1.1, 1.9), first).one_sided  # always the second
    fair = side_preference(generator.choice([1.0, 2.0, 1.5, np.nan], 400), first)
    assert fair.n < 250 and not fair.one_sided
    leaning = side_preference(np.where(first ^ (generator.random(400) < 0.3), 2.0, 1.0), first)
    assert 0.6 < leaning.share < 0.8 and not leaning.one_sided
    assert not side_preference([1.5], [True]).one_sided


def test_an_empty_expectation_changes_nothing() -> None:
    rows = table(["x"])
    usable, problems = screen(rows)
    assert usable.tolist() == list(range(60)) and problems == []
