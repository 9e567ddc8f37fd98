import numpy as np
import pytest

from stages.base.errors import InputError
from stages.judging.length_control import fit


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


def test_a_model_that_wins_everything_is_marked_and_finite() -> None:
    table = rows(0.0, 0.0, n=100)
    table["preference"][:] = 2.0
    got = fit(table)
    assert got.separated and got.win_rate == 100 and 95 < got.lc_win_rate < 100


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


def test_an_unknown_difficulty_is_refused() -> None:
    with pytest.raises(InputError, match="no instruction_index 2"):
        fit(rows(0, 0, n=3), difficulty={"instruction_index": [0, 1], "instruction_difficulty": [0.0, 0.0]})
