"""`trainyard publish`: the whole site in one folder, for GitHub Pages or any web server; or a summary of changes."""

import argparse
import csv
import io
import re
import sys
from pathlib import Path

from stages.base.errors import InputError

EXAMPLE = """\
examples:
  trainyard publish site
  trainyard publish site --owner my-name  # cards name each other as on the Hub
  trainyard publish --summary origin/main  # Markdown for a pull request
"""
BOARD = "reports/leaderboard.csv"
OWNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")


def register(subparsers: argparse._SubParsersAction) -> None:
    command = subparsers.add_parser(
        "publish", help="write all pages, cards and chains as one site, or sum up what changed", epilog=EXAMPLE
    )
    add = command.add_argument
    add("folder", nargs="?", type=Path, help="of the site: a new one, or one that this command wrote")
    add("--owner", default="", metavar="NAME", help="namespace on the Hugging Face Hub, in the cards")
    add("--summary", metavar="A", help="print Markdown: what this folder's run changes against A (as of `compare`)")
    add("--json", action="store_true", help="what was written, as JSON")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    if options.folder is None and options.summary is None:
        raise InputError("name the folder of the site, or `--summary A` (`trainyard publish --help`)")
    if options.owner and not OWNER.fullmatch(options.owner):
        raise InputError(f"--owner `{options.owner}`: not a name of the Hub; letters, digits, dots, dashes")
    if options.folder is not None:
        _site(options.folder, options.owner, options.json)
    if options.summary is not None:
        print(_summary(options.summary), end="")
    return 0


def _site(folder: Path, owner: str, as_json: bool) -> None:
    from stages.base.terminal import shown_json
    from stages.publishing.lineage.project import Project
    from stages.publishing.site.site import COUNTED, publish

    site = publish(Project(), folder, owner)
    if as_json:
        print(shown_json({"folder": str(folder), "bytes": site.size, "files": site.files, "unchecked": site.unchecked}))
        return
    print(f"{folder}: {len(site.files)} files, {site.size / 1e6:.2f} MB")
    if site.size > COUNTED:
        print(f"more than {COUNTED / 1e6:g} MB; the largest: {', '.join(site.big()[:6])}")
    for line in site.unchecked:
        print(line, file=sys.stderr)


def _summary(against: str) -> str:
    from stages.commands.compare import compare
    from stages.experiment.sides import read_side
    from stages.publishing.site.comparison import summary_markdown
    from stages.sections import Sections

    def schema() -> dict[str, object]:
        return Sections().schema

    compared = compare(read_side(against, schema), read_side(".", schema))
    return summary_markdown(compared, _tiers(against))


def _tiers(against: str) -> dict[str, tuple[str, str]]:
    """Model → tier there and here, of those whose leaderboards can be read."""
    from stages.base.store import git

    if (Path(against) / BOARD).is_file():
        there = (Path(against) / BOARD).read_text(encoding="utf-8")
    else:
        there = git("show", f"{against}:./{BOARD}", "--")
    here = Path(BOARD).read_text(encoding="utf-8") if Path(BOARD).is_file() else ""
    old, new = (
        {row["model"]: row.get("tier") or "" for row in csv.DictReader(io.StringIO(text)) if row.get("model")}
        for text in (there, here)
    )
    if not old or not new:
        return {}
    return {model: (old.get(model, ""), new.get(model, "")) for model in dict.fromkeys([*old, *new])}
