"""`trainyard completion SHELL`: a script that lets the shell complete subcommands, options and the names of this
project: models, stages, params, rows, tasks, claims.

The script asks `trainyard completion --line LINE` at every tab, so that it never goes stale.
"""

import argparse
import json
import shlex
from collections.abc import Callable, Iterable
from pathlib import Path

BASH = r"""_trainyard() {
    local line="${COMP_LINE:0:COMP_POINT}" IFS=$'\n'
    local word="${line##*[[:space:]]}" here="${COMP_WORDS[COMP_CWORD]}"
    case "$here" in [@:=]) here="" ;; esac
    COMPREPLY=($(trainyard completion --line "$line" 2>/dev/null))
    # Readline breaks words at @, : and = too: what stands before the last of them stays as it is.
    local before="${word%"$here"}"
    COMPREPLY=("${COMPREPLY[@]#"$before"}")
    [[ ${#COMPREPLY[@]} -eq 1 && "${COMPREPLY[0]}" == *[.=] ]] && compopt -o nospace
}
complete -o default -F _trainyard trainyard
"""
ZSH = r"""#compdef trainyard
_trainyard() {
    local -a found
    found=("${(@f)$(trainyard completion --line "$LBUFFER" 2>/dev/null)}")
    if [[ -n "${found[1]}" ]]; then compadd -Q -- "${found[@]}"; else _files; fi
}
compdef _trainyard trainyard
"""
FISH = r"""function __trainyard_candidates
    set -l found (trainyard completion --line (commandline -cp) 2>/dev/null)
    if test (count $found) -gt 0
        printf '%s\n' $found
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c trainyard -f -a '(__trainyard_candidates)'
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}
EXAMPLE = """\
examples:
  trainyard completion bash > ~/.local/share/bash-completion/completions/trainyard
  trainyard completion zsh > ~/.zfunc/_trainyard  # a folder of $fpath
  trainyard completion fish > ~/.config/fish/completions/trainyard.fish
"""


def register(subparsers: argparse._SubParsersAction) -> None:
    command = subparsers.add_parser(
        "completion", help="a script by which the shell completes commands, options and names", epilog=EXAMPLE
    )
    command.add_argument("shell", nargs="?", choices=sorted(SCRIPTS), help="bash, fish or zsh")
    command.add_argument("--line", metavar="TEXT", help="print what may end this command line, as the scripts ask")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from stages.base.errors import ParamError

    if (options.shell is None) == (options.line is None):
        raise ParamError(f"name a shell: {', '.join(sorted(SCRIPTS))}")
    if options.shell is not None:
        print(SCRIPTS[options.shell], end="")
        return 0
    from stages.cli import parser

    for candidate in candidates(options.line, parser()):
        print(candidate)
    return 0


# ------------------------------------------------------------------------------------------------ names of a project


def _models() -> Iterable[str]:
    return (path.parent.name for path in Path("data/models").glob("*/config.json"))


def _rows() -> Iterable[str]:
    board = Path("reports/leaderboard.json")
    return (row["model"] for row in json.loads(board.read_bytes())["rows"]) if board.is_file() else ()


def _stages() -> Iterable[str]:
    from stages.base.pipeline import read_pipeline

    labels = [stage.label for stage in read_pipeline()]
    return [*labels, *{label.partition("@")[0] for label in labels}]


def _params() -> dict[str, bool]:
    """Dotted name → whether a single value stands there."""
    from stages.base.params import read_params

    found: dict[str, bool] = {}

    def walk(value: object, name: str) -> None:
        if name:
            found[name] = not isinstance(value, dict)
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(inner, f"{name}.{key}" if name else str(key))

    walk(read_params(), "")
    return found


def _settings() -> Iterable[str]:
    scales = sorted(path.stem for path in Path("scales").glob("*.yaml"))
    return [*scales, *(f"{name}=" for name, single in _params().items() if single)]


def _tasks() -> Iterable[str]:
    from stages.base.params import lookup, read_params

    return lookup(read_params(), "evaluation.tasks")


def _claims() -> Iterable[str]:
    return (path.stem for path in Path("experiments").glob("*.yaml"))


def _claim_files() -> Iterable[str]:
    return (str(path) for path in Path("experiments").glob("*.yaml"))


def _devices() -> Iterable[str]:
    from stages.lm.accelerators import ACCELERATORS

    return ACCELERATORS


# What an argument names, by the command and the argument's `dest`; where nothing is said, the shell completes files.
NAMES: dict[tuple[str, str], Callable[[], Iterable[str]]] = {
    ("chat", "model"): _models,
    ("serve", "models"): _models,
    ("extend", "model"): _models,
    ("evaluate", "models"): _models,
    ("evaluate", "tasks"): _tasks,
    ("contaminate", "tasks"): _tasks,
    ("trace", "row"): _rows,
    ("bundle", "row"): _rows,
    ("why", "stage"): _stages,
    ("explain", "name"): _params,
    ("configure", "words"): _settings,
    ("cost", "device"): _devices,
    ("experiment report", "names"): _claims,
    ("experiment check", "files"): _claim_files,
    ("experiment run", "files"): _claim_files,
    ("experiment list", "files"): _claim_files,
    ("experiment checkout", "claim"): _claim_files,
    ("experiment reruns", "file"): _claim_files,
}

# ------------------------------------------------------------------------------------------------ a command line


def candidates(line: str, parser: argparse.ArgumentParser) -> list[str]:
    """What may stand at the end of a command line, sorted; of params as far as the next dot."""
    words = _split(line)[1:]
    if not words:
        return []
    word, before = words[-1], words[:-1]
    here, expects = parser, None
    positionals = _positionals(here)
    values = 0  # of `expects`, an option
    for one in before:
        option = here._option_string_actions.get(one.partition("=")[0])
        if option is not None:
            expects, values = (None if option.nargs == 0 or "=" in one else option), 0
        elif expects is not None:
            values += 1
            expects = expects if _takes_more(expects, values) else None
        elif positionals and isinstance(positionals[0], argparse._SubParsersAction):
            if one not in positionals[0].choices:
                return []
            here = positionals[0].choices[one]
            positionals = _positionals(here)
        elif positionals and not _takes_more(positionals[0], 1):
            positionals.pop(0)
    if expects is not None and not (word.startswith("-") and values):
        return _names(expects, here, word)
    if word.startswith("-"):
        option = here._option_string_actions.get(word.partition("=")[0])
        if "=" in word and option is not None:
            name, _, value = word.partition("=")
            return [f"{name}={one}" for one in _names(option, here, value)]
        return sorted(one for one in here._option_string_actions if one.startswith(word))
    return _names(positionals[0], here, word) if positionals else []


def _split(line: str) -> list[str]:
    """Words as a shell reads them, the last one as far as it goes, which may be within quotes."""
    for end in ("", "'", '"'):
        try:
            words = shlex.split(line + end)
        except ValueError:
            continue
        return [*words, ""] if line[-1:].isspace() and not end else words
    return []


def _positionals(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [action for action in parser._actions if not action.option_strings]


def _takes_more(action: argparse.Action, values: int) -> bool:
    return action.nargs in ("*", "+") or (isinstance(action.nargs, int) and values < action.nargs)


def _names(action: argparse.Action, parser: argparse.ArgumentParser, word: str) -> list[str]:
    source = NAMES.get((parser.prog.partition(" ")[2], action.dest))
    if action.choices is not None:
        known: Iterable[str] = [str(one) for one in action.choices]
    elif source is not None:
        try:
            known = list(source())
        except Exception:  # a broken file of the project is for the command to tell of
            known = []
    else:
        return []
    first, comma, last = word.rpartition(",")  # `--tasks a,b`
    listed = {f"{first}{comma}{one}" for one in known if one.startswith(last)}
    return _to_the_dot(sorted(listed), word) if source in (_params, _settings) else sorted(listed)


def _to_the_dot(names: list[str], word: str) -> list[str]:
    """The 1,000 names of params one level at a time: `corpus.` before `corpus.dedup.`; at the end what is whole."""
    found = set()
    for name in names:
        dot = name.find(".", len(word))
        found.add(name if dot < 0 else name[: dot + 1])
    return sorted(one for one in found if f"{one}." not in found)
