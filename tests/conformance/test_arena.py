"""Bradley–Terry against a logistic regression over single battles, and against published ratings."""

from pathlib import Path

import numpy as np
import pandas as pd
import statsmodels.api as sm

from stages.judging.arena import fit_bradley_terry


def naive(battles: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Ratings and HC0 standard errors by statsmodels: a row per battle, ties at 0.5, the first model as reference."""
    names = sorted(set(battles["model_a"]) | set(battles["model_b"]))
    x = np.zeros((len(battles), len(names)))
    x[np.arange(len(battles)), [names.index(m) for m in battles["model_a"]]] = 1
    x[np.arange(len(battles)), [names.index(m) for m in battles["model_b"]]] -= 1
    y = battles["winner"].map({"model_a": 1.0, "model_b": 0.0, "tie": 0.5}).to_numpy()
    result = sm.GLM(y, x[:, 1:], family=sm.families.Binomial()).fit(cov_type="HC0", tol=1e-12)
    centre = np.eye(len(names)) - 1 / len(names)
    covariance = np.zeros((len(names), len(names)))
    covariance[1:, 1:] = result.cov_params()
    return centre @ np.concatenate([[0], result.params]), np.sqrt(np.diag(centre @ covariance @ centre.T))


def draw(theta: dict[str, float], count: int, seed: int) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    names = sorted(theta)
    pairs = np.array([generator.choice(len(names), 2, replace=False) for _ in range(count)])
    gap = np.array([theta[names[a]] - theta[names[b]] for a, b in pairs])
    winner = np.where(generator.random(count) < 1 / (1 + np.exp(-gap)), "model_a", "model_b")
    winner[generator.random(count) < 0.1] = "tie"
    return pd.DataFrame(
        {"model_a": [names[a] for a, _ in pairs], "model_b": [names[b] for _, b in pairs], "winner": winner}
    )


def test_equals_a_logistic_regression_over_battles() -> None:
    battles = draw({"a": 1.0, "b": 0.3, "c": 0.0, "d": -0.6, "e": -0.7}, 1500, seed=1)
    got, (theta, errors) = fit_bradley_terry(battles), naive(battles)
    assert np.allclose(list(got.ratings.values()), theta, atol=1e-6)
    assert np.allclose(list(got.standard_errors.values()), errors, rtol=1e-5)


def test_intervals_cover_the_strengths_that_made_the_battles() -> None:
    theta = {"a": 0.9, "b": 0.2, "c": -0.3, "d": -0.8}
    covered = []
    for seed in range(60):
        battles = draw(theta, 400, seed)
        battles = battles[battles["winner"] != "tie"]  # half-win ties shrink ratings; without them the model is true
        got = fit_bradley_terry(battles)
        covered += [low <= theta[name] <= high for name, (low, high) in got.intervals.items()]
    assert 0.90 < np.mean(covered) < 0.985


def test_llmfao_votes(reference: Path) -> None:
    votes = pd.read_csv(reference / "posttraining/arena/llmfao.csv.gz")
    votes = votes[votes["left"] != votes["right"]]
    winner = votes["winner"].map({"left": "model_a", "right": "model_b"}).fillna("tie")
    battles = pd.DataFrame({"model_a": votes["left"], "model_b": votes["right"], "winner": winner})
    got, (theta, _) = fit_bradley_terry(battles), naive(battles)
    assert len(got.ratings) == 59 and not got.regularised
    assert np.allclose(list(got.ratings.values()), theta, atol=1e-6)
