import pytest

from stages.base.errors import InputError
from stages.judging.statistics.evaluators import gameability

RATES = {"a": 50.0, "a_verbose": 60.0, "b": 20.0, "c": 35.0}


def test_by_hand() -> None:
    """sd of 50 and 60 is 7.071, their mean 55; the metric's own spread is the raw one's, so its weight is 1."""
    assert gameability(RATES, RATES, {"a": "a_verbose"}, ["a", "b", "c"]) == pytest.approx(100 * 7.0710678 / 55)


def test_squeezing_the_range_does_not_help() -> None:
    squeezed = {name: 10 + (rate - 50) / 100 for name, rate in RATES.items()}
    assert gameability(squeezed, RATES, {"a": "a_verbose"}, ["a", "b", "c"]) == pytest.approx(
        100 * 0.070710678 / 10.05 * 100
    )


def test_an_unknown_model_is_named() -> None:
    with pytest.raises(InputError, match="`b_verbose`"):
        gameability(RATES, RATES, {"b": "b_verbose"}, ["a", "b"])
