"""The leaderboard: rows for the page, and the same rows as CSV and Markdown."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from stages.publishing.quantity import Scale, ceiling, count, floor, number, percent, value

Board = Mapping[str, Any]  # leaderboard.json
COLUMNS = (
    "rank",
    "model",
    "kind",
    "control",
    "baseline",
    "chosen",
    "right",
    "right_low",
    "right_high",
    "win_rate",
    "win_rate_low",
    "win_rate_high",
    "lc_win_rate",
    "lc_low",
    "lc_high",
    "bradley_terry",
    "bradley_terry_low",
    "bradley_terry_high",
    "mean_score",
    "mean_length",
    "n",
    "missing",
)
ABOUT = {
    "checkpoint": "{source}",
    "outputs": "{source}",
    "constant": "one fixed answer to every question",
    "shuffled": "correct answers, to other questions",
    "nearest_neighbour": "the answer to the most similar training question",
    "padded": "{source}, with empty sentences added",
}


def in_pipeline(board: Board, models: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows of models that stand in params.yaml, in the leaderboard's order."""
    return [dict(row) for row in board["rows"] if row["model"] in models]


def leaderboard_view(
    board: Board,
    models: Mapping[str, Mapping[str, Any]],
    verdict: Mapping[str, str],
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
        "right_scale": Scale(0.0, min(100.0, ceiling(rights, 20))),
        "win_scale": Scale(floor([50.0, *wins], 10), ceiling([50.0, *wins], 10)),
        "judge_label": "simulated annotators" if judge["simulated"] else "judge",
        "judge_note": _judge_note(judge),
        "reading": _reading(board),
        "comparisons": comparisons_view(board["comparisons"], models),
        "agreement": agreement_view(agreement),
    }


def _row(row: Mapping[str, Any], model: Mapping[str, Any], verdict: Mapping[str, str]) -> dict[str, Any]:
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
        "control": row["control"],
        "baseline": row["baseline"],
        "chosen": bool(row.get("chosen")),
        "right": value(row["right"], row["right_low"], row["right_high"]),
        "win": value(row["win_rate"], row["win_rate_low"], row["win_rate_high"]),
        "lc": value(row["lc_win_rate"], row["lc_low"], row["lc_high"]),
        "bt": value(row["bradley_terry"], row["bradley_terry_low"], row["bradley_terry_high"], digits=2),
        "length": count(number(row["mean_length"]) or 0.0),
        "verdict": None if row["control"] else verdict,
    }


def _judge_note(judge: Mapping[str, Any]) -> str:
    if judge["simulated"]:
        return (
            f"Win rates, length-controlled win rates and Bradley–Terry strengths come from {judge['label']}: "
            "programs that know "
            "the true facts and have a known bias towards length and a known rate of wrong labels. They test the "
            "instrument, "
            "not taste. Exactly right answers are counted against the facts and involve no judge."
        )
    return f"Win rates and Bradley–Terry strengths come from {judge['label']}, a language model."


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


def as_csv(board: Board, models: Mapping[str, Any]) -> str:
    """One line a model; numbers in full, empty where there is none."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in in_pipeline(board, models):
        writer.writerow(["" if row.get(name) is None else _cell(row[name]) for name in COLUMNS])
    return buffer.getvalue()


def _cell(cell: Any) -> str:
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    return f"{cell:.6g}" if isinstance(cell, float) else str(cell)


def as_markdown(board: Board, models: Mapping[str, Any], title: str) -> str:
    judged = "simulated annotators" if board["judge"]["simulated"] else board["judge"]["label"]
    lines = [
        f"# {title}: leaderboard",
        "",
        f"Win rate, length-controlled win rate and Bradley–Terry: {judged}, against `{board['baseline']}`. Exactly "
        "right: counted "
        "against the true facts. 95 % intervals in brackets.",
        "",
        "| # | Model | Exactly right, % | Win rate, % | Length-controlled, % | Bradley–Terry | Characters |",
        "|--:|---|--:|--:|--:|--:|--:|",
    ]
    for row in in_pipeline(board, models):
        name = f"{row['model']}{' (control)' if row['control'] else ''}{' (baseline)' if row['baseline'] else ''}"
        cells = [
            str(row.get("rank") or ""),
            f"**{name}**" if row.get("chosen") else name,
            _bracketed(row, "right", "right_low", "right_high"),
            _bracketed(row, "win_rate", "win_rate_low", "win_rate_high"),
            _bracketed(row, "lc_win_rate", "lc_low", "lc_high"),
            _bracketed(row, "bradley_terry", "bradley_terry_low", "bradley_terry_high", digits=2),
            f"{row['mean_length']:.0f}" if number(row["mean_length"]) is not None else "–",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _bracketed(row: Mapping[str, Any], mean: str, low: str, high: str, digits: int = 1) -> str:
    shown = value(row[mean], row[low], row[high], digits=digits)
    if shown is None:
        return "–"
    return f"{shown.text} ({shown.range})" if shown.range else shown.text
