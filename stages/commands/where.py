"""`trainyard where`: the pages that were made, and how to open MLflow at this pipeline."""

import argparse
from pathlib import Path

from stages.base.terminal import shown_json

CODE = Path(__file__).resolve().parents[1]
EXAMPLE = "example:\n  trainyard where --json\n"
PAGES = ("index", "leaderboard", "alignment", "training", "evaluation", "scaling", "corpus", "tokenizer", "claims")


def register(subparsers: argparse._SubParsersAction) -> None:
    command = subparsers.add_parser("where", help="where the pages are and how to open MLflow", epilog=EXAMPLE)
    command.add_argument("--json", action="store_true", help="the pages and the command, as JSON")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Exit status 1 where no page has been made."""
    from stages.base.params import PARAMS_FILE
    from stages.publishing.tracking.shipping import pipeline_fingerprint
    from stages.publishing.tracking.store import open_line, settle_in

    made = [path for name in PAGES if (path := Path(f"reports/{name}.html")).exists()]
    settle_in()
    mlflow = open_line(pipeline_fingerprint(CODE) if PARAMS_FILE.exists() else None)
    if options.json:
        print(shown_json({"pages": {path.stem: str(path.resolve()) for path in made}, "mlflow": mlflow}))
        return 0 if made else 1
    for path in made:
        print(f"{path.stem}: {path.resolve()}")
    print(*["no page has been made yet; run `dvc repro`"] * (not made), mlflow, sep="\n")
    return 0 if made else 1
