"""Length-controlled win rates against the published AlpacaEval 2 leaderboard and against statsmodels."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from stages.judging.length_control import fit


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


def test_standard_errors_are_the_bootstraps(public: dict[str, pd.DataFrame]) -> None:
    """The official standard error is 0.43 of the bootstrap's in the median; this one is the bootstrap's."""
    ratios = []
    for model, rows in public["annotations"].groupby("model"):
        if model in public["errors"].index and model != "gpt4_1106_preview":
            got = fit(rows, difficulty=public["difficulty"], gamed=public["gamed"], align="position")
            ratios.append(got.lc_standard_error / public["errors"].loc[model, "boot_se"])
    assert 0.97 < np.median(ratios) < 1.03
    assert np.mean(np.abs(np.array(ratios) - 1) < 0.1) >= 0.85  # the reference is itself a 200-resample estimate


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
