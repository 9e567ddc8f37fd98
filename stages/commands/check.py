"""`trainyard check`: the first stage's checks, without its files."""

import argparse


def register(subparsers: argparse._SubParsersAction) -> None:
    command = subparsers.add_parser("check", help="check params.yaml, the sources and the machine")
    command.set_defaults(run=run)


def run(_: argparse.Namespace) -> int:
    from stages.check import check

    check()
    print("params.yaml fits every stage; sources, disk and memory are enough")
    return 0
