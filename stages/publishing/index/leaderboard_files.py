"""The leaderboard as CSV, JSON and Markdown."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from stages.publishing.html.numbers import number, value
from stages.publishing.index.leaderboard import Board, contamination, in_pipeline

# name → key in leaderboard.json. The names that AlpacaEval's leaderboards have are AlpacaEval's.
COLUMNS = {
    **dict.fromkeys(("rank", "model", "kind", "control", "baseline", "chosen")),
    **dict.fromkeys(("win_rate", "standard_error", "n_wins", "n_wins_base", "n_draws", "n_total", "discrete_win_rate")),
    "avg_length": "mean_length",
    "length_controlled_winrate": "lc_win_rate",
    "lc_standard_error": None,
    "win_rate_low": None,
    "win_rate_high": None,
    "length_controlled_winrate_low": "lc_low",
    "length_controlled_winrate_high": "lc_high",
    **dict.fromkeys(("arena_rating", "arena_rating_low", "arena_rating_high")),
    **dict.fromkeys(("bradley_terry", "bradley_terry_low", "bradley_terry_high")),
    **dict.fromkeys(("right", "right_low", "right_high", "mean_score", "missing", "prefers_first")),
    **dict.fromkeys(("usd", "usd_per_1000", "seconds_per_1000")),
    **dict.fromkeys(("judge", "judge_simulated", "contamination", "lineage")),
}


def published_rows(
    board: Board, models: Mapping[str, Mapping[str, Any]], verdict: Mapping[str, str] | None
) -> list[dict[str, Any]]:
    """The rows of reports/leaderboard.csv and .json under the names of COLUMNS; None where there is no number.

    Each row says who judged it. verdict: of the contamination checks, for models that this pipeline has trained.
    """
    rows = []
    for row in in_pipeline(board, models):
        facts = row | {
            "judge": board["judge"]["label"],
            "judge_simulated": board["judge"]["simulated"],
            "contamination": contamination(row, models[row["model"]], verdict),
        }
        rows.append({name: _finite(facts.get(key or name)) for name, key in COLUMNS.items()})
    return rows


def _finite(value: Any) -> Any:
    """None for NaN, which neither CSV nor JSON can hold."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and number(value) is None else value


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line a model; numbers to six digits, empty where there is none."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow(["" if row[name] is None else _cell(row[name]) for name in COLUMNS])
    return buffer.getvalue()


def as_json(rows: Sequence[Mapping[str, Any]], board: Board) -> str:
    """The rows in full, with the judge, the comparisons, the correlations of columns and the notes."""
    content = {
        "baseline": board["baseline"],
        "judge": board["judge"],
        "rows": rows,
        **{name: board[name] for name in ("comparisons", "correlations", "notes")},
    }
    return json.dumps(_finite(content), sort_keys=True, indent=2, ensure_ascii=False) + "\n"


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
