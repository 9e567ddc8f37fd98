import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.base.errors import InputError
from stages.judging.statistics.arena import fit_bradley_terry
from stages.judging.statistics.intervals import mean_bounds

Battle = tuple[str, str, str]


def table(rows: list[Battle]) -> dict[str, list[str]]:
    return dict(zip(("model_a", "model_b", "winner"), map(list, zip(*rows, strict=True)), strict=True))


def test_two_models_are_the_log_odds() -> None:
    rows = [("x", "y", "model_a")] * 30 + [("y", "x", "model_a")] * 10
    got = fit_bradley_terry(table(rows))
    assert got.ratings["x"] - got.ratings["y"] == pytest.approx(np.log(3))
    # delta method for log odds: 1 / sqrt(n p q), half of it for each of two mirrored ratings
    assert got.standard_errors["x"] == pytest.approx(0.5 / np.sqrt(40 * 0.75 * 0.25))


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from("abc"), st.sampled_from(["model_a", "model_b", "tie"])),
        min_size=3,
    )
)
def test_sides_and_order_do_not_matter(rows: list[Battle]) -> None:
    rows = [row for row in rows if row[0] != row[1]] + [("a", "b", "tie"), ("b", "c", "tie")]
    flip = {"model_a": "model_b", "model_b": "model_a", "tie": "tie"}
    mirrored = [(b, a, flip[winner]) for a, b, winner in reversed(rows)]
    one, other = fit_bradley_terry(table(rows)), fit_bradley_terry(table(mirrored))
    assert sum(one.ratings.values()) == pytest.approx(0, abs=1e-9)
    for model in "abc":
        assert one.ratings[model] == pytest.approx(other.ratings[model], abs=1e-8)


def test_an_unbeaten_model_gets_a_finite_rating_and_says_so() -> None:
    got = fit_bradley_terry(table([("a", "b", "model_a")] * 20 + [("b", "c", "model_a"), ("b", "c", "model_b")]))
    assert got.regularised and np.isfinite(list(got.ratings.values())).all()
    assert got.ratings["a"] == max(got.ratings.values())


def test_two_models_have_the_exact_bounds_of_their_record() -> None:
    """Clopper and Pearson's bounds of the share of wins, as log-odds, half of them for each of two mirrored ratings."""
    for wins, n in ((30, 40), (1, 20), (20, 20)):
        rows = [("x", "y", "model_a")] * wins + [("x", "y", "model_b")] * (n - wins)
        low, high = fit_bradley_terry(table(rows)).intervals["x"]
        share = np.array(mean_bounds([1.0] * wins + [0.0] * (n - wins)))
        with np.errstate(divide="ignore"):
            exact = np.log(share / (1 - share)) / 2
        assert (low, high) == pytest.approx(tuple(exact), abs=2e-3)
    low, high = fit_bradley_terry(table(rows)).intervals["y"]
    assert low == -np.inf and np.isfinite(high)


def test_intervals_without_a_bound_are_those_that_the_battles_leave_open() -> None:
    rows = [("a", "b", "model_a")] * 20 + [("b", "c", "model_a"), ("b", "c", "model_b"), ("a", "c", "model_a")]
    got = fit_bradley_terry(table(rows)).intervals
    assert got["a"].high == np.inf and np.isfinite(got["a"].low)  # nothing says how far above the others a is
    for model in "bc":  # nor therefore how far below the mean they are
        assert got[model].low == -np.inf and np.isfinite(got[model].high)


def test_nothing_but_ties_leaves_an_interval_of_some_width() -> None:
    low, high = fit_bradley_terry(table([("a", "b", "tie")] * 20)).intervals["a"]
    assert low < -0.05 and high == pytest.approx(-low, abs=1e-3) and high < 0.45  # below a fair coin's


def test_doubling_battles_within_clusters_changes_no_interval() -> None:
    rows = [("a", "b", "model_a")] * 12 + [("a", "b", "model_b")] * 8
    once = table(rows) | {"cluster": [str(i) for i in range(20)]}
    twice = {name: column * 2 for name, column in once.items()}
    one, two = (fit_bradley_terry(battles) for battles in (once, twice))
    assert two.standard_errors["a"] == pytest.approx(one.standard_errors["a"])
    assert two.intervals["a"] == pytest.approx(one.intervals["a"], rel=0.05)


def drawn(theta: dict[str, float], count: int, seed: int) -> dict[str, list]:
    generator = np.random.default_rng(seed)
    names = list(theta)
    pairs = [generator.choice(len(names), 2, replace=False) for _ in range(count)]
    rows = []
    for i, j in pairs:
        p = 1 / (1 + np.exp(theta[names[j]] - theta[names[i]]))
        won = "tie" if generator.random() < 0.1 else "model_a" if generator.random() < p else "model_b"
        rows.append((names[i], names[j], won))
    return table(rows)


def test_groups_that_never_met_are_rated_apart_on_demand() -> None:
    first, second = drawn({"a": 1.0, "b": 0.0}, 80, 1), drawn({"x": 0.0, "y": 0.5, "z": 2.0}, 90, 2)
    both = {name: first[name] + second[name] for name in first}
    got = fit_bradley_terry(both, disconnected="separate")
    assert got.groups == {"a": 0, "b": 0, "x": 1, "y": 1, "z": 1} and got.n_battles == 170
    for part in (first, second):
        alone = fit_bradley_terry(part)
        for model, rating in alone.ratings.items():
            assert got.ratings[model] == pytest.approx(rating)
            assert got.intervals[model] == pytest.approx(alone.intervals[model])


def test_both_bad_is_a_tie() -> None:
    rows = [("a", "b", "model_a"), ("b", "a", "model_a"), ("a", "b", "model_a")]
    tied, bad = (fit_bradley_terry(table([*rows, ("a", "b", kind)])) for kind in ("tie", "tie (bothbad)"))
    assert tied == bad


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("a", "b", "tie"), ("c", "d", "tie")], "never met"),
        ([("a", "b", "draw")], "row 0: winner"),
        ([("a", "b", "tie"), ("a", "a", "tie")], "row 1: `a` meets itself"),
        ([("a", "b", "tie"), ("a", "b", None)], "row 1: winner"),
    ],
)
def test_bad_battles_are_refused(rows: list[Battle], message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit_bradley_terry(table(rows))
