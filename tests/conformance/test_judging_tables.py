"""Tables of the AlpacaEval paper and of PandaLM, recomputed from the reference's annotations."""

import gzip
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from stages.judging.statistics.breakdown import breakdown
from stages.judging.statistics.difficulty import fit_difficulty
from stages.judging.statistics.evaluators import evaluators_table
from stages.judging.statistics.length_control import fit
from stages.judging.statistics.rates import fit_models


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
    fitted = fit_models(sample, **given)
    assert fitted.problems == []
    for model, (raw, controlled) in STANDARD.items():
        got = fitted.models[model]
        assert got.win_rate == pytest.approx(raw, abs=0.06)
        assert got.lc_win_rate == pytest.approx(controlled, abs=0.17)  # 0.12, and the rounding of what was published


def test_categories_make_up_the_whole(sample: pd.DataFrame, given: dict[str, pd.DataFrame]) -> None:
    rows = sample.query("model == 'claude-2.1'")
    got, plain = breakdown(rows, rows["dataset"].tolist(), **given), fit(rows, **given)
    assert [rate.n for rate in got.categories] == [129, 156, 188, 252, 80]
    assert got.overall.win_rate == pytest.approx(plain.win_rate)
    assert got.overall.lc_win_rate == pytest.approx(plain.lc_win_rate, abs=plain.lc_standard_error)


def test_difficulty_of_a_few_models_is_much_like_the_published_one_of_all(
    reference: Path, given: dict[str, pd.DataFrame]
) -> None:
    annotations = pd.read_parquet(reference / "alpaca_eval" / "annotations_public.parquet")
    own = fit_difficulty(dict(list(annotations.groupby("model"))))
    assert len(own["instruction_index"]) == 805
    assert spearmanr(own["instruction_difficulty"], given["difficulty"]["instruction_difficulty"]).statistic > 0.8


def test_people_and_judges_of_pandalm(reference: Path) -> None:
    """Agreement counts a draw as half, so it lies above the published accuracies .698 and .668, which don't."""
    table = pd.read_csv(reference / "alpaca_eval" / "pandalm_human_agreement.csv")
    people = ["annotator1", "annotator2", "annotator3"]
    long = pd.concat(
        pd.DataFrame(
            {
                "annotator": "humans" if name in people else name,
                "item": table["idx"],
                "preference": table[name].where(table[name] >= 0),  # -1: an unparsed reply
            }
        )
        for name in [*people, "gpt35", "pandalm7b"]
    )
    got = evaluators_table(long, gold="humans")
    assert len(got.problems) == 25
    assert [row["annotator"] for row in got.rows] == ["humans", "gpt35", "pandalm7b"]
    assert [row["missing"] for row in got.rows] == [0, 25, 0]
    same = np.mean([(table[a] == table[b]).mean() for a, b in (people[:2], people[::2], people[1:])])
    assert 100 * same < got.rows[0]["agreement"] < 100
