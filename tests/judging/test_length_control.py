import numpy as np
import pytest

from stages.base.errors import InputError
from stages.judging.statistics.intervals import rate_bounds
from stages.judging.statistics.length_control import fit


def rows(bias: float, length_weight: float, n: int = 4000, shift: float = 0.0, seed: int = 0) -> dict[str, np.ndarray]:
    """Annotations of a known judge: logit = bias + length_weight · tanh(standardised difference)."""
    generator = np.random.default_rng(seed)
    baseline = generator.normal(500, 60, n).round()
    output = (baseline + generator.normal(shift, 100, n)).round()
    delta = baseline - output
    logit = bias - length_weight * np.tanh(delta / delta.std(ddof=1))
    wins = generator.random(n) < 1 / (1 + np.exp(-logit))
    return {"instruction_index": np.arange(n), "preference": 1.0 + wins, "len_output": output, "len_baseline": baseline}


def test_a_known_length_bias_is_removed() -> None:
    biased = fit(rows(bias=0.0, length_weight=2.0, shift=100.0))
    assert biased.win_rate > 65
    assert abs(biased.lc_win_rate - 50) < 3 * biased.lc_standard_error
    assert biased.weights["length"] == pytest.approx(-2.0, abs=0.25)


def test_standard_error_is_the_spread_over_repeated_samples() -> None:
    fits = [fit(rows(0.4, 1.0, n=400, shift=60.0, seed=seed)) for seed in range(200)]
    spread = np.std([f.lc_win_rate for f in fits], ddof=1)
    assert np.mean([f.lc_standard_error for f in fits]) == pytest.approx(spread, rel=0.15)


def test_missing_preferences_are_counted_and_left_out() -> None:
    table = rows(0.3, 0.0, n=200)
    table["preference"][:50] = np.nan
    got, rest = fit(table), fit({name: column[50:] for name, column in table.items()})
    assert (got.n, got.n_missing) == (150, 50)
    assert got.lc_win_rate == pytest.approx(rest.lc_win_rate)


def test_equal_lengths_leave_the_win_rate_alone() -> None:
    table = rows(0.5, 0.0, n=300)
    table["len_output"] = table["len_baseline"]
    got = fit(table)
    assert got.lc_win_rate == pytest.approx(got.win_rate, abs=1e-6)
    assert got.lc_standard_error == pytest.approx(got.standard_error, rel=0.01)


@pytest.mark.parametrize("n", [20, 100])
def test_a_model_that_wins_everything_has_at_least_the_exact_bound(n: int) -> None:
    table = rows(0.0, 0.0, n=n)
    table["preference"][:] = 2.0
    got = fit(table)
    assert got.separated and got.win_rate == 100 and got.lc_win_rate < 100
    low, high = got.interval()
    assert high == 100 and 0 < low <= 100 * 0.025 ** (1 / n) + 0.01
    table["preference"][:] = 1.0
    low, high = fit(table).interval()
    assert low == 0 and 100 > high >= 100 * (1 - 0.025 ** (1 / n)) - 0.01


@pytest.mark.parametrize("wins", [0, 1, 13, 40])
def test_where_no_length_differs_the_interval_is_clopper_and_pearsons(wins: int) -> None:
    table = rows(0.0, 0.0, n=40)
    table["preference"] = 1.0 + (np.arange(40) < wins)
    table["len_output"] = table["len_baseline"]
    assert fit(table).interval() == pytest.approx(rate_bounds([1.0] * wins + [0.0] * (40 - wins)), abs=1.5)


def test_a_constant_difference_in_length_is_refused_as_a_rate() -> None:
    """An added suffix: what it wins by length and what by quality can't be told apart."""
    table = rows(0.5, 0.0, n=60)
    table["len_output"] = table["len_baseline"] + 40
    got = fit(table)
    assert np.isnan([got.lc_win_rate, *got.interval()]).all() and 0 < got.win_rate < 100
    assert "40 characters longer" in got.unidentified
    table["len_output"] = table["len_baseline"] + 4000 + np.arange(60) % 2  # tanh of it is 1 everywhere
    assert "all but the same" in fit(table).unidentified
    gamed = {
        "model": ["long"] * 60,
        "std_delta_len": np.linspace(-2, 2, 60),
        "preference_surrogate_0to1": np.linspace(0.6, 0.4, 60),
    }
    assert not fit(table, gamed=gamed).unidentified  # what length alone wins is known from elsewhere
    table["len_output"] = table["len_baseline"]
    assert not fit(table).unidentified  # nothing to control for


def test_with_difficulty_the_interval_holds_the_rate_and_narrows_with_rows() -> None:
    widths = []
    for n in (60, 600):
        table = rows(0.4, 1.0, n=n, shift=40.0)
        difficulty = {"instruction_index": np.arange(n), "instruction_difficulty": np.linspace(-2, 2, n)}
        got = fit(table, difficulty=difficulty)
        low, high = got.interval()
        assert 0 < low < got.lc_win_rate < high < 100
        # Near the middle the profile is all but quadratic: the sandwich says the same.
        assert (high - low) / 2 == pytest.approx(2 * got.lc_standard_error, rel=0.25)
        widths.append(high - low)
    assert widths[1] < widths[0] / 2.5


def test_compat_goes_by_row_even_where_preferences_are_missing() -> None:
    table = rows(0.3, 0.5, n=50)
    table["preference"][10] = np.nan
    difficulty = {"instruction_index": np.arange(50), "instruction_difficulty": np.linspace(-1, 1, 50)}
    by_row, by_index = (fit(table, difficulty=difficulty, align=align) for align in ("compat", "index"))
    # Nothing is out of place here, so only the scale of the lengths and the rows predicted for can differ.
    assert by_row.lc_win_rate == pytest.approx(by_index.lc_win_rate, abs=0.5) and by_row.n == by_index.n == 49
    shifted = table | {"instruction_index": np.arange(50)[::-1].copy()}
    assert fit(shifted, difficulty=difficulty, align="position").weights == by_row.weights


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"preference": [1.0, 3.0, 1.5]}, "row 1: preference 3.0"),
        ({"preference": [np.nan, np.nan, 1.5]}, "at least 2"),
        ({"instruction_index": [1, 1, 2]}, "instruction_index 1 is there 2 times"),
        ({"len_output": None}, "column `len_output`"),
    ],
)
def test_bad_annotations_are_refused(change: dict, message: str) -> None:
    good = {
        "instruction_index": [0, 1, 2],
        "preference": [1.0, 2.0, 1.5],
        "len_output": [3, 4, 5],
        "len_baseline": [4, 4, 4],
    }
    with pytest.raises(InputError, match=message):
        fit({name: value for name, value in (good | change).items() if value is not None})


@pytest.mark.parametrize(
    ("index", "values", "message"),
    [
        ([0, 1], [0.0, 0.0], "no instruction_index 2"),
        ([0, 1, 1], [0.0, 0.0, 0.0], "instruction_index 1 is there twice"),
        ([0, 1, 2], [0.0, 1e308, 0.0], "row 1: `instruction_difficulty` is 1e"),
        ([], [], "there are no rows"),
    ],
)
def test_a_difficulty_that_cannot_be_used_is_refused(index: list, values: list, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit(rows(0, 0, n=3), difficulty={"instruction_index": index, "instruction_difficulty": values})
