"""The leaderboard as CSV, JSON and Markdown."""

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from stages.base.contracts.leaderboard import Leaderboard, Row
from stages.publishing.html.numbers import value
from stages.publishing.leaderboard.table import TIER_WORDS, TIERS, TRAINED, coverage, position_note

# name → field of the contract's Row. The names that AlpacaEval's leaderboards have are AlpacaEval's.
COLUMNS = {
    **dict.fromkeys(("rank", "tier", "model", "kind", "control", "baseline", "chosen")),
    **dict.fromkeys(("win_rate", "standard_error", "n_wins", "n_wins_base", "n_draws", "n_total", "discrete_win_rate")),
    **dict.fromkeys(("discrete_win_rate_low", "discrete_win_rate_high")),
    "avg_length": "mean_length",
    "length_controlled_winrate": "lc_win_rate",
    "lc_standard_error": None,
    "win_rate_low": None,
    "win_rate_high": None,
    "length_controlled_winrate_low": "lc_low",
    "length_controlled_winrate_high": "lc_high",
    **dict.fromkeys(("corrected_win_rate", "corrected_low", "corrected_high", "n_truth")),
    **dict.fromkeys(("arena_rating", "arena_rating_low", "arena_rating_high")),
    **dict.fromkeys(("bradley_terry", "bradley_terry_low", "bradley_terry_high")),
    **dict.fromkeys(("right", "right_low", "right_high", "mean_score", "missing")),
    **dict.fromkeys(("prefers_first", "prefers_longer", "consistent")),
    **dict.fromkeys(("seeds", "seeds_metric", "seeds_mean", "seeds_low", "seeds_high")),
    **dict.fromkeys(("usd", "usd_per_1000", "seconds_per_1000")),
    **dict.fromkeys(("judge", "judge_simulated", "lineage")),
}
CONTROL, MARKUP, FORMULA = (
    re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]"),
    re.compile(r"[|\[\]<>`\\]"),
    ("=", "+", "-", "@"),
)


def published_rows(board: Leaderboard) -> list[dict[str, Any]]:
    """The rows of reports/leaderboard.csv and .json under the names of COLUMNS; None where there is no number.

    Each row says who judged it.
    """
    judged = {"judge": board.judge.label, "judge_simulated": board.judge.simulated}
    facts = [row.model_dump() | _over_seeds(row) | judged for row in board.rows]
    return [{name: row[field or name] for name, field in COLUMNS.items()} for row in facts]


def _over_seeds(row: Row) -> dict[str, Any]:
    """Trainings of the row's model, and its interval over seeds and questions where it was trained again."""
    again = row.reruns
    return {
        "seeds": again.n if again else 1,
        "seeds_metric": again.metric if again else None,
        "seeds_mean": again.mean if again else None,
        "seeds_low": again.low if again else None,
        "seeds_high": again.high if again else None,
    }


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line a model; numbers to six digits, empty where there is none."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow(["" if row[name] is None else _cell(row[name]) for name in COLUMNS])
    return buffer.getvalue()


def as_json(rows: Sequence[Mapping[str, Any]], board: Leaderboard) -> str:
    """The rows in full, with the judge, the comparisons, the correlations of columns and the notes."""
    parts = {"baseline", "judge", "tier_metric", "comparisons", "correlations", "notes"}
    content = {"rows": rows, **board.model_dump(mode="json", include=parts)}
    return json.dumps(content, sort_keys=True, indent=2, ensure_ascii=False) + "\n"


def _cell(cell: Any) -> str:
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, float):
        return f"{cell:.6g}"
    text = CONTROL.sub(" ", str(cell))
    return f"'{text}" if isinstance(cell, str) and text[:1] in FORMULA else text  # or a spreadsheet computes it


def _marked(name: str) -> str:
    """A name from outside as Markdown: what would end the cell, or begin a link or a tag, is only text."""
    return MARKUP.sub(r"\\\g<0>", CONTROL.sub(" ", name))


def as_markdown(board: Leaderboard, title: str) -> str:
    judged = "simulated annotators" if board.judge.simulated else board.judge.label
    has_right = any(row.right is not None for row in board.rows)
    told = [
        f"Win rate, length-controlled win rate and Bradley–Terry: {judged}, against `{board.baseline}`.",
        *([] if board.judge.simulated else position_note(board.rows)),
        *["Exactly right: counted against the true facts."] * has_right,
        "In brackets: 95 % intervals of these models; a rerun with another seed may differ by more.",
        *([TIERS.format(metric=TIER_WORDS[board.tier_metric])] if board.tier_metric else []),
    ]
    tiers = board.tier_metric is not None
    head = [
        "#",
        *["Tier"] * tiers,
        "Model",
        *["Exactly right, %"] * has_right,
        "Win rate, %",
        "Length-controlled, %",
        "Bradley–Terry",
    ]
    lines = [
        f"# {title}: leaderboard",
        "",
        " ".join(told),
        "",
        f"| {' | '.join([*head, 'Characters', *['Trainings'] * tiers])} |",
        f"|--:|{'--:|' * tiers}---|{'--:|' * (len(head) - 1 - tiers)}{'---|' * tiers}",
    ]
    for row in board.rows:
        name = f"{_marked(row.model)}{' (control)' if row.control else ''}{' (baseline)' if row.baseline else ''}"
        cells = [
            "–" if row.rank is None else str(row.rank),
            *["–" if row.tier is None else str(row.tier)] * tiers,
            f"**{name}**" if row.chosen else name,
            *[_bracketed(row, "right", "right_low", "right_high")] * has_right,
            _bracketed(row, "win_rate", "win_rate_low", "win_rate_high"),
            _bracketed(row, "lc_win_rate", "lc_low", "lc_high"),
            _bracketed(row, "bradley_terry", "bradley_terry_low", "bradley_terry_high", digits=2),
            "–" if row.mean_length is None else f"{row.mean_length:.0f}",
            *[coverage(row) if row.kind in TRAINED else "–"] * tiers,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _bracketed(row: Row, mean: str, low: str, high: str, digits: int = 1) -> str:
    shown = value(getattr(row, mean), getattr(row, low), getattr(row, high), digits=digits)
    if shown is None:
        return "–"
    return f"{shown.text} ({shown.range})" if shown.range else shown.text
