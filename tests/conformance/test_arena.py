"""Bradley–Terry against a logistic regression over single battles, and against published ratings."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from stages.judging.statistics.arena import fit_bradley_terry

ROOT = Path(__file__).resolve().parents[2]
EVALICA = """
import json, sys, evalica
battles = json.load(sys.stdin)
kinds = {"model_a": evalica.Winner.X, "model_b": evalica.Winner.Y, "tie": evalica.Winner.Draw}
arguments = battles["model_a"], battles["model_b"], [kinds[w] for w in battles["winner"]]
strengths = evalica.bradley_terry(*arguments, tolerance=1e-13, limit=100_000).scores
print(json.dumps(strengths.to_dict()))
"""


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


def llmfao(reference: Path) -> pd.DataFrame:
    votes = pd.read_csv(reference / "posttraining/arena/llmfao.csv.gz")
    votes = votes[votes["left"] != votes["right"]]
    winner = votes["winner"].map({"left": "model_a", "right": "model_b"}).fillna("tie")
    return pd.DataFrame({"model_a": votes["left"], "model_b": votes["right"], "winner": winner})


def test_llmfao_votes(reference: Path) -> None:
    battles = llmfao(reference)
    got, (theta, _) = fit_bradley_terry(battles), naive(battles)
    assert len(got.ratings) == 59 and not got.regularised
    assert np.allclose(list(got.ratings.values()), theta, atol=1e-6)


def test_llmfao_votes_as_evalica_rates_them(reference: Path) -> None:
    """Evalica's own data: Bradley–Terry strengths of 59 models."""
    python = os.environ.get("TRAINYARD_PEERS_PYTHON") or str(ROOT / ".venv-peers" / "bin" / "python")
    if not Path(python).exists():
        pytest.skip("no peers' environment: set TRAINYARD_PEERS_PYTHON, or make .venv-peers")
    battles = llmfao(reference).to_dict("list")
    peer = subprocess.run(
        [python, "-c", EVALICA], input=json.dumps(battles), capture_output=True, text=True, check=True
    )
    strengths = json.loads(peer.stdout)
    logs = {name: np.log(value) for name, value in strengths.items()}
    mean = np.mean(list(logs.values()))
    assert fit_bradley_terry(battles).ratings == pytest.approx({k: v - mean for k, v in logs.items()}, abs=1e-6)
