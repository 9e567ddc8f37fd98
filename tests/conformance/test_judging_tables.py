"""Tables of the AlpacaEval paper, recomputed from the reference's annotations."""

import gzip
import json
from pathlib import Path

import pandas as pd
import pytest

from stages.judging.statistics.length_control import fit


@pytest.fixture(scope="module")
def given(reference: Path) -> dict[str, pd.DataFrame]:
    folder = reference / "alpaca_eval"
    return {
        "difficulty": pd.read_csv(folder / "instruction_difficulty.csv"),
        "gamed": pd.read_csv(folder / "df_gamed_reconstructed.csv.gz"),
    }


@pytest.fixture(scope="module")
def sample(reference: Path) -> pd.DataFrame:
    with gzip.open(reference / "alpaca_eval" / "text_sample.jsonl.gz", "rt", encoding="utf-8") as file:
        items = [json.loads(line) for line in file]
    return pd.DataFrame(
        [
            {
                "model": model,
                "instruction_index": item["index"],
                "dataset": item["dataset"],
                "preference": judged["preference"],
                "len_output": len(judged["output"]),
                "len_baseline": len(item["baseline"]),
            }
            for item in items
            for model, judged in item["outputs"].items()
        ]
    )


# model: win rate and length-controlled rate of the public leaderboard; gpt4_gamed is its truncation attack
STANDARD = {
    "gpt-3.5-turbo-1106": (9.2, 19.3),
    "alpaca-7b": (2.6, 5.9),
    "claude-2.1": (15.7, 25.3),
    "gpt4_gamed": (3.7, 12.2),
}


def test_standard_and_cut_off_answers(sample: pd.DataFrame, given: dict[str, pd.DataFrame]) -> None:
    tables = dict(list(sample.groupby("model")))
    for model, (raw, controlled) in STANDARD.items():
        got = fit(tables[model], **given)
        assert got.win_rate == pytest.approx(raw, abs=0.06)
        assert got.lc_win_rate == pytest.approx(controlled, abs=0.17)  # 0.12, and the rounding of what was published
