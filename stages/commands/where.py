"""`trainyard where`: the pages that were made, and how to open MLflow at this pipeline."""

import argparse
from pathlib import Path

CODE = Path(__file__).resolve().parents[1]
PAGES = ("index", "leaderboard", "alignment", "training", "evaluation", "scaling", "corpus", "tokenizer", "claims")


def register(subparsers: argparse._SubParsersAction) -> None:
    command = subparsers.add_parser("where", help="where the pages are and how to open MLflow")
    command.set_defaults(run=run)


def run(_: argparse.Namespace) -> int:
    """Exit status 1 where no page has been made."""
    from stages.base.params import PARAMS_FILE
    from stages.publishing.tracking.shipping import pipeline_fingerprint
    from stages.publishing.tracking.store import open_line, settle_in

    made = [path for name in PAGES if (path := Path(f"reports/{name}.html")).exists()]
    for path in made:
        print(f"{path.stem}: {path.resolve()}")
    if not made:
        print("no page has been made yet; run `dvc repro`")
    settle_in()
    print(open_line(pipeline_fingerprint(CODE) if PARAMS_FILE.exists() else None))
    return 0 if made else 1
