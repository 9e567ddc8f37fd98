"""The leaderboard as the page shows it."""

from collections.abc import Mapping, Sequence
from typing import Any

from stages.publishing.html.numbers import Scale, ceiling, count, floor, number, percent, value

Board = Mapping[str, Any]  # leaderboard.json
TRAINED_KINDS = ("checkpoint", "huggingface", "outputs")
ABOUT = {
    "checkpoint": "{source}",
    "outputs": "{source}",
    "constant": "one fixed answer to every question",
    "shuffled": "correct answers, to other questions",
    "nearest_neighbour": "the answer to the most similar training question",
    "padded": "{source}, with empty sentences added",
    "endpoint": "a server's model, asked with {source}",
}


def in_pipeline(board: Board, models: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows of models that stand in params.yaml, in the leaderboard's order."""
    return [dict(row) for row in board["rows"] if row["model"] in models]


def leaderboard_view(
    board: Board,
    models: Mapping[str, Mapping[str, Any]],
    verdict: Mapping[str, str] | None,
    agreement: Mapping[str, Any] | None,
) -> dict[str, Any]:
    rows = in_pipeline(board, models)
    rights = [x for row in rows for x in (number(row["right"]), number(row["right_high"])) if x is not None]
    wins = [
        x
        for row in rows
        for x in (number(row["win_rate"]), number(row["lc_win_rate"]), number(row["lc_low"]), number(row["lc_high"]))
        if x is not None
    ]
    judge = board["judge"]
    return {
        "intro": (
            "Test questions are about entities of which tuning showed no question; their facts are on the pages. Every "
            f"model answered the same {count(max((row['n'] for row in rows), default=0))} of them; a base model has "
            f"never seen the chat format. Win rates are against {board['baseline']}; rows are ordered by "
            "length-controlled win rate."
        ),
        "rows": [_row(row, models[row["model"]], verdict) for row in rows],
        "has_verdicts": True,
        "has_right": bool(rights),
        "has_cost": any(number(row.get("usd")) for row in rows),
        "right_scale": Scale(0.0, min(100.0, ceiling(rights, 20))),
        "win_scale": Scale(floor([50.0, *wins], 10), ceiling([50.0, *wins], 10)),
        "judge_label": "simulated annotators" if judge["simulated"] else "judge",
        "judge_note": _judge_note(judge),
        "reading": _reading(board),
        "comparisons": comparisons_view(board["comparisons"], models),
        "correlations": correlations_view(board["correlations"]),
        "agreement": agreement_view(agreement),
    }


def imported_view(board: Board, models: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The view of a leaderboard made of annotation files, of whose models nothing else is known."""
    questions = count(max((row["n"] for row in board["rows"]), default=0))
    return leaderboard_view(board, models, None, None) | {
        "has_verdicts": False,
        "intro": (
            f"Verdicts on up to {questions} instructions for each model, read from annotation files. Win rates are "
            f"against {board['baseline']}; rows are ordered by length-controlled win rate."
        ),
        "reading": " ".join(
            [
                "Small numbers are 95 % intervals. Length-controlled: the win rate a model would have at the "
                "baseline's length (Dubois et al. 2024). Their standard errors hold the error of the fitted weights, "
                "which AlpacaEval's don't. Bradley–Terry: from battles implied by the comparisons with the baseline.",
                *board["notes"],
            ]
        ),
    }


def _row(row: Mapping[str, Any], model: Mapping[str, Any], verdict: Mapping[str, str] | None) -> dict[str, Any]:
    source = (
        str(model.get("source", ""))
        .removeprefix("data/")
        .removesuffix("/model.safetensors")
        .removesuffix("/outputs.parquet")
    )
    about = ABOUT.get(row["kind"], "{source}").format(source=source.replace("/", " › "))
    missing = f"; {count(row['missing'])} without a verdict" if row.get("missing") else ""
    return {
        "rank": row.get("rank"),
        "model": row["model"],
        "about": about + missing,
        "lineage": row.get("lineage") or "",
        "cost": number(row.get("usd")),
        "control": row["control"],
        "baseline": row["baseline"],
        "chosen": bool(row.get("chosen")),
        "right": value(row["right"], row["right_low"], row["right_high"]),
        "win": value(row["win_rate"], row["win_rate_low"], row["win_rate_high"]),
        "lc": value(row["lc_win_rate"], row["lc_low"], row["lc_high"]),
        "bt": value(row["bradley_terry"], row["bradley_terry_low"], row["bradley_terry_high"], digits=2),
        "length": count(number(row["mean_length"]) or 0.0),
        "verdict": _tag(contamination(row, model, verdict), verdict),
    }


def contamination(row: Mapping[str, Any], model: Mapping[str, Any], verdict: Mapping[str, str] | None) -> str | None:
    """The verdict's word; nothing for a control, and `not tested` for a model whose training data nobody has seen."""
    if row["control"]:
        return None
    trained_here = row["kind"] in TRAINED_KINDS and str(model.get("source", "")).startswith("data/")
    return verdict["word"] if verdict and trained_here else "not tested"


def _tag(word: str | None, verdict: Mapping[str, str] | None) -> dict[str, str] | None:
    tone = verdict["tone"] if verdict and word == verdict["word"] else "plain"
    return None if word is None else {"word": word, "tone": tone}


def _judge_note(judge: Mapping[str, Any]) -> str:
    if judge["simulated"]:
        return (
            f"Win rates, length-controlled win rates and Bradley–Terry strengths come from {judge['label']}: "
            "programs that know "
            "the true facts and have a known bias towards length and a known rate of wrong labels. They test the "
            "instrument, "
            "not taste. Exactly right answers are counted against the facts and involve no judge."
        )
    named = ", ".join(name for name in judge["versions"] if name != judge["label"])
    versions = f" (it answered as {named})" if named else ""
    return f"Win rates and Bradley–Terry strengths come from {judge['label']}, a language model{versions}."


def _reading(board: Board) -> str:
    chosen = board.get("chosen")
    picked = f" {chosen['model']} was chosen by its numbers on the {chosen['split']} split alone." if chosen else ""
    return (
        "Small numbers are 95 % intervals. Exactly right: every asked fact is there and no wrong one is. "
        "Length-controlled: the win "
        "rate a model would have at the baseline's length (Dubois et al. 2024, without instruction difficulty). "
        "Bradley–Terry: log-strength from the comparisons with the baseline; no other pair was judged head to head. "
        "Controls "
        f"show what a score means: a tuned model that doesn't beat them has learned nothing.{picked} "
        + " ".join(board.get("notes", []))
    ).strip()


def comparisons_view(comparisons: Sequence[Mapping[str, Any]], models: Mapping[str, Any]) -> dict[str, Any] | None:
    rows = [
        row
        for row in comparisons
        if row["metric"] == "right" and row["split"] == "test" and row["model"] in models and row["against"] in models
    ]
    if not rows:
        return None
    table = []
    for row in rows:
        difference = value(row["difference"], row["low"], row["high"])
        if difference is None:
            continue
        word = "undecided"
        if difference.low is not None and difference.low > 0:
            word = "better"
        elif difference.high is not None and difference.high < 0:
            word = "worse"
        table.append([f"{row['model']} − {row['against']}", difference.text, difference.range or "–", word])
    return {"head": ["Difference", "Points", "95 % interval", ""], "rows": table}


NAMES = {
    "win_rate": "win rate",
    "lc_win_rate": "length-controlled win rate",
    "bradley_terry": "Bradley–Terry",
    "right": "exactly right",
    "mean_length": "mean length",
}


def correlations_view(correlations: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """A line for every two columns: do they rank the models alike?"""
    rows = []
    for row in correlations:
        shown = value(row["spearman"], row["low"], row["high"], digits=2)
        if shown is not None:
            rows.append([f"{NAMES[row['a']]} / {NAMES[row['b']]}", shown.text, shown.range or "–", count(row["n"])])
    return {"head": ["Columns", "Spearman", "95 % interval", "Models"], "rows": rows} if rows else None


def agreement_view(agreement: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    if agreement is None:
        return []
    pool, shown = agreement["pool"], []
    for name, label in (
        ("agreement", "an annotator agrees with the majority of the others"),
        ("truth_agreement", "an annotator agrees with the exact score"),
        ("bias", "the majority is wrong by the exact score"),
        ("prefers_longer", "an annotator prefers the longer answer"),
    ):
        share = number(pool.get(name))
        if share is not None:
            shown.append((label, percent(share, 100.0)))
    shown.append(("pairs judged", f"{count(agreement['n_pairs'])}, by {agreement['label']}"))
    return shown
