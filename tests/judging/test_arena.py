import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.base.errors import InputError
from stages.judging.arena import fit_bradley_terry

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


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("a", "b", "tie"), ("c", "d", "tie")], "never met"),
        ([("a", "b", "draw")], "row 0: winner"),
        ([("a", "b", "tie"), ("a", "a", "tie")], "row 1: `a` meets itself"),
    ],
)
def test_bad_battles_are_refused(rows: list[Battle], message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit_bradley_terry(table(rows))
