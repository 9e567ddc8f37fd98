"""Fixtures: ladder points that lie on a known law, with a little noise, and the params to fit them."""

from collections.abc import Callable

import pytest

from stages.base.contracts.point import Point
from stages.scaling.fit import FitParams
from stages.scaling.laws.law import Law
from tests.contracts import scaling


@pytest.fixture(scope="session")
def law() -> Law:
    """The truth that `ladder_points` scatter around."""
    return scaling.LAW


@pytest.fixture(scope="session")
def lstm_ratio() -> float:
    return scaling.LSTM_RATIO


@pytest.fixture(scope="session")
def ladder_points() -> Callable[..., list[Point]]:
    return scaling.points


@pytest.fixture(scope="session")
def fit_params() -> Callable[..., FitParams]:
    return scaling.fit_params
