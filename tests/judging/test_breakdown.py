import numpy as np
import pytest

from stages.base.errors import InputError
from stages.judging.statistics.breakdown import breakdown
from stages.judging.statistics.length_control import fit

BIASES = {"code": 1.0, "poem": -1.0}


def rows(n: int, seed: int, code_share: float = 0.25) -> tuple[dict[str, np.ndarray], list[str]]:
    """A judge that likes length (1 logit) and a model that is good at code and bad at poems."""
    generator = np.random.default_rng(seed)
    kinds = np.where(generator.random(n) < code_share, "code", "poem").tolist()
    baseline = generator.normal(400, 50, n).round()
    output = baseline + generator.normal(80, 120, n).round()
    delta = baseline - output
    logit = np.array([BIASES[kind] for kind in kinds]) - np.tanh(delta / delta.std(ddof=1))
    wins = generator.random(n) < 1 / (1 + np.exp(-logit))
    return {
        "instruction_index": np.arange(n),
        "preference": 1.0 + wins,
        "len_output": output,
        "len_baseline": baseline,
    }, kinds


def test_each_category_has_its_own_controlled_rate() -> None:
    got = breakdown(*rows(6000, 0))
    for rate in got.categories:
        true = 100 / (1 + np.exp(-BIASES[rate.category]))
        assert abs(rate.lc_win_rate - true) < 3 * rate.lc_standard_error
        assert rate.win_rate > true + 3  # raw rates are helped by length
    assert got.overall.n == 6000 and sum(rate.n for rate in got.categories) == 6000


def test_the_whole_as_it_occurs_is_the_plain_win_rate() -> None:
    table, kinds = rows(500, 1)
    table["preference"][3] = np.nan
    got, plain = breakdown(table, kinds).overall, fit(table)
    assert got.win_rate == pytest.approx(plain.win_rate)
    assert got.standard_error == pytest.approx(plain.standard_error)
    assert got.lc_win_rate == pytest.approx(plain.lc_win_rate, abs=plain.lc_standard_error)


def test_the_whole_at_another_mix() -> None:
    table, kinds = rows(3000, 2)
    got = breakdown(table, dict(enumerate(kinds)), weights={"code": 3, "poem": 1})
    code, poem = got.categories
    assert got.overall.lc_win_rate == pytest.approx(0.75 * code.lc_win_rate + 0.25 * poem.lc_win_rate)
    assert got.overall.win_rate == pytest.approx(0.75 * code.win_rate + 0.25 * poem.win_rate)


def test_standard_errors_are_the_spread_over_repeated_samples() -> None:
    found = [breakdown(*rows(400, seed), weights={"code": 1, "poem": 1}) for seed in range(150)]
    for part in (lambda b: b.categories[0], lambda b: b.overall):
        spread = np.std([part(b).lc_win_rate for b in found], ddof=1)
        assert np.mean([part(b).lc_standard_error for b in found]) == pytest.approx(spread, rel=0.2)
        spread = np.std([part(b).win_rate for b in found], ddof=1)
        assert np.mean([part(b).standard_error for b in found]) == pytest.approx(spread, rel=0.2)


def test_a_category_that_is_always_won_stays_below_100_and_says_so() -> None:
    table, kinds = rows(200, 3)
    table["preference"][np.array(kinds) == "code"] = 2.0
    got = breakdown(table, kinds)
    assert got.separated and 90 < got.categories[0].lc_win_rate < 100


def test_a_model_against_itself_has_50_everywhere() -> None:
    table, kinds = rows(100, 4)
    table |= {"preference": np.full(100, 1.5), "len_output": table["len_baseline"]}
    got = breakdown(table, kinds)
    for rate in got.categories:
        assert (rate.win_rate, rate.lc_win_rate, rate.lc_standard_error) == pytest.approx((50, 50, 0), abs=1e-9)


@pytest.mark.parametrize(
    ("categories", "weights", "message"),
    [
        ({0: "code"}, None, r"instruction_index 1 has none \(9 have none\)"),
        (["code"], None, "1 for 10 annotations"),
        (["code"] * 10, {"poem": 1}, r"no rows in \['poem'\], no weight for \['code'\]"),
        (["code"] * 10, {"code": 0}, "one above 0"),
    ],
)
def test_bad_categories_are_refused(categories: object, weights: dict | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        breakdown(rows(10, 5)[0], categories, weights=weights)
