"""Fixtures: ladder points that lie on a known law, with a little noise, and the params to fit them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from stages.scaling.fit import FitParams, Law

LAW = Law(60.0, 2000.0, 1.5, 0.33, 0.5)
LSTM_RATIO = 1.25
SHAPES = [(1.5e5, 1.2e5), (1.5e5, 4e5), (3e5, 2.5e5), (3e5, 8e5), (5e5, 1.5e5), (5e5, 4e5), (1e6, 2e5)]


def _ladder_points(noise: float = 0.005, seed: int = 0) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    points = []
    for arch, ratio, shapes in (("transformer", 1.0, SHAPES), ("lstm", LSTM_RATIO, SHAPES[:3])):
        for n, d in shapes:
            clean = LAW.E + ratio * (float(LAW.predict(n, d)) - LAW.E)
            points.append(
                {
                    "key": f"{arch}_{n:.0f}_{d:.0f}",
                    "arch": arch,
                    "n_params": int(n),
                    "n_nonembedding": int(n / 2),
                    "tokens": int(d),
                    "flops": 6 * n * d,
                    "loss": clean * float(np.exp(noise * rng.standard_normal())),
                    "lr": 0.02,
                    "recipe": {"lr": 0.02, "optimizer": "muon", "cooldown": 0.25},
                }
            )
    return points


def _fit_params(**changes: Any) -> FitParams:
    normal = {"mean": 0.35, "sd": 0.1}
    values = {
        "huber_delta": 0.02,
        "count": "total",
        "prior": {"alpha": normal, "beta": normal, "log_E": {"mean": 0.4, "sd": 0.4}, "noise": 0.01},
        "draws": 100,
        "level": 0.9,
        "withhold": 1,
    }
    return FitParams.model_validate(values | changes)


@pytest.fixture(scope="session")
def law() -> Law:
    """The truth that `ladder_points` scatter around."""
    return LAW


@pytest.fixture(scope="session")
def lstm_ratio() -> float:
    return LSTM_RATIO


@pytest.fixture(scope="session")
def ladder_points() -> Callable[..., list[dict[str, Any]]]:
    return _ladder_points


@pytest.fixture(scope="session")
def fit_params() -> Callable[..., FitParams]:
    return _fit_params
