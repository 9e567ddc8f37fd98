"""`trainyard verify [REPORT|FOLDER|BUNDLE]`: hash again everything that a published page claims, recompute the
leaderboard and its files from the verdicts, and say what couldn't be checked.

Exit status 1 where anything contradicts. What isn't here (weights on another machine, a pruned cache) is listed.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.base.errors import InputError
from stages.base.terminal import one_line, shown_json

if TYPE_CHECKING:
    from stages.publishing.lineage.audit import Audit
    from stages.publishing.lineage.chain import Finding, Node
    from stages.publishing.lineage.project import Project
    from stages.publishing.lineage.records import Record

REPORTS = "reports"
EXAMPLE = """\
examples:
  trainyard verify reports/leaderboard.html
  trainyard verify sft.bundle --key their_key.pub  # of a file from elsewhere
"""


def register(subparsers: argparse._SubParsersAction) -> None:
    command = subparsers.add_parser(
        "verify",
        help="hash again everything that a published page claims, and recompute its numbers",
        epilog=EXAMPLE,
    )
    add = command.add_argument
    add("target", nargs="?", help="a page of reports/, a folder of a stage or a project, or a bundle; all of reports/")
    add("--key", type=Path, metavar="PUB", help="of a bundle: the public key (PEM, Ed25519) that must have signed it")
    add("--json", action="store_true", help="everything that was found, as JSON")
    command.set_defaults(run=run)


def audit_project(project: "Project", target: str | None = None) -> "tuple[Audit, list[str]]":
    """Check what a page, or all of them, stands on; and what was recomputed, in words.

    target: a path of the project that a stage wrote, or a folder with such. Raises InputError for any other.
    """
    from stages.base.params import nearest
    from stages.publishing.claims.record import audit_claims, of_claims
    from stages.publishing.lineage.audit import Audit, audit_chain, readable_records, uncommitted
    from stages.publishing.lineage.chain import walk
    from stages.publishing.lineage.records import Graph

    audit = Audit()
    if target is not None and of_claims(target):
        audit_claims(project, audit, target)
        return audit, []
    records = readable_records(project, audit)
    graph = Graph(records)
    starts = _writers(records, target or REPORTS)
    if not starts and (target or not audit.wrong):
        known = sorted({path for record in records for path in record.outputs if path.startswith(f"{REPORTS}/")})
        reason = f"{_no_bundle(project.root / target)}, and " if target else ""
        raise InputError(
            f"{target or REPORTS}: {reason}no record says who wrote it{nearest(target or REPORTS, known)}"
            if records or target
            else "no record below data/; run the pipeline (`dvc repro`), or name a bundle"
        )
    nodes, broken = walk(starts, graph)
    audit.add(broken)
    audit_chain(nodes, graph, project, audit, code=not project.sealed)
    recomputed = _numbers(nodes, project, audit)
    if not project.sealed:
        audit.unchecked += uncommitted(project)
    if target is None:
        of_a_claim = set() if project.sealed else audit_claims(project, audit)
        audit.unchecked += _unrecorded(records, of_a_claim, project)
    return audit, recomputed


def _writers(records: "list[Record]", target: str) -> "list[Record]":
    """The stages that wrote a file, or anything in a folder."""
    return [
        record
        for record in records
        if any(path == target or path.startswith(f"{target}/") for path in record.outputs)
        or record.path.as_posix().endswith(f"{target}/record.json")
    ]


def _unrecorded(records: "list[Record]", known: set[str], project: "Project") -> "list[Finding]":
    from stages.publishing.lineage.chain import Finding

    written = known | {path for record in records for path in record.outputs}
    found = sorted(
        file.relative_to(project.root).as_posix() for file in (project.root / REPORTS).rglob("*") if file.is_file()
    )
    return [Finding(path, "no stage wrote it, so that no record speaks of it") for path in found if path not in written]


def _numbers(nodes: "dict[str, Node]", project: "Project", audit: "Audit") -> list[str]:
    """Recompute the leaderboard from the verdicts, and the published files from the leaderboard."""
    from stages.base.record import StageRun
    from stages.judging.leaderboard import LeaderboardParams, judged_board
    from stages.publishing.board import BoardParams, publish_board
    from stages.publishing.lineage.chain import BOARD, LEADERBOARD
    from stages.publishing.lineage.published import edited_cells
    from stages.publishing.lineage.recompute import recompute

    def write_board(run: StageRun[Any]) -> None:
        run.write_contract("leaderboard.json", judged_board(run))

    light: list[tuple[str, Any, str | None, Callable[[StageRun[Any]], None]]] = [
        (LEADERBOARD, LeaderboardParams, None, write_board),
        (BOARD, BoardParams, "run.seed", publish_board),
    ]
    told = []
    for label, model, seed, compute in light:
        if label not in nodes:
            continue
        if label == BOARD:
            audit.add(edited_cells(project))
        if agreed := recompute(nodes[label].record, model, seed, compute, project, audit):
            told.append(f"{label} ({agreed} files agree)" if agreed > 1 else f"{label} (its file agrees)")
    return told


def run(options: argparse.Namespace) -> int:
    """Exit status 1 where anything contradicts."""
    from stages.publishing.lineage.bundle.archive import BundleError, is_bundle
    from stages.publishing.lineage.project import Project

    signed: str | None = None
    target = options.target
    if target is not None and Path(target).is_file() and is_bundle(Path(target)):
        from stages.publishing.lineage.bundle.opened import opened

        try:
            with opened(Path(target), options.key) as (project, signature):
                audit, recomputed = audit_project(project)
                signed = signature
        except BundleError as error:
            print(one_line(f"trainyard: verify: {error}"), file=sys.stderr)
            return 1
    elif options.key is not None:
        raise InputError(f"--key is for bundles; {target or REPORTS}: {_no_bundle(Path(target or REPORTS))}")
    elif target is not None and Path(target, "dvc.yaml").is_file():
        audit, recomputed = audit_project(Project(Path(target)))
    else:
        audit, recomputed = audit_project(Project(), _inside(target) if target is not None else None)
    if options.json:
        print(shown_json(_as_json(target or REPORTS, audit, recomputed, signed)))
    else:
        for line in _lines(target or REPORTS, audit, recomputed, signed):
            print(one_line(line))
    if audit.wrong:
        print(f"trainyard: verify: {len(audit.wrong)} contradictions", file=sys.stderr)
    return 1 if audit.wrong else 0


def _inside(target: str) -> str:
    """A path as records have it. Raises InputError for one that leads elsewhere."""
    path, here = Path(target).absolute(), Path.cwd()
    if not path.is_relative_to(here):
        raise InputError(f"{target}: {_no_bundle(path)}; nor is it in this project, or a project of its own")
    return path.relative_to(here).as_posix()


COMPRESSED = {
    b"\x1f\x8b": "gunzip",
    b"BZh": "bunzip2",
    b"\xfd7zXZ\0": "unxz",
    b"(\xb5/\xfd": "unzstd",
    b"PK\3\4": "unzip",
}


def _no_bundle(path: Path) -> str:
    """Why a path isn't one."""
    if path.is_dir():
        return "a folder and not a bundle"
    if not path.exists():
        return "no such file"
    try:
        with path.open("rb") as handle:
            start = handle.read(6)
    except OSError as error:
        return f"can't be read: {error.strerror}"
    remedy = next((tool for magic, tool in COMPRESSED.items() if start.startswith(magic)), None)
    return f"compressed: a bundle is a plain tar archive (`{remedy}` it first)" if remedy else "not a bundle"


def _lines(target: str, audit: "Audit", recomputed: list[str], signed: str | None) -> list[str]:
    lines = [f"{target}: {audit.summary}"]
    lines += [signed] if signed else []
    lines += [f"recomputed: {', '.join(recomputed)}"] if recomputed else []
    return lines + audit.unchecked_lines() + [f"wrong: {one}" for one in audit.wrong]


def _as_json(target: str, audit: "Audit", recomputed: list[str], signed: str | None) -> dict[str, Any]:
    return {
        "target": target,
        "stages": audit.stages,
        "files": audit.files,
        "recomputed": recomputed,
        "signature": signed,
        "wrong": [asdict(one) for one in audit.wrong],
        "unchecked": [asdict(one) for one in audit.unchecked],
    }
