from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize, minimize_scalar
from scipy.stats import beta, chi2

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
        got = fit_bradley_terry(table(rows)).intervals
        share = np.array(mean_bounds([1.0] * wins + [0.0] * (n - wins)))
        with np.errstate(divide="ignore"):
            exact = np.log(share / (1 - share)) / 2
        assert got["x"].low == pytest.approx(exact[0], abs=2e-3) == -got["y"].high
        if wins < n:
            assert got["x"].high == pytest.approx(exact[1], abs=2e-3)


@pytest.mark.parametrize("wins", [1, 3, 20])
def test_an_unbeaten_model_of_two_has_the_penalised_likelihood(wins: int) -> None:
    """Of one proportion Firth's penalty is half a win and half a loss more; its profile is found by scipy."""
    got = fit_bradley_terry(table([("x", "y", "model_a")] * wins))
    share = (wins + 0.5) / (wins + 1)
    assert got.ratings["x"] == pytest.approx(np.log(share / (1 - share)) / 2, abs=1e-4)

    def twice(p: float) -> float:
        return 2 * ((wins + 0.5) * np.log(p) + 0.5 * np.log1p(-p))

    end = brentq(lambda p: twice(share) - twice(p) - chi2.ppf(0.95, 1), share, 1 - 1e-12, xtol=1e-15)
    assert got.intervals["x"].high == pytest.approx(np.log(end / (1 - end)) / 2, abs=1e-3)


def penalised(wins: np.ndarray, theta: np.ndarray) -> float:
    """The log-likelihood and half the log-determinant of the information about θ_0 = 0, by the textbook."""
    n, said, about = len(theta), 0.0, np.zeros((len(theta) - 1, len(theta) - 1))
    for i, j in combinations(range(n), 2):
        p = 1 / (1 + np.exp(theta[j] - theta[i]))
        said += wins[i, j] * np.log(p) + wins[j, i] * np.log1p(-p)
        direction = (np.arange(n) == i).astype(float) - (np.arange(n) == j)
        about += (wins[i, j] + wins[j, i]) * p * (1 - p) * np.outer(direction[1:], direction[1:])
    return said + np.log(np.linalg.det(about)) / 2


def test_separated_battles_have_the_penalised_likelihood_of_firth() -> None:
    """Ratings, and the ends that battles leave open, against the penalised likelihood maximised by scipy."""
    wins = np.array([[0, 4, 3], [0, 0, 2], [0, 3, 0]])  # a never lost
    rows = [(x, y, "model_a") for i, x in enumerate("abc") for j, y in enumerate("abc") for _ in range(int(wins[i, j]))]
    got = fit_bradley_terry(table(rows))
    full = minimize(lambda t: -penalised(wins, t - t.mean()), np.zeros(3), method="BFGS")
    best = full.x - full.x.mean()
    assert got.regularised and list(got.ratings.values()) == pytest.approx(list(best), abs=1e-3)

    def fallen(model: int, at: float) -> float:
        """Twice the penalised log-likelihood below its maximum, with one rating of mean 0 held."""
        others = [place for place in range(3) if place != model]

        def theta(gap: float) -> np.ndarray:
            found = np.full(3, at)
            found[others] = -at / 2 + gap, -at / 2 - gap
            return found

        return 2 * (-full.fun - penalised(wins, theta(minimize_scalar(lambda g: -penalised(wins, theta(g))).x)))

    for model, end in ((0, got.intervals["a"].high), (1, got.intervals["b"].low), (2, got.intervals["c"].low)):
        assert fallen(model, end) == pytest.approx(chi2.ppf(0.95, 1), abs=0.01)


@pytest.mark.parametrize(("models", "battles"), [(2, 3), (3, 4), (5, 10)])
def test_intervals_of_few_battles_cover(models: int, battles: int) -> None:
    """Arenas of a few votes, most of them separated: every end is finite, and 95 % hold the truth (of some 150
    intervals, 90 % is three standard errors below)."""
    generator = np.random.default_rng(models)
    held: list[bool] = []
    while len(held) < 150:
        strength = generator.normal(0, 1.5, models)
        strength -= strength.mean()
        a = np.concatenate([np.arange(models - 1), generator.integers(0, models, battles - models + 1)])
        b = np.concatenate([np.arange(1, models), (a[models - 1 :] + generator.integers(1, models)) % models])
        won = generator.random(battles) < 1 / (1 + np.exp(strength[b] - strength[a]))
        winner = np.where(generator.random(battles) < 0.1, "tie", np.where(won, "model_a", "model_b"))
        names = np.array(list("abcde"))
        got = fit_bradley_terry({"model_a": names[a], "model_b": names[b], "winner": winner.tolist()})
        for model, (low, high) in got.intervals.items():
            assert np.isfinite([low, high]).all()
            held.append(low <= strength["abcde".index(model)] <= high)
    assert np.mean(held) > 0.90


@pytest.mark.parametrize("rows", [["model_a", "tie"], ["tie", "tie"], ["model_a", "model_b", "tie"]])
def test_ties_make_no_interval_wider_than_wins_and_losses_would(rows: list[str]) -> None:
    """Of two votes the spread is hardly known; that of scores between 0 and 1 is no wider than that of wins."""
    low, high = fit_bradley_terry(table([("x", "y", winner) for winner in rows])).intervals["x"]
    won = sum({"model_a": 1.0, "tie": 0.5}.get(winner, 0.0) for winner in rows)
    bounds = beta.ppf([0.025, 0.975], [won, won + 1], [len(rows) - won + 1, len(rows) - won])
    assert (low, high) == pytest.approx(tuple(np.log(bounds / (1 - bounds)) / 2), abs=1e-3)


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
