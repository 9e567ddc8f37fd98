"""What a bundle holds: all records behind the board, what they are checked against, and what its numbers are made of.

Not the corpus and not the weights: of those the records hold the hashes, which chain down to the sources.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.base.artifacts import JUDGED, LEADERBOARD, MODELS, RESPONSES
from stages.base.errors import InputError
from stages.base.files import read_json
from stages.base.store import git
from stages.publishing.lineage.bundle.archive import PROJECT
from stages.publishing.lineage.chain import BOARD, Node
from stages.publishing.lineage.chain import LEADERBOARD as LEADERBOARD_STAGE
from stages.publishing.lineage.project import CODE, Project

BESIDE = ("params.yaml", "dvc.lock", "dvc.yaml")


def project_files(row: str, nodes: Mapping[str, Node], project: Project, weights: bool) -> dict[str, Path]:
    """Path in the project → file. Raises InputError for what isn't here and can't be left out."""
    records = [node.record for node in nodes.values()]
    light = [one for one in records if one.label in (LEADERBOARD_STAGE, BOARD)]
    wanted = [path for record in light for path in (*record.inputs, *record.outputs)]
    wanted += [f"{JUDGED}/{row}", f"{RESPONSES}/{row}"]
    wanted += [f"{CODE}/{stage}.json" for stage in sorted({record.stage for record in records})]
    if weights:
        if not (project.root / MODELS / row).is_dir():
            raise InputError(f"`{row}` has no weights below {MODELS}; leave --weights out")
        wanted.append(f"{MODELS}/{row}")
    found = {path: project.root / path for path in BESIDE if (project.root / path).is_file()}
    found |= {record.path.relative_to(project.root).as_posix(): record.path for record in records}
    for path in wanted:
        place = project.files.place(path)
        if place is not None and place.is_dir():
            inner = sorted(file for file in place.rglob("*") if file.is_file())
            found |= {file.relative_to(project.root).as_posix(): file for file in inner}
        elif place is not None:
            found[path] = place
        elif not path.startswith(CODE):
            raise InputError(f"{path}: not here; `dvc checkout` or `dvc repro` brings it")
    return {f"{PROJECT}{path}": place for path, place in found.items()}


def predicate(row: str, nodes: Mapping[str, Node], project: Project, weights: bool) -> dict[str, Any]:
    """What is claimed of the row: its numbers, and the stages and the revision that they come from."""
    board = read_json(project.root / LEADERBOARD)
    changed = git("diff", "--name-only", "--relative", "HEAD", folder=project.root).splitlines()
    return {
        "row": row,
        "numbers": row_of_table(board, row),
        "judge": board["judge"],
        "revision": git("rev-parse", "HEAD", folder=project.root),
        "changed_since_revision": changed[:1000],
        "stages": {label: node.record.fingerprint for label, node in sorted(nodes.items())},
        "weights": weights,
    }


def row_of_table(board: Any, row: str) -> dict[str, Any]:
    """A model's row in leaderboard.json. Raises InputError where it has none."""
    try:
        return next(dict(one) for one in board["rows"] if one["model"] == row)
    except (StopIteration, KeyError, TypeError, ValueError):
        raise InputError(f"{LEADERBOARD}: no row `{row}`; `dvc repro leaderboard`") from None
