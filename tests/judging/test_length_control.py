import numpy as np
import pytest

from stages.base.errors import InputError
from stages.judging.statistics.length_bootstrap import bootstrap
from stages.judging.statistics.length_control import fit, predicted_rate, versus
from stages.judging.statistics.length_design import prepare


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


def test_a_style_feature_is_held_equal_like_length() -> None:
    table, generator = rows(0.0, 0.0, n=4000), np.random.default_rng(1)
    lists = generator.poisson(3.0, 4000).astype(float)
    logit = 1.2 * np.tanh(lists / lists.std(ddof=1))  # the judge likes lists, and nothing else
    table["preference"] = 1.0 + (generator.random(4000) < 1 / (1 + np.exp(-logit)))
    table |= {"lists_output": lists, "lists_baseline": np.zeros(4000)}
    plain, held = fit(table), fit(table, style=["lists"])
    assert plain.lc_win_rate > 65 and abs(held.lc_win_rate - 50) < 3 * held.lc_standard_error
    assert held.weights["lists"] == pytest.approx(-1.2, abs=4 * 0.12)
    assert held.lc_standard_error == pytest.approx(
        bootstrap(prepare(table, style=["lists"]), 300, seed=0).standard_error, rel=0.15
    )
    with pytest.raises(InputError, match="column `headers_baseline` is missing"):
        fit(table | {"headers_output": lists}, style=["headers"])


def test_intervals_cover_the_true_rate() -> None:
    covered = []
    for seed in range(200):
        got = fit(rows(-2.2, 1.0, n=300, seed=seed))
        low, high = got.interval()
        covered.append(low <= 100 / (1 + np.exp(2.2)) <= high)
        assert 0 < low < got.lc_win_rate < high < 100
    assert 0.91 < np.mean(covered) < 0.985


def test_other_baselines_need_no_fit() -> None:
    strong, weak = fit(rows(1.0, 0.5, seed=1)), fit(rows(-0.5, 0.5, seed=2))
    expected = 100 / (1 + np.exp(weak.weights["bias"] - strong.weights["bias"]))
    assert predicted_rate(strong.weights, weak.weights) == pytest.approx(expected)
    assert versus(strong, weak).lc_win_rate == pytest.approx(expected)
    assert versus(strong, weak).lc_win_rate + versus(weak, strong).lc_win_rate == pytest.approx(100)
    same = versus(strong, strong)
    assert (same.lc_win_rate, same.lc_standard_error) == (50, 0)


def test_error_against_another_model_is_the_spread_over_repeated_samples() -> None:
    generator, difficulty = np.random.default_rng(0), np.random.default_rng(9).normal(size=300)
    rates, errors = [], []
    for seed in range(150):
        drawn = generator.integers(0, 300, 300)  # instructions and verdicts vary; a shared mood ties the two models
        table = {"instruction_index": np.arange(300), "instruction_difficulty": difficulty[drawn]}
        mood = generator.normal(0, 1.5, 300)
        models = []
        for bias, steep in ((0.8, 1.0), (-0.4, 0.5)):
            annotations = rows(0, 0, n=300, seed=seed)
            p = 1 / (1 + np.exp(-(bias + steep * difficulty[drawn] + mood)))
            annotations["preference"] = 1 + p
            models.append(fit(annotations, difficulty=table))
        got = versus(*models, table)
        rates.append(got.lc_win_rate)
        errors.append(got.lc_standard_error)
    assert np.mean(errors) == pytest.approx(np.std(rates, ddof=1), rel=0.2)


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


def test_an_unknown_difficulty_is_refused() -> None:
    with pytest.raises(InputError, match="no instruction_index 2"):
        fit(rows(0, 0, n=3), difficulty={"instruction_index": [0, 1], "instruction_difficulty": [0.0, 0.0]})
