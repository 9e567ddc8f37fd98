"""Length-controlled win rates against the published AlpacaEval 2 leaderboard and against statsmodels."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from sklearn.linear_model import LogisticRegression

from bench.judging.length_bootstrap import bootstrap
from stages.judging.statistics.length_control import fit, predict
from stages.judging.statistics.length_design import prepare
from stages.judging.statistics.logistic import l1, maximum_likelihood


@pytest.fixture(scope="module")
def public(reference: Path) -> dict[str, pd.DataFrame]:
    folder = reference / "alpaca_eval"
    annotations = pd.read_parquet(folder / "annotations_public.parquet").sort_values(["model", "row"])
    return {
        "annotations": annotations[annotations["model"] != "text_davinci_003"],  # it has no published AE2 row
        "difficulty": pd.read_csv(folder / "instruction_difficulty.csv"),
        "gamed": pd.read_csv(folder / "df_gamed_reconstructed.csv.gz"),
        "published": pd.read_csv(folder / "leaderboard_public.csv").set_index("model"),
        "errors": pd.read_csv(folder / "lc_standard_errors_public.csv").set_index("model"),
        "weights": pd.read_csv(folder / "glm_weights_public.csv").set_index("model"),
    }


def test_published_rates_are_reproduced(public: dict[str, pd.DataFrame]) -> None:
    deltas = {}
    for model, rows in public["annotations"].groupby("model"):
        # Position alignment, as the official code has it: six of the models have missing rows.
        got = fit(rows, difficulty=public["difficulty"], gamed=public["gamed"], align="position")
        published = public["published"].loc[model]
        assert got.win_rate == pytest.approx(published["win_rate"], abs=1e-9), model
        deltas[model] = abs(got.lc_win_rate - published["length_controlled_winrate"])
    values = np.array(list(deltas.values()))
    assert len(values) == 40
    assert values.max() <= 0.12, max(deltas, key=deltas.__getitem__)
    assert (values < 0.1).mean() >= 0.95


def test_true_alignment_moves_models_with_missing_rows(public: dict[str, pd.DataFrame]) -> None:
    rows = public["annotations"].query("model == 'gpt35_turbo_instruct'")
    moved = {
        a: fit(rows, difficulty=public["difficulty"], gamed=public["gamed"], align=a) for a in ("index", "position")
    }
    assert moved["position"].lc_win_rate == pytest.approx(17.7, abs=0.15)
    assert moved["index"].lc_win_rate == pytest.approx(14.9, abs=0.1)


def test_published_rates_follow_from_published_weights(public: dict[str, pd.DataFrame]) -> None:
    counts = public["annotations"].groupby("model").size()
    for model, weights in public["weights"].iterrows():
        if model in public["published"].index:
            # The official mean is over a model's own rows, by position.
            values = public["difficulty"]["instruction_difficulty"].to_numpy()[: counts[model]]
            design = prepare(
                public["annotations"].query("model == @model"), public["difficulty"], public["gamed"], "position"
            )
            ours = weights[["w_tanh_len", "w_difficulty", "w_bias"]].to_numpy(float)
            assert design.names == ("length", "difficulty", "bias") and (design.predicted[:, 0] == values).all()
            rate = 100 * predict(design, ours).mean()
            assert rate == pytest.approx(public["published"].loc[model, "length_controlled_winrate"], abs=1e-5)


def test_the_official_penalty_reproduces_published_rates(public: dict[str, pd.DataFrame]) -> None:
    """The official C was chosen by cross-validation and not published: one of the ten must fit rate and weights."""
    for model, rows in public["annotations"].groupby("model"):
        if model == "gpt4_1106_preview" or model not in public["published"].index:
            continue
        fits = [
            fit(rows, difficulty=public["difficulty"], gamed=public["gamed"], align="compat", l1_c=c)
            for c in np.logspace(-4, 4, 10)[4:]
        ]
        weights = public["weights"].loc[model, ["w_tanh_len", "w_difficulty", "w_bias"]].to_numpy(float)
        nearest = min(fits, key=lambda got: float(np.abs(np.array(list(got.weights.values())) - weights).max()))
        published = public["published"].loc[model, "length_controlled_winrate"]
        assert nearest.lc_win_rate == pytest.approx(published, abs=0.02), model


def test_standard_errors_are_the_bootstraps(public: dict[str, pd.DataFrame]) -> None:
    """The official standard error is 0.43 of the bootstrap's in the median; this one is the bootstrap's."""
    ratios = []
    for model, rows in public["annotations"].groupby("model"):
        if model in public["errors"].index and model != "gpt4_1106_preview":
            got = fit(rows, difficulty=public["difficulty"], gamed=public["gamed"], align="position")
            ratios.append(got.lc_standard_error / public["errors"].loc[model, "boot_se"])
    assert 0.97 < np.median(ratios) < 1.03
    assert np.mean(np.abs(np.array(ratios) - 1) < 0.1) >= 0.85  # the reference is itself a 200-resample estimate


@pytest.mark.parametrize("model", ["minotaur-13b", "claude-2", "phi-2"])  # in the first a few lengths carry the scale
def test_standard_errors_are_our_own_bootstraps(public: dict[str, pd.DataFrame], model: str) -> None:
    rows = public["annotations"].query("model == @model")
    got = fit(rows, difficulty=public["difficulty"], gamed=public["gamed"])
    resampled = bootstrap(prepare(rows, public["difficulty"], public["gamed"]), 1000, seed=0)
    assert got.lc_standard_error == pytest.approx(resampled.standard_error, rel=0.1)
    assert resampled.rates.mean() == pytest.approx(got.lc_win_rate, abs=got.lc_standard_error / 2)
    assert got.interval() == pytest.approx(resampled.interval(), abs=0.6 * got.lc_standard_error)


def test_the_baseline_against_itself_is_50_by_definition(public: dict[str, pd.DataFrame]) -> None:
    rows = public["annotations"].query("model == 'gpt4_1106_preview'")
    got = fit(rows, difficulty=public["difficulty"], gamed=public["gamed"])
    assert (got.win_rate, got.lc_win_rate, got.lc_standard_error) == (50.0, 50.0, 0.0)


def test_weights_equal_statsmodels() -> None:
    generator = np.random.default_rng(3)
    n = 300
    rows = {
        "instruction_index": np.arange(n),
        "preference": 1 + generator.random(n),
        "len_output": generator.integers(10, 900, n),
        "len_baseline": generator.integers(10, 900, n),
    }
    difficulty = {"instruction_index": np.arange(n), "instruction_difficulty": generator.normal(size=n)}
    gamed = {
        "model": np.array(["a"] * n),
        "std_delta_len": generator.normal(size=n),
        "instruction_difficulty": difficulty["instruction_difficulty"],
        "preference_surrogate_0to1": generator.random(n),
    }
    got = fit(rows, difficulty=difficulty, gamed=gamed)
    delta = rows["len_baseline"] - rows["len_output"]
    own = np.column_stack([np.tanh(delta / delta.std(ddof=1)), difficulty["instruction_difficulty"], np.ones(n)])
    extra = np.column_stack([np.tanh(gamed["std_delta_len"]), difficulty["instruction_difficulty"], np.zeros(n)])
    peer = sm.GLM(
        np.concatenate([rows["preference"] - 1, gamed["preference_surrogate_0to1"]]),
        np.vstack([own, extra]),
        family=sm.families.Binomial(),
        var_weights=np.concatenate([np.ones(n), np.full(n, 0.2)]),
    ).fit(tol=1e-12)
    assert np.allclose(list(got.weights.values()), peer.params, atol=1e-6)


def _random_rows(seed: int, n: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    x = np.column_stack([generator.normal(size=(n, 2)), np.ones(n)])
    return x, generator.random(n), generator.random(n)


@pytest.mark.parametrize("c", [0.003, 0.05, 2.78, 1e4])
def test_the_penalty_is_scikit_learns(c: float) -> None:
    x, y, weights = _random_rows(5)
    peer = LogisticRegression(l1_ratio=1, C=c, solver="liblinear", fit_intercept=False, tol=1e-10, max_iter=100_000)
    twice = np.concatenate([weights * y, weights * (1 - y)])
    peer.fit(np.vstack([x, x]), np.repeat([1, 0], len(y)), sample_weight=twice)
    got = l1(x, y, weights, c)
    assert np.allclose(got.weights, peer.coef_[0], atol=1e-5)
    assert (got.weights == 0).sum() == (np.abs(peer.coef_[0]) < 1e-9).sum()


def test_weights_equal_scikit_learns_and_plain_newton_steps() -> None:
    x, y, weights = _random_rows(6)
    peer = LogisticRegression(C=np.inf, solver="newton-cholesky", fit_intercept=False, tol=1e-12)
    twice = np.concatenate([weights * y, weights * (1 - y)])
    peer.fit(np.vstack([x, x]), np.repeat([1, 0], len(y)), sample_weight=twice)
    plain = np.zeros(3)
    for _ in range(50):
        p = 1 / (1 + np.exp(-x @ plain))
        plain += np.linalg.solve((x.T * (weights * p * (1 - p))) @ x, x.T @ (weights * (y - p)))
    got = maximum_likelihood(x, y, weights).weights
    assert np.allclose(got, peer.coef_[0], atol=1e-6) and np.allclose(got, plain, atol=1e-9)
