import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.base.errors import InputError
from stages.judging.statistics.arena import fit_bradley_terry, ranks
from stages.judging.statistics.arena_bootstrap import bootstrap
from stages.judging.statistics.elo import TO_ELO, elo, shuffled_elo

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


def test_doubling_battles_within_clusters_changes_no_interval() -> None:
    rows = [("a", "b", "model_a")] * 12 + [("a", "b", "model_b")] * 8
    once = table(rows) | {"cluster": [str(i) for i in range(20)]}
    twice = {name: column * 2 for name, column in once.items()}
    assert fit_bradley_terry(twice).intervals["a"] == pytest.approx(fit_bradley_terry(once).intervals["a"])


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
    assert all(ranks(got)[model][1] <= 2 for model in "ab")


def test_ranks_widen_where_models_are_close() -> None:
    battles = drawn({"best": 3.0, "twin": 0.0, "other": 0.0, "worst": -3.0}, 1200, 4)
    got = ranks(fit_bradley_terry(battles))
    assert got == {"best": (1, 1), "twin": (2, 3), "other": (2, 3), "worst": (4, 4)}


@pytest.mark.parametrize("clustered", [False, True])
def test_bootstrap_and_sandwich_agree(clustered: bool) -> None:
    battles = drawn({"a": 0.8, "b": 0.2, "c": -0.2, "d": -0.8}, 900, 5)
    if clustered:
        battles = {name: column * 2 for name, column in battles.items()}
        battles["cluster"] = [str(i) for i in range(900)] * 2
    fitted, resampled = fit_bradley_terry(battles), bootstrap(battles, 1500, seed=0)
    assert resampled.ratings.mean(0) == pytest.approx(np.array(list(fitted.ratings.values())), abs=0.02)
    for model, error in resampled.standard_errors().items():
        assert error == pytest.approx(fitted.standard_errors[model], rel=0.08)
        assert resampled.intervals()[model] == pytest.approx(fitted.intervals[model], abs=0.4 * error)
    assert resampled.n_regularised == 0


def test_an_unbeaten_model_stays_finite_in_every_resample() -> None:
    rows = [("a", "b", "model_a")] * 30 + [("b", "c", "model_a")] * 12 + [("b", "c", "model_b")] * 12
    resampled = bootstrap(table(rows), 50, seed=0)
    assert resampled.n_regularised == 50 and np.isfinite(resampled.ratings).all()
    with pytest.raises(InputError, match="never met"):
        bootstrap(table([*rows, ("x", "y", "tie")]), 50, seed=0)


def styled(count: int, seed: int) -> dict[str, list]:
    """`chatty` is no better than `terse`: it writes longer, and voters like that by 1 logit a standard deviation."""
    generator = np.random.default_rng(seed)
    names = ["chatty", "terse", "third"]
    means = {"chatty": 400, "terse": 150, "third": 250}
    a = generator.integers(0, 3, count)
    b = (a + generator.integers(1, 3, count)) % 3
    lengths = [
        np.array([generator.poisson(means[names[i]] * generator.uniform(0.3, 1.7)) for i in side]) for side in (a, b)
    ]
    x = (lengths[0] - lengths[1]) / (lengths[0] + lengths[1])
    won = generator.random(count) < 1 / (1 + np.exp(-x / x.std()))
    battles: dict[str, list] = table(
        [(names[i], names[j], "model_a" if w else "model_b") for i, j, w in zip(a, b, won, strict=True)]
    )
    return battles | {"length_a": lengths[0].tolist(), "length_b": lengths[1].tolist()}


def test_style_control_removes_a_preference_for_length() -> None:
    battles = styled(4000, 6)
    plain, held = fit_bradley_terry(battles), fit_bradley_terry(battles, style=["length"])
    assert plain.ratings["chatty"] - plain.ratings["terse"] > 0.8
    assert all(low < 0 < high for low, high in held.intervals.values())
    weight, error = held.style["length"]
    assert abs(weight - 1) < 3 * error
    resampled = bootstrap(battles, 60, seed=1, style=["length"])
    for model, spread in resampled.standard_errors().items():
        assert spread == pytest.approx(held.standard_errors[model], rel=0.35)  # 60 resamples: 9 % error each


def test_both_bad_is_a_tie() -> None:
    rows = [("a", "b", "model_a"), ("b", "a", "model_a"), ("a", "b", "model_a")]
    tied, bad = (fit_bradley_terry(table([*rows, ("a", "b", kind)])) for kind in ("tie", "tie (bothbad)"))
    assert tied == bad


def test_elo_by_hand() -> None:
    rows = [("a", "b", "model_a"), ("b", "c", "tie"), ("c", "a", "model_b"), ("b", "a", "model_a")]
    expected = dict.fromkeys("abc", 1000.0)
    for one, other, won in rows:
        chance = 1 / (1 + 10 ** ((expected[other] - expected[one]) / 400))
        change = 32 * ({"model_a": 1, "tie": 0.5, "model_b": 0}[won] - chance)
        expected[one] += change
        expected[other] -= change
    assert elo(table(rows), k=32) == pytest.approx(expected)


def test_elo_depends_on_order_and_settles_around_bradley_terry() -> None:
    battles = drawn({"a": 0.6, "b": 0.0, "c": -0.6}, 3000, 7)
    orders = shuffled_elo(battles, 20, seed=0)
    fitted = fit_bradley_terry(battles)
    for model, values in orders.items():
        assert values.std() > 1
        assert values.mean() - 1000 == pytest.approx(TO_ELO * fitted.ratings[model], abs=20)


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


def test_bad_style_counts_are_refused_by_row() -> None:
    battles = table([("a", "b", "tie")] * 2) | {"lists_a": [1, -1], "lists_b": [0, 0]}
    with pytest.raises(InputError, match="row 1: style feature `lists`"):
        fit_bradley_terry(battles, style=["lists"])
