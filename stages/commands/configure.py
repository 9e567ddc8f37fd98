"""`trainyard configure`: params.yaml for a scale, composed, checked and compared with the one that is there."""

import argparse
from pathlib import Path
from typing import Any

from stages.base.terminal import shown_json

EXAMPLE = """\
examples:
  trainyard configure tiny  # shows what would change
  trainyard configure laptop corpus.dedup.jaccard=0.7 run.seed=3 --write
"""


def register(subparsers: argparse._SubParsersAction) -> None:
    command = subparsers.add_parser(
        "configure",
        help="compose params.yaml for a scale and show what would change",
        usage="trainyard configure [SCALE ...] [KEY=VALUE ...] [--write] [--json]",
        epilog=EXAMPLE,
    )
    scales = ", ".join(sorted(path.stem for path in Path("scales").glob("*.yaml")))
    command.add_argument(
        "words",
        nargs="*",
        metavar="SCALE, KEY=VALUE",
        help=f"scales, each laid over the one before ({scales or 'files of scales/'}; without any, params.yaml as it "
        "is), and values: corpus.dedup.jaccard=0.8; KEY=null removes an item",
    )
    command.add_argument("--write", action="store_true", help="write params.yaml")
    command.add_argument("--json", action="store_true", help="old and new value of each that changes, as JSON")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from stages.base.errors import ParamError
    from stages.base.files import atomic_path
    from stages.base.params import PARAMS_FILE, read_params
    from stages.base.reference import params_schema
    from stages.base.scales import changes, compose, render
    from stages.check import check_values, declared_sections

    scales = [word for word in options.words if "=" not in word]
    settings = [word for word in options.words if "=" in word]
    base, values = compose(scales, settings, params_schema(declared_sections()))
    try:
        check_values(values)
    except ParamError as error:
        hint = "; give what is missing as KEY=VALUE" if "is missing" in str(error) else ""
        raise ParamError(str(error).replace(f"{PARAMS_FILE}: ", "") + hint) from None
    text = render(base, values)
    try:
        old = read_params()
    except ParamError:
        if PARAMS_FILE.exists():
            raise
        old = {}
    if options.write:
        with atomic_path(PARAMS_FILE) as temporary:
            temporary.write_text(text, encoding="utf-8")
    lines = changes(old, values)
    if options.json:
        print(shown_json({"changes": _changed(old, values), "written": options.write}))
        return 0
    print("\n".join(lines) if lines else f"{PARAMS_FILE}: the same values")
    if options.write:
        print(f"{PARAMS_FILE}: written")
    elif lines:
        print(f"{PARAMS_FILE} is as it was: {len(lines)} values would change; write it with --write")
    return 0


def _changed(old: dict[str, Any], new: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Dotted name → `old` and `new`; an added value has no `old`, a removed one no `new`."""
    from stages.base.scales import leaves

    before, after = dict(leaves(old)), dict(leaves(new))
    pairs = {
        name: {when: values[name] for when, values in (("old", before), ("new", after)) if name in values}
        for name in dict.fromkeys([*before, *after])
    }
    return {name: pair for name, pair in pairs.items() if len(pair) == 1 or pair["old"] != pair["new"]}
