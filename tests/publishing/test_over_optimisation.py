"""Gao et al.'s form, fitted to points that follow it and to none that can't tell."""

import math

import numpy as np
import pytest

from stages.publishing.alignment.over_optimisation import Method, Point, fit, over_optimisation_view, points_of


@pytest.mark.parametrize("method", ["best_of_n", "ppo"])
def test_planted_parameters_are_found(method: Method) -> None:
    d = np.array([0.0, 0.3, 0.5, 0.8, 1.1, 1.7])
    bend = d if method == "best_of_n" else np.log(np.maximum(d, 1e-9))
    truth = 1.2 + d * (0.7 - 0.4 * bend)
    found = fit(method, [Point("", x * x, 0.0, float(y)) for x, y in zip(d, truth, strict=True)], "truth")
    assert found is not None and found.points == 6
    assert (found.start, found.alpha, found.beta, found.r_squared) == pytest.approx((1.2, 0.7, 0.4, 1.0))
    assert [found.at(x) for x in d] == pytest.approx(truth.tolist())


def test_too_few_points_or_none_at_the_start_are_not_fitted() -> None:
    points = [Point("", kl, kl, None) for kl in (0.0, 0.1, 0.2, 0.3)]
    assert fit("ppo", points, "reward") is not None and fit("ppo", points, "truth") is None
    assert fit("ppo", points[:3], "reward") is None
    assert fit("ppo", [*points[1:], Point("", 0.4, 0.1, None)], "reward") is None
    still = [Point("", kl, 0.1, None) for kl in (0.0, -0.1, -0.2, 0.3)]
    assert fit("ppo", still, "reward") is None, "an estimate below 0 is no distance"


def test_a_checkpoints_own_divergence_goes_before_that_of_the_last_answers() -> None:
    rows = [
        {"step": 1, "kl": 0.4, "validation_reward": 1.0},
        {"step": 3, "validation_reward": 2.0, "validation_kl_to_sft": 0.9, "validation_exact_score": 0.5},
        {"step": 4, "loss": 1.0},
    ]
    found = points_of([], rows, {"validation_sft_reward": 0.5, "validation_sft_exact_score": None})
    assert found == {
        "ppo": [Point("sft", 0.0, 0.5, None), Point("step 1", 0.4, 1.0, None), Point("step 3", 0.9, 2.0, 0.5)]
    }
    assert found["ppo"][2].distance == math.sqrt(0.9)
    assert points_of([], [], {}) == {} and over_optimisation_view({}) is None
