"""The `trainyard` command: assembled from `stages/commands/`, whose heavy imports wait until a subcommand runs."""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from stages.base.errors import TrainyardError
from stages.base.redaction import for_the_eye
from stages.base.terminal import one_line, print_in_any_encoding
from stages.commands import (
    alpaca_eval,
    bundle,
    chat,
    check,
    compare,
    configure,
    contaminate,
    cost,
    doctor,
    evaluate,
    experiment,
    explain,
    extend,
    inspect,
    publish,
    scaling,
    serve,
    trace,
    track,
    verify,
    where,
    why,
)

COMMANDS = (
    chat,
    serve,
    extend,
    trace,
    verify,
    bundle,
    publish,
    why,
    alpaca_eval,
    scaling,
    cost,
    doctor,
    configure,
    explain,
    inspect,
    evaluate,
    contaminate,
    check,
    experiment,
    compare,
    track,
    where,
)


class Parser(argparse.ArgumentParser):
    """Refuses an option that is given twice, of which argparse would take the last one in silence."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.given: set[str] = set()
        for name in (None, "store"):
            self.register("action", name, _Once)


class _Once(argparse._StoreAction):
    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        if option_string is not None and self.dest in parser.given:
            parser.error(f"{option_string} is given twice; give it once")
        parser.given.add(self.dest)
        super().__call__(parser, namespace, values, option_string)


def parser() -> argparse.ArgumentParser:
    top = Parser(prog="trainyard", description="From a raw crawl to a published leaderboard of assistants.")
    subparsers = top.add_subparsers(dest="command", required=True, metavar="command")
    for command in COMMANDS:
        command.register(subparsers)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    print_in_any_encoding()
    options = parser().parse_args(arguments)
    try:
        status = options.run(options)
        sys.stdout.flush()  # here, where a closed pipe is caught, and not at the interpreter's end
        return status
    except TrainyardError as error:
        print(one_line(for_the_eye(f"trainyard: {options.command}: {error}")), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output has gone; what is still buffered goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


if __name__ == "__main__":
    sys.exit(main())
