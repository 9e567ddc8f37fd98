"""Public AlpacaEval 2 verdicts through `trainyard leaderboard`, against the published rows."""

import csv
import json
from pathlib import Path

import pandas as pd
import pytest

from stages.cli import main

# The counts' columns to the digit; the last one has only whole files, as official rates of others are misaligned.
EXACT = ("win_rate", "standard_error", "n_wins", "n_wins_base", "n_draws", "n_total", "discrete_win_rate")


def test_published_columns_are_reproduced_from_annotation_files(reference: Path, tmp_path: Path) -> None:
    folder = reference / "alpaca_eval"
    annotations = pd.read_parquet(folder / "annotations_public.parquet").sort_values(["model", "row"])
    published = pd.read_csv(folder / "leaderboard_public.csv").set_index("model")
    sizes = annotations.groupby("model").size()
    chosen = [model for model in sizes[sizes == 805].index if model in published.index][::4]
    assert len(chosen) >= 6
    for model in chosen:
        rows = [
            {
                "instruction": f"Instruction {row.instruction_index}",
                "output_1": "b" * row.len_baseline,
                "generator_1": "gpt4_1106_preview",
                "output_2": "m" * row.len_output,
                "generator_2": model,
                "annotator": "weighted_alpaca_eval_gpt4_turbo",
                "preference": row.preference,
            }
            for row in annotations[annotations["model"] == model].itertuples()
        ]
        target = tmp_path / "results" / model / "weighted_alpaca_eval_gpt4_turbo" / "annotations.json"
        target.parent.mkdir(parents=True)
        target.write_text(json.dumps(rows))
    inputs = ["--difficulty", str(folder / "instruction_difficulty.csv")]
    inputs += ["--gamed", str(folder / "df_gamed_reconstructed.csv.gz"), "--out", str(tmp_path / "out")]
    assert main(["leaderboard", str(tmp_path / "results"), *inputs]) == 0
    with (tmp_path / "out" / "leaderboard.csv").open(newline="") as handle:
        table = {row["model"]: row for row in csv.DictReader(handle)}
    assert set(table) == {*chosen, "gpt4_1106_preview"}
    for model in chosen:
        for column in EXACT:
            assert float(table[model][column]) == pytest.approx(published.loc[model, column], rel=1e-5), column
        assert float(table[model]["avg_length"]) == pytest.approx(published.loc[model, "avg_length"], abs=1)
        assert float(table[model]["length_controlled_winrate"]) == pytest.approx(
            published.loc[model, "length_controlled_winrate"], abs=0.12
        )
