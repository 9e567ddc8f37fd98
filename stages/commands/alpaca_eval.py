"""`trainyard judge` and `trainyard leaderboard`: AlpacaEval's files judged and ranked outside the pipeline."""

import sys
from pathlib import Path

from stages.base.files import atomic_path, write_json
from stages.base.params import lookup, parse, read_params
from stages.judging.alpaca_eval.board import Options, import_board
from stages.judging.alpaca_eval.pairs import judge_files
from stages.judging.judge import JudgeParams, judge_seed
from stages.publishing.html.page import render
from stages.publishing.index.leaderboard import imported_view
from stages.publishing.index.leaderboard_files import as_csv, as_json, as_markdown, published_rows

SHOWN = 5


def judge(outputs: Path, baseline: Path, out: Path, max_cost: float | None) -> int:
    """Write AlpacaEval annotations, by the judge of `judging.judge.annotator`."""
    params = read_params()
    settings = parse("judging.judge", lookup(params, "judging.judge"), JudgeParams).annotator
    if max_cost is not None:
        settings = settings.model_copy(update={"max_cost_usd": max_cost})
    rows, problems = judge_files(outputs, baseline, settings, judge_seed(lookup(params, "run.seed")))
    write_json(out, rows)
    _tell(problems)
    spent = sum(row["price_per_example"] for row in rows)
    print(f"{out}: {len(rows)} comparisons by {settings.model}, ${spent:.4f} by its token counts")
    return 0


def leaderboard(paths: list[Path], out: Path, options: Options, title: str) -> int:
    """Write leaderboard.csv, .json, .md and .html, and problems.txt with every row that could not be used."""
    board, problems = import_board(paths, options)
    models = {row["model"]: {"kind": row["kind"], "source": ""} for row in board["rows"]}
    rows = published_rows(board, models, None)
    texts = {
        "leaderboard.csv": as_csv(rows),
        "leaderboard.json": as_json(rows, board),
        "leaderboard.md": as_markdown(board, models, title),
        "leaderboard.html": render({"title": title, "board": imported_view(board, models)}, "leaderboard_page.html"),
        "problems.txt": "".join(f"{problem}\n" for problem in problems),
    }
    for name, text in texts.items():
        with atomic_path(out / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    _tell(problems)
    print(
        f"{out}/leaderboard.html: {len(rows)} models against {board['baseline']}, judged by {board['judge']['label']}"
    )
    return 0


def _tell(problems: list[str]) -> None:
    for problem in problems[:SHOWN]:
        print(f"trainyard: {problem}", file=sys.stderr)
    if len(problems) > SHOWN:
        print(f"trainyard: and {len(problems) - SHOWN} more rows like these", file=sys.stderr)
