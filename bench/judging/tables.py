"""What the estimators say of the public data: prompts for length, cut-off answers, categories, style, correlations.

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
    from stages.judging.statistics.evaluators import gameability
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
    published = public.published
    if all(f"{base}{suffix}" in published.index for base in VARIANTS for suffix in ("_concise", "", "_verbose")):
        others = [n for n in published.index if "_verbose" not in n and f"{n}_concise" not in published.index]
        raw = published["win_rate"].to_dict()
        print("\n| gameability of published rates, % | asked to be verbose | to be concise |\n|---|---|---|")
        for name, metric in (
            ("win rate", raw),
            ("length-controlled", published["length_controlled_winrate"].to_dict()),
        ):
            values = [gameability(metric, raw, {b: b + s for b in VARIANTS}, others) for s in ("_verbose", "_concise")]
            print(f"| {name} | {values[0]:.2f} | {values[1]:.2f} |")
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


def categories(public: Public, reference: Path) -> None:
    from stages.judging.statistics.breakdown import breakdown

    rows = sample(reference)
    kinds = rows.drop_duplicates("instruction_index").set_index("instruction_index")["dataset"].to_dict()
    even = dict.fromkeys(sorted(set(kinds.values())), 1.0)
    print("## By category of instruction: length-controlled rate (standard error)\n")
    print(f"| | {' | '.join(even)} | as they occur | each alike |\n|{'---|' * (len(even) + 3)}")
    for model, table in rows.groupby("model"):
        arguments = {"difficulty": public.difficulty, "gamed": public.gamed}
        got, alike = breakdown(table, kinds, **arguments), breakdown(table, kinds, **arguments, weights=even)
        cells = [
            f"{c.lc_win_rate:.1f} ({c.lc_standard_error:.1f})" for c in [*got.categories, got.overall, alike.overall]
        ]
        print(f"| {model} | {' | '.join(cells)} |")
    print()


def style(public: Public, reference: Path) -> None:
    from stages.judging.statistics.length_control import fit
    from stages.judging.statistics.style import FEATURES, counted

    print("## Style held equal beside length (no regularising rows: their texts aren't public)\n")
    print("| | win rate | length | length, lists, headers, bold |\n|---|---|---|---|")
    for model, table in sample(reference).groupby("model"):
        marks = counted(table["output"], "output") | counted(table["baseline"], "baseline")
        table = table.assign(**marks)
        fits = [fit(table, difficulty=public.difficulty, style=names) for names in ((), FEATURES)]
        cells = [f"{f.lc_win_rate:.1f} ({f.lc_standard_error:.1f})" for f in fits]
        print(f"| {model} | {fits[0].win_rate:.1f} | {' | '.join(cells)} |")
    print()


def order(reference: Path) -> None:
    from stages.judging.statistics.problems import side_preference

    rows = sample(reference).dropna(subset="switched")
    print("## The judge's preference for the answer shown first\n")
    for model, table in rows.groupby("model"):
        first = table["switched"].astype(bool)  # the official code shows the baseline first unless switched
        sides = side_preference(table["preference"], first)
        print(f"{model}: {sides.share:.1%} of {sides.n} decided verdicts, p {sides.p_value:.2g}")
    print()


def arena(public: Public, tables: dict[str, pd.DataFrame], reference: Path, checkout: Path | None) -> pd.DataFrame:
    from stages.judging.statistics.correlation import probability_higher, spearman
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
        better = probability_higher(part["lc_win_rate"], part["win_rate"], part["arena"])
        print(f"| {name} | {found[0].n} | {' | '.join(cells)} | {better:.2f} |")
    print()
    return compared[1 if checkout else 0][1]


def humans(reference: Path) -> None:
    """PandaLM's test set: 999 pairs, three people and two judges; its README says kappa .852, .879, .862."""
    from sklearn.metrics import cohen_kappa_score

    from stages.judging.statistics.evaluators import evaluators_table, modes

    table = pd.read_csv(reference / "alpaca_eval" / "pandalm_human_agreement.csv")
    people = ["annotator1", "annotator2", "annotator3"]
    kappas = [cohen_kappa_score(table[a], table[b]) for a, b in (people[:2], people[::2], people[1:])]
    print("## Evaluators, from cross-annotations of PandaLM's test set (999 pairs, 3 people)\n")
    print(
        f"kappa of two people: {', '.join(f'{kappa:.3f}' for kappa in kappas)}; exact agreement with the people's mode:"
    )
    for judge in ("gpt35", "pandalm7b"):
        agreed = [
            v in modes([0.0 if x == 0 else x for x in row]) for v, *row in table[[judge, *people]].to_numpy(float)
        ]
        print(f"{judge} {np.mean(agreed):.3f};", end=" ")
    long = [
        pd.DataFrame(
            {
                "annotator": "humans" if name in people else name,
                "item": table["idx"],
                "preference": table[name].where(table[name] >= 0),
                "len_1": table["len_1"],
                "len_2": table["len_2"],
            }
        )
        for name in [*people, "gpt35", "pandalm7b"]
    ]
    found = evaluators_table(pd.concat(long), gold="humans")
    print("\n\n| | agreement | bias | variance | prefers longer | prefers first | verdicts | missing |")
    print("|---|---|---|---|---|---|---|---|")
    for row in found.rows:
        names = ("agreement", "bias", "variance", "prefers_longer", "prefers_first")
        cells = [f"{row[name]:.1f}" for name in names]
        print(f"| {row['annotator']} | {' | '.join(cells)} | {row['n']} | {row['missing']} |")
    print()


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
    categories(public, reference)
    style(public, reference)
    order(reference)
    compared = arena(public, tables, reference, checkout)
    humans(reference)
    if svg:
        draw(compared, reference, svg)
