"""The `trainyard` command: assembled from `stages/commands/`, whose heavy imports wait until a subcommand runs."""

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from stages.base.errors import TrainyardError
from stages.base.redaction import for_the_eye
from stages.base.terminal import one_line, print_in_any_encoding
from stages.commands import (
    alpaca_eval,
    bundle,
    chat,
    check,
    compare,
    completion,
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
    completion,
)


EPILOG = """\
exit status: 0 done; 1 the answer is no; 2 an error in what was given; 3 undecided (docs/cli.md)
`trainyard COMMAND --help` shows a command's options with examples; `trainyard completion bash` completes names
"""


class Help(argparse.HelpFormatter):
    """Wraps descriptions, and leaves texts of several lines, such as examples, as they stand."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n" not in text:
            return super()._fill_text(text, width, indent)
        return "".join(f"{indent}{line}" for line in text.splitlines(keepends=True))


class Parser(argparse.ArgumentParser):
    """Tells of a mistake in one line with the nearest name, and refuses an option that is given twice, of which
    argparse would take the last one in silence."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **{"formatter_class": Help, **settings})
        self.given: set[str] = set()
        for name in (None, "store"):
            self.register("action", name, _Once)

    def error(self, message: str) -> NoReturn:
        subject = ": ".join([*self.prog.split(" ", 1), message])
        self.exit(2, f"{one_line(for_the_eye(subject))} (`{self.prog} --help` shows the usage)\n")

    def _print_message(self, message: str, file: Any = None) -> None:
        """As argparse does it, which keeps quiet about a reader that has gone."""
        (file or sys.stderr).write(message)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            from stages.base.params import nearest

            name = "/".join(action.option_strings) or action.metavar or action.dest
            self.error(f"no {name} `{value}`{nearest(str(value), [str(one) for one in action.choices])}")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As a subcommand's parser too it refuses what it doesn't know, so that the message is its own."""
        self.given.clear()
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            from stages.base.params import nearest

            word = unknown[0].partition("=")[0]
            if word.startswith("-"):
                self.error(f"no option `{word}`{nearest(word, list(self._option_string_actions))}")
            self.error(f"`{unknown[0]}` is one argument too many")
        return found, unknown


class _Once(argparse._StoreAction):
    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        if option_string is not None and self.dest in parser.given:
            parser.error(f"{option_string} is given twice; give it once")
        parser.given.add(self.dest)
        super().__call__(parser, namespace, values, option_string)


def parser() -> argparse.ArgumentParser:
    top = Parser(
        prog="trainyard", description="From a raw crawl to a published leaderboard of assistants.", epilog=EPILOG
    )
    subparsers = top.add_subparsers(dest="command", required=True, metavar="command")
    for command in COMMANDS:
        command.register(subparsers)
    _describe(subparsers)
    return top


def _describe(subparsers: argparse._SubParsersAction) -> None:
    """A command's own help page says what the list of commands says of it."""
    for listed in subparsers._choices_actions:
        command = subparsers.choices[listed.dest]
        command.description = command.description or listed.help
        for action in command._actions:
            if isinstance(action, argparse._SubParsersAction):
                _describe(action)


def main(arguments: Sequence[str] | None = None) -> int:
    print_in_any_encoding()
    name = ""
    try:
        try:
            options = parser().parse_args(arguments)
            name = f"{options.command}: "
            status = options.run(options)
        except SystemExit:  # after a page of help
            sys.stdout.flush()
            raise
        sys.stdout.flush()  # here, where a closed pipe is caught, and not at the interpreter's end
        return status
    except TrainyardError as error:
        print(one_line(for_the_eye(f"trainyard: {name}{error}")), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        if sys.stderr.isatty():
            print(file=sys.stderr)  # the shell's prompt stands below `^C`
        return 130
    except BrokenPipeError:
        _drop_output()
        return 141
    except OSError as error:
        if error.filename is None and error.errno != errno.ENOSPC:
            raise
        if error.filename is None:
            _drop_output()
        where = f"{error.filename}: " if error.filename is not None else ""
        print(one_line(for_the_eye(f"trainyard: {name}{where}{error.strerror}")), file=sys.stderr)
        return 2


def _drop_output() -> None:
    """What is still buffered of an output whose reader has gone, or whose disk is full, goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
