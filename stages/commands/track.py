"""`trainyard track`: ship to MLflow what it lacks."""

import argparse


def register(subparsers: argparse._SubParsersAction) -> None:
    command = subparsers.add_parser("track", help="ship what MLflow lacks", epilog="example:\n  trainyard track\n")
    command.set_defaults(run=run)


def run(_: argparse.Namespace) -> int:
    from stages.publishing.tracking.track import ship_now

    return ship_now()
