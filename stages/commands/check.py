"""`trainyard check`: the first stage's checks, without its files."""

import argparse

from stages.base.errors import TrainyardError
from stages.base.terminal import shown_json


def register(subparsers: argparse._SubParsersAction) -> None:
    command = subparsers.add_parser(
        "check", help="check params.yaml, the sources and the machine", epilog="example:\n  trainyard check\n"
    )
    command.add_argument("--json", action="store_true", help="what is wrong, as JSON")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from stages.check import check

    try:
        check()
    except TrainyardError as error:
        if not options.json:
            raise
        print(shown_json({"fits": False, "problem": str(error)}))
        return 2
    fits = "params.yaml fits every stage; sources, disk and memory are enough"
    print(shown_json({"fits": True, "problem": None}) if options.json else fits)
    return 0
