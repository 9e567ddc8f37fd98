"""Length control against published rates, the bootstrap and the official package. `estimators.py` runs it."""

import gzip
import json
import os
import statistics
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[2]
BASELINE = "gpt4_1106_preview"
C_GRID = np.logspace(-4, 4, 10)[4:]  # below, all weights are 0
TIMED = 10  # models in a round of the comparison with the official package


class Public(NamedTuple):
    """AlpacaEval 2 annotations and what was published of them."""

    annotations: pd.DataFrame  # model, instruction_index, preference, len_output, len_baseline
    difficulty: pd.DataFrame
    gamed: pd.DataFrame
    published: pd.DataFrame  # by model
    weights: pd.DataFrame  # by model

    def models(self) -> dict[str, pd.DataFrame]:
        """Those with a published rate, in the order of their names."""
        return {model: rows for model, rows in self.annotations.groupby("model") if model in self.published.index}


def load(reference: Path, checkout: Path | None) -> Public:
    """The reference's 40 published models; all those of a checkout of tatsu-lab/alpaca_eval where there is one."""
    folder = reference / "alpaca_eval"
    annotations = pd.read_parquet(folder / "annotations_public.parquet").sort_values(["model", "row"])
    published = pd.read_csv(folder / "leaderboard_public.csv").set_index("model")
    weights = pd.read_csv(folder / "glm_weights_public.csv").set_index("model")
    if checkout:
        annotations = _annotations(checkout, annotations)
        package = checkout / "src" / "alpaca_eval"
        judge = "weighted_alpaca_eval_gpt4_turbo"
        published = pd.read_csv(package / f"leaderboards/data_AlpacaEval_2/{judge}_leaderboard.csv", index_col=0)
        weights = pd.read_csv(
            package / f"metrics/weights/{judge}/length_controlled_v1/baseline_{BASELINE}.csv", index_col=0
        )
        weights.columns = ["w_tanh_len", "w_difficulty", "w_bias"]
    return Public(
        annotations,
        pd.read_csv(folder / "instruction_difficulty.csv"),
        pd.read_csv(folder / "df_gamed_reconstructed.csv.gz"),
        published,
        weights,
    )


def _annotations(checkout: Path, known: pd.DataFrame) -> pd.DataFrame:
    """Every `results/<model>/<judge>/annotations.json`; the instruction's index is its place in the baseline's file."""
    rows, order = [], {}
    paths = sorted(checkout.glob("results/*/weighted_alpaca_eval_gpt4_turbo/annotations.json"))
    full = next(p for p in paths if p.parts[-3] in set(known.groupby("model").size().loc[lambda n: n == 805].index))
    order = {row["instruction"]: i for i, row in enumerate(json.loads(full.read_text(encoding="utf-8")))}
    for path in paths:
        for row in json.loads(path.read_text(encoding="utf-8")):
            lengths = {"len_output": len(row["output_2"]), "len_baseline": len(row["output_1"])}
            at = {"model": path.parts[-3], "instruction_index": order[row["instruction"]]}
            rows.append(at | {"preference": row["preference"]} | lengths)
    return pd.DataFrame(rows)


def accuracy(public: Public) -> None:
    from stages.judging.statistics.length_control import fit, predict
    from stages.judging.statistics.length_design import prepare

    models = public.models()
    raw, controlled, penalised, predicted, moved = {}, {}, {}, {}, {}
    for model, rows in models.items():
        reported = public.published.loc[model]
        arguments = {"difficulty": public.difficulty, "gamed": public.gamed}
        got = fit(rows, **arguments, align="compat")
        raw[model] = abs(got.win_rate - reported["win_rate"])
        controlled[model] = abs(got.lc_win_rate - reported["length_controlled_winrate"])
        if len(rows) < 805:
            moved[model] = fit(rows, **arguments).lc_win_rate - got.lc_win_rate
        if model == BASELINE or model not in public.weights.index:
            continue
        weights = public.weights.loc[model]
        fits = [fit(rows, **arguments, align="compat", l1_c=c) for c in C_GRID]
        nearest = min(fits, key=lambda f: np.abs(np.array(list(f.weights.values())) - weights.to_numpy(float)).max())
        penalised[model] = abs(nearest.lc_win_rate - reported["length_controlled_winrate"])
        design = prepare(rows, **arguments, align="compat")
        rate = 100 * predict(design, weights[["w_tanh_len", "w_difficulty", "w_bias"]].to_numpy(float)).mean()
        predicted[model] = abs(rate - reported["length_controlled_winrate"])
    print(f"## Published rates: {len(models)} models, positional alignment, points\n")
    print("| | mean | 95 % of models below | largest | ≤ .1 |\n|---|---|---|---|---|")
    for name, deltas in (
        ("win rate", raw),
        ("length-controlled, maximum likelihood", controlled),
        ("length-controlled, L1 at the C whose weights are the published ones", penalised),
        ("published weights to published rate", predicted),
    ):
        values = np.array(list(deltas.values()))
        worst = max(deltas, key=deltas.__getitem__)
        print(
            f"| {name} | {values.mean():.2g} | {np.quantile(values, 0.95):.2g} | {values.max():.2g} ({worst}) "
            f"| {(values <= 0.1).mean():.1%} |"
        )
    print(f"\nlarger than 1e-5 from published weights: {[m for m, d in predicted.items() if d > 1e-5] or 'none'}")
    shifts = ", ".join(f"{model} {shift:+.2f}" for model, shift in sorted(moved.items()))
    print(f"moved by alignment by index: {shifts}\n")


def standard_errors(public: Public) -> None:
    from bench.judging.length_bootstrap import bootstrap
    from stages.judging.statistics.length_control import fit
    from stages.judging.statistics.length_design import prepare

    ratios, official = [], []
    for seed, (model, rows) in enumerate(public.models().items()):
        if model == BASELINE:
            continue
        got = fit(rows, difficulty=public.difficulty, gamed=public.gamed)
        resampled = bootstrap(prepare(rows, public.difficulty, public.gamed), 1000, seed).standard_error
        ratios.append(got.lc_standard_error / resampled)
        official.append(public.published.loc[model].get("lc_standard_error", np.nan) / resampled)
    values = np.array(ratios)
    print("## Standard errors against 1,000 resamples, by index\n")
    print(
        f"{len(values)} models: ratio {np.median(values):.3f} in the median, {values.min():.3f} to {values.max():.3f};"
    )
    print(f"within 10 % for {(np.abs(values - 1) < 0.1).mean():.1%}. Published ones: {np.nanmedian(official):.2f}.\n")


def speed(public: Public, official: str | None) -> None:
    from stages.judging.statistics.length_control import fit

    models = {model: rows for model, rows in public.models().items() if model != BASELINE}
    names = list(models)[:TIMED]
    print("## Time, one thread\n")
    if official:
        given = {
            "gamed": public.gamed.to_dict("list"),
            "models": {name: models[name].drop(columns=["model"]).to_dict("list") for name in names},
        }
        rounds = []
        for _ in range(3):
            answer = subprocess.run(
                [official, str(Path(__file__).with_name("official.py"))],
                input=json.dumps(given), capture_output=True, text=True, check=True,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )  # fmt: skip
            theirs = json.loads(answer.stdout)
            ours = []
            for name in names:
                start = time.perf_counter()
                fit(models[name], difficulty=public.difficulty, gamed=public.gamed, align="compat")
                ours.append(time.perf_counter() - start)
            rounds.append((statistics.median(ours), statistics.median(seconds for seconds, _ in theirs.values())))
        ratios = sorted(theirs / ours for ours, theirs in rounds)
        mine, other = (statistics.median(pair[side] for pair in rounds) for side in (0, 1))
        print(
            f"a fit: {1000 * mine:.1f} ms, official {1000 * other:.0f} ms: {ratios[1]:.0f}x "
            f"({ratios[0]:.0f}–{ratios[2]:.0f})"
        )
    many = [rows for _ in range(6) for rows in models.values()][:200]
    start = time.perf_counter()
    for rows in many:
        fit(rows, difficulty=public.difficulty, gamed=public.gamed).interval()
    print(f"{len(many)} models with intervals: {time.perf_counter() - start:.1f} s\n")


def sample(reference: Path) -> pd.DataFrame:
    """The six models whose texts are in the reference: annotations with `dataset`, texts, order, price."""
    rows = []
    with gzip.open(reference / "alpaca_eval" / "text_sample.jsonl.gz", "rt", encoding="utf-8") as file:
        for line in file:
            item = json.loads(line)
            for model, judged in item["outputs"].items():
                rows.append(
                    {
                        "model": model,
                        "instruction_index": item["index"],
                        "dataset": item["dataset"],
                        "preference": judged["preference"],
                        "output": judged["output"],
                        "baseline": item["baseline"],
                        "len_output": len(judged["output"]),
                        "len_baseline": len(item["baseline"]),
                        "switched": judged["switched"],
                    }
                )
    return pd.DataFrame(rows).sort_values(["model", "instruction_index"])
