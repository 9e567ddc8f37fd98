"""What the estimators say of the public data: prompts for length, cut-off answers, order, correlations.

Run by `bench/judging/estimators.py`.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from bench.judging.length import BASELINE, Public, sample

VARIANTS = (
    "gpt4_1106_preview",
    "gpt4_0613",
    "claude-2.1",
    "Mixtral-8x7B-Instruct-v0.1",
    "gpt-3.5-turbo-1106",
    "alpaca-7b",
)
ATTACK = "gpt4_gamed"
# Models of the reference that are also on Arena's leaderboard under another name; versions that differ are left out.
ARENA = {
    "gpt4_1106_preview": "gpt-4-1106-preview",
    "gpt-3.5-turbo-1106": "gpt-3.5-turbo-1106",
    "OpenHermes-2.5-Mistral-7B": "openhermes-2.5-mistral-7b",
    "Qwen-14B-Chat": "qwen-14b-chat",
    "gemma-7b-it": "gemma-7b-it",
    "vicuna-13b-v1.5": "vicuna-13b",
    "vicuna-7b-v1.5": "vicuna-7b",
    "chatglm2-6b": "chatglm2-6b",
    "oasst-sft-pythia-12b": "oasst-pythia-12b",
}


def everyone(public: Public, reference: Path) -> dict[str, pd.DataFrame]:
    """Annotations of all models that the data has, the text sample's among them."""
    return {model: rows for part in (sample(reference), public.annotations) for model, rows in part.groupby("model")}


def variants(public: Public, tables: dict[str, pd.DataFrame]) -> None:
    from stages.judging.statistics.length_control import fit

    found = {}
    for base in VARIANTS:
        for suffix in ("_concise", "", "_verbose"):
            if (name := base + suffix) in tables:
                got = fit(tables[name], difficulty=public.difficulty, gamed=public.gamed, align="compat")
                found[name] = (got.win_rate, got.lc_win_rate)
    print("## Prompts for length: win rate / length-controlled, recomputed (published)\n")
    print("| | concise | standard | verbose |\n|---|---|---|---|")
    for base in VARIANTS:
        cells = []
        for suffix in ("_concise", "", "_verbose"):
            row = public.published.loc[base + suffix] if base + suffix in public.published.index else None
            said = "" if row is None else f" ({row['win_rate']:.1f} / {row['length_controlled_winrate']:.1f})"
            ours = found.get(base + suffix)
            cells.append((f"{ours[0]:.1f} / {ours[1]:.1f}" if ours else "no annotations") + said)
        print(f"| {base} | {' | '.join(cells)} |")
    print()


def attack(public: Public, tables: dict[str, pd.DataFrame]) -> None:
    """An attack on length control: answers that are shorter or would lose are cut off, so that only long ones win."""
    from stages.judging.statistics.length_control import fit

    got = fit(tables[ATTACK], difficulty=public.difficulty, gamed=public.gamed)
    free = fit(tables[ATTACK], difficulty=public.difficulty)
    low, high = got.interval()
    print("## Cut-off answers (gpt4_gamed)\n")
    print(f"win rate {got.win_rate:.2f}; length-controlled {got.lc_win_rate:.2f} [{low:.1f}, {high:.1f}], a gain of")
    print(f"{got.lc_win_rate - got.win_rate:+.2f}; without the regularising rows {free.lc_win_rate:.2f}\n")


def order(reference: Path) -> None:
    from stages.annotators.sides import side_preference

    rows = sample(reference).dropna(subset="switched")
    print("## The judge's preference for the answer shown first\n")
    for model, table in rows.groupby("model"):
        first = table["switched"].astype(bool)  # the official code shows the baseline first unless switched
        sides = side_preference(table["preference"], first)
        print(f"{model}: {sides.share:.1%} of {sides.n} decided verdicts, p {sides.p_value:.2g}")
    print()


def arena(public: Public, tables: dict[str, pd.DataFrame], reference: Path, checkout: Path | None) -> pd.DataFrame:
    from stages.judging.statistics.correlation import spearman
    from stages.judging.statistics.length_control import fit

    path = reference / "posttraining" / "arena" / "leaderboard-text.json.gz"
    ratings = pd.read_json(path, typ="series")["full"]
    rows = []
    for model, name in ARENA.items():
        got = fit(tables[model], difficulty=public.difficulty, gamed=public.gamed)
        rows.append((model, got.win_rate, got.lc_win_rate, ratings[name]["rating"]))
    table = pd.DataFrame(rows, columns=["model", "win_rate", "lc_win_rate", "arena"])
    print("## Rank correlation with Arena's ratings, 95 % of resampled models\n")
    print("| | models | win rate | length-controlled | P(higher) |\n|---|---|---|---|---|")
    compared = [("reference, Arena of 2025", table)]
    if checkout:
        full = pd.read_csv(checkout / "notebooks" / "benchmarks.csv", index_col=0)
        full = full.rename(columns={"LC AlpacaEval 2.0": "lc_win_rate", "AlpacaEval 2.0": "win_rate"})
        for column in ("Arena Elo\n[Feb 2, 2024]", "Arena Elo\n[April 18, 2024]"):
            wanted = full.rename(columns={column: "arena"})[["win_rate", "lc_win_rate", "arena"]].dropna()
            compared.append((" ".join(column.split()), wanted.reset_index(names="model")))
    for name, part in compared:
        found = [spearman(part[column], part["arena"]) for column in ("win_rate", "lc_win_rate")]
        cells = [f"{c.rho:.3f} [{c.low:.2f}, {c.high:.2f}]" for c in found]
        print(f"| {name} | {found[0].n} | {' | '.join(cells)} | {closer(part):.2f} |")
    print()
    return compared[1 if checkout else 0][1]


def closer(table: pd.DataFrame) -> float:
    """Share of resampled sets of models in which the length-controlled rate follows Arena's ratings better."""
    from scipy.stats import spearmanr

    generator = np.random.default_rng(0)
    won = []
    for _ in range(2000):
        drawn = table.iloc[generator.integers(0, len(table), len(table))]
        ours, raw = (spearmanr(drawn[name], drawn["arena"]).statistic for name in ("lc_win_rate", "win_rate"))
        if np.isfinite(ours + raw):
            won.append((ours > raw) + 0.5 * (ours == raw))
    return float(np.mean(won))


def draw(table: pd.DataFrame, reference: Path, path: Path) -> None:
    """Arena rating against both rates; price of a judge against its agreement with people (published)."""
    from bench.judging.standalone import figure
    from stages.publishing.html.charts import Axis, Plot

    left = Plot(Axis("Arena rating"), Axis("rate against GPT-4 Turbo, %"), "Rates by Arena rating", width=440)
    for name, style_class, shape in (("win_rate", "c1", "square"), ("lc_win_rate", "c2", "circle")):
        left.points(table["arena"].tolist(), table[name].tolist(), style_class, shape, table["model"].tolist())
    middle = table.sort_values("arena").iloc[len(table) // 2]
    top = table.sort_values("arena").iloc[-1]
    left.text(middle["arena"], middle["lc_win_rate"], "length-controlled", "c2", dx=-10, dy=-22, anchor="end")
    left.text(top["arena"], top["win_rate"], "win rate", "c1", dx=8, dy=20, anchor="end")
    judges = pd.read_csv(reference / "alpaca_eval" / "evaluators_leaderboard.csv", index_col=0)
    judges = judges.rename(columns={"Human agreement": "agreement", "Price [$/1000 examples]": "price"})
    judges = judges[(judges["price"] > 0) & (judges["agreement"] > 1)]  # one row has columns in each other's place
    right = Plot(
        Axis("USD per 1,000 comparisons", log=True), Axis("agreement with people, %"), "Agreement by price", width=440
    )
    right.points(judges["price"].tolist(), judges["agreement"].tolist(), "c3", "circle", judges.index.tolist())
    for name, label, dx, anchor in (
        ("humans", "people", -9, "end"),
        ("alpaca_eval_gpt4", "GPT-4", 9, "start"),
        ("alpaca_eval_llama3_70b_fn", "Llama 3 70B", 9, "start"),
        ("weighted_alpaca_eval_gpt4_turbo", "AlpacaEval 2", -9, "end"),
        ("chatgpt", "ChatGPT", -9, "end"),
    ):
        row = judges.loc[name]
        right.text(row["price"], row["agreement"], label, "c3", dx=dx, anchor=anchor)
    path.write_text(figure([(left.title, left), (right.title, right)]), encoding="utf-8")


def everything(public: Public, reference: Path, checkout: Path | None, svg: Path | None) -> None:
    tables = everyone(public, reference)
    assert BASELINE in tables
    variants(public, tables)
    attack(public, tables)
    order(reference)
    compared = arena(public, tables, reference, checkout)
    if svg:
        draw(compared, reference, svg)
