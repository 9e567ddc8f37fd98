"""`trainyard where`: the pages that were made, and how to open MLflow."""

import argparse
from pathlib import Path

PAGES = ("index", "leaderboard", "training", "evaluation", "scaling", "corpus", "tokenizer")


def register(subparsers: argparse._SubParsersAction) -> None:
    command = subparsers.add_parser("where", help="where the pages are and how to open MLflow")
    command.set_defaults(run=run)


def run(_: argparse.Namespace) -> int:
    """Exit status 1 where no page has been made."""
    from stages.publishing.tracking.store import open_line

    made = [path for name in PAGES if (path := Path(f"reports/{name}.html")).exists()]
    for path in made:
        print(f"{path.stem}: {path.resolve()}")
    if not made:
        print("no page has been made yet; run `dvc repro`")
    print(open_line())
    return 0 if made else 1
