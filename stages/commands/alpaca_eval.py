"""`trainyard judge` and `trainyard leaderboard`: AlpacaEval's files judged and ranked outside the pipeline."""

import argparse
import sys
from pathlib import Path

from stages.base.terminal import shown_json

SHOWN = 5
JUDGE = """\
example:
  trainyard judge mine.json --baseline gpt4.json --out annotations.json --max-cost 5
exit status 3: no comparison got a verdict
"""
BOARD = """\
example:
  trainyard leaderboard results/ --out board --human alice
"""


def register(subparsers: argparse._SubParsersAction) -> None:
    command = subparsers.add_parser(
        "judge", help="have one file of AlpacaEval outputs judged against another", epilog=JUDGE
    )
    add = command.add_argument
    add("outputs", type=Path, help="JSON list of {instruction, output, generator}")
    add("--baseline", type=Path, required=True, metavar="FILE", help="outputs to compare with, in the same format")
    add("--out", type=Path, required=True, metavar="FILE", help="annotations to write, in AlpacaEval's format")
    add("--max-cost", type=float, metavar="USD", help="instead of judging.judge.annotator.max_cost_usd")
    add("--json", action="store_true", help="what was judged and what it cost, as JSON")
    command.set_defaults(run=judge)

    command = subparsers.add_parser("leaderboard", help="rank models by AlpacaEval annotation files", epilog=BOARD)
    add = command.add_argument
    add("annotations", type=Path, nargs="+", help="annotations.json files, or folders that hold some")
    add("--out", type=Path, required=True, metavar="FOLDER", help="for leaderboard.html, .csv, .json, .md")
    add("--baseline", metavar="NAME", help="default: the most frequent generator_1")
    add("--annotator", metavar="NAME", help="of several judges, the one whose verdicts count")
    add("--difficulty", type=Path, metavar="CSV", help="instruction_index, instruction_difficulty")
    add("--gamed", type=Path, metavar="CSV", help="regularising rows, as AlpacaEval's df_gamed")
    add(
        "--align",
        choices=["evidence", "position"],
        default="evidence",
        help="position: both tables are in the order of the files; else a column `instruction` or the baseline's "
        "lengths (len_baseline) must show which row is whose",
    )
    add("--human", metavar="NAME", help="an annotator whose verdicts are right: they correct the judge's win rates")
    add("--arena", action="store_true", help="ratings over implied battles: slow for many models")
    add("--title", default="Leaderboard")
    add("--json", action="store_true", help="print leaderboard.json in place of a line")
    command.set_defaults(run=leaderboard)


def judge(options: argparse.Namespace) -> int:
    """Write AlpacaEval annotations, by `judging.judge.annotator`. Exit status 3 where no verdict came."""
    from stages.base.files import write_json
    from stages.base.params import lookup, parse, read_params
    from stages.judging.alpaca_eval.pairs import judge_files
    from stages.judging.judge import JudgeParams, judge_seed

    params = read_params()
    settings = parse("judging.judge", lookup(params, "judging.judge"), JudgeParams).annotator
    if options.max_cost is not None:
        settings = settings.model_copy(update={"max_cost_usd": options.max_cost})
    seed = judge_seed(lookup(params, "run.seed"))
    rows, problems = judge_files(options.outputs, options.baseline, settings, seed)
    write_json(options.out, rows)
    _tell(problems)
    spent = sum(row["price_per_example"] for row in rows)
    verdicts = sum(row["preference"] is not None for row in rows)
    if options.json:
        told = {"file": str(options.out), "comparisons": len(rows), "verdicts": verdicts, "judge": settings.model}
        print(shown_json({**told, "usd": spent, "problems": problems}))
    else:
        found = f"{len(rows)} comparisons by {settings.model}, {verdicts} with a verdict"
        print(f"{options.out}: {found}, ${spent:.4f} by its token counts")
    if verdicts == 0:
        print("trainyard: judge: no comparison got a verdict; the reasons are above", file=sys.stderr)
    return 0 if verdicts else 3


def leaderboard(options: argparse.Namespace) -> int:
    """Write leaderboard.csv, .json, .md and .html, and problems.txt with every row that could not be used."""
    from stages.base.contracts.leaderboard import COVERAGE
    from stages.base.files import atomic_path
    from stages.judging.alpaca_eval.board import Options, import_board
    from stages.publishing.html.page import render
    from stages.publishing.leaderboard.files import as_csv, as_json, as_markdown, published_rows
    from stages.publishing.leaderboard.table import imported_view

    chosen = Options(
        options.baseline,
        options.annotator,
        options.difficulty,
        options.gamed,
        options.align,
        options.human,
        options.arena,
    )
    board, problems = import_board(options.annotations, chosen)
    rows = published_rows(board)
    view = {"title": options.title, "board": imported_view(board)}
    texts = {
        "leaderboard.csv": as_csv(rows),
        "leaderboard.json": as_json(rows, board),
        "leaderboard.md": as_markdown(board, options.title),
        "leaderboard.html": render(view, "imported_leaderboard.html"),
        "problems.txt": "".join(f"{problem}\n" for problem in problems),
    }
    for name, text in texts.items():
        with atomic_path(options.out / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    _tell(problems)
    for note in board.notes:
        if note == COVERAGE:  # true of every table
            continue
        print(f"trainyard: {note}", file=sys.stderr)
    if options.json:
        print(texts["leaderboard.json"], end="")
        return 0
    told = f"{len(rows)} models against {board.baseline}, judged by {board.judge.label}"
    print(f"{options.out}/leaderboard.html: {told}")
    return 0


def _tell(problems: list[str]) -> None:
    for problem in problems[:SHOWN]:
        print(f"trainyard: {problem}", file=sys.stderr)
    if len(problems) > SHOWN:
        print(f"trainyard: and {len(problems) - SHOWN} more rows like these", file=sys.stderr)
