import numpy as np
import pytest
from scipy.optimize import minimize

from stages.base.errors import InputError
from stages.judging.statistics.difficulty import fit_difficulty
from stages.judging.statistics.length_control import fit
from stages.judging.statistics.logistic import SEPARATION_RIDGE


def world(models: int, n: int, seed: int, drop: float = 0.0) -> tuple[dict[str, dict[str, np.ndarray]], np.ndarray]:
    generator = np.random.default_rng(seed)
    gamma = generator.normal(0, 1, n)
    tables = {}
    for k in range(models):
        delta = generator.normal(0, 100, n).round()
        logit = generator.normal(-0.5, 0.5) + gamma - 0.8 * np.tanh(delta / delta.std(ddof=1))
        kept = generator.random(n) >= drop
        wins = 1 + (generator.random(n) < 1 / (1 + np.exp(-logit)))
        tables[f"m{k}"] = {
            "instruction_index": 10 + np.arange(n)[kept],
            "preference": wins[kept].astype(float),
            "len_output": 500 - delta[kept],
            "len_baseline": np.full(kept.sum(), 500.0),
        }
    return tables, gamma


def test_planted_difficulties_are_found_and_usable() -> None:
    tables, gamma = world(models=40, n=150, seed=0, drop=0.1)
    got = fit_difficulty(tables)
    assert np.corrcoef(got["instruction_difficulty"], gamma)[0, 1] > 0.9
    assert abs(got["instruction_difficulty"].mean()) < 1e-12 and got["instruction_index"][0] == 10
    assert fit(tables["m0"], difficulty=got).weights["difficulty"] > 0.5


def test_the_fit_is_the_penalised_maximum() -> None:
    tables, _ = world(models=4, n=12, seed=1)
    got = fit_difficulty(tables, prior_precision=0.7)
    deltas = [t["len_baseline"] - t["len_output"] for t in tables.values()]
    x = np.array([np.tanh(d / d.std(ddof=1)) for d in deltas])
    y = np.array([t["preference"] - 1 for t in tables.values()])

    def loss(w: np.ndarray) -> float:
        z = w[:4, None] * x + w[4:8, None] + w[8:]
        penalty = SEPARATION_RIDGE * (w[:8] ** 2).sum() + 0.7 * (w[8:] ** 2).sum()
        return float((np.logaddexp(0, z) - y * z).sum() + penalty / 2)

    peer = minimize(loss, np.zeros(20), method="BFGS", options={"gtol": 1e-7}).x[8:]
    assert got["instruction_difficulty"] == pytest.approx(peer - peer.mean(), abs=1e-4)


def test_one_model_cannot_tell() -> None:
    tables, _ = world(models=1, n=20, seed=2)
    same = tables["m0"] | {"preference": np.full(20, 1.5), "len_output": tables["m0"]["len_baseline"]}
    with pytest.raises(InputError, match="difficulty: 1 models"):
        fit_difficulty(tables | {"baseline": same})
