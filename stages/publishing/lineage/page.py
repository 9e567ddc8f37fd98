"""The chain of a row as a page of its own, reports/lineage/<row>.html: every stage with links to who wrote what it read
and to who read what it wrote."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stages.base.files import atomic_path
from stages.base.params import parse
from stages.publishing.html.numbers import count
from stages.publishing.html.page import render
from stages.publishing.html.site import SiteParams
from stages.publishing.lineage.audit import Audit
from stages.publishing.lineage.chain import Node
from stages.publishing.lineage.changes import said
from stages.publishing.lineage.project import Project
from stages.publishing.lineage.records import Record

FOLDER = Path("reports", "lineage")
DIGITS = 16
ANOTHER = "of another row"  # what is said of a file that a stage of all rows read, and this row doesn't stand on


def write_page(row: str, nodes: Mapping[str, Node], audit: Audit, project: Project) -> Path:
    """Raises ParamError where params.yaml has no site."""
    path = project.root / FOLDER / f"{row}.html"
    with atomic_path(path) as temporary:
        temporary.write_text(page_text(row, nodes, audit, project), encoding="utf-8")
    return path


def page_text(
    row: str, nodes: Mapping[str, Node], audit: Audit, project: Project, elsewhere: Mapping[str, str] | None = None
) -> str:
    """The page, for a folder below the site's. `elsewhere`: stage → the link under which another row's page tells the
    same of it. Raises ParamError where params.yaml has no site."""
    site = parse("publishing.site", (project.params or {}).get("publishing", {}).get("site"), SiteParams)
    bar = {"title": site.title, "page": "leaderboard", "pages": ["index", *site.pages], "root": "../"}
    sections = [("checked", "Checked"), ("chain", "Chain"), ("stages", "Stages")]
    return render(bar | {"sections": sections} | page_view(row, nodes, audit, elsewhere), "lineage.html")


def stage_ids(nodes: Mapping[str, Node]) -> dict[str, str]:
    """Of each stage's place on the page."""
    return {name: f"stage-{number}-{re.sub('[^a-z0-9]+', '-', name)}" for number, name in enumerate(nodes)}


def page_view(
    row: str, nodes: Mapping[str, Node], audit: Audit, elsewhere: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Plain values for the template; `nodes`: nearest first, as `chain.walk` gives them."""
    ids, elsewhere = stage_ids(nodes), elsewhere or {}
    own = [name for name in nodes if name not in elsewhere]
    readers: dict[str, list[str]] = {}
    for name, node in nodes.items():
        for path in node.record.inputs:
            readers.setdefault(path, []).append(name)
    outside = len({path for node in nodes.values() for path, _ in node.outside})
    agree = "and dvc.lock, params.yaml and the published files agree" if not audit.wrong else "with contradictions"
    return {
        "row": row,
        "lead": f"{count(len(nodes))} stages, from the published page down to {count(outside)} files of no stage.",
        "checked": f"{audit.summary}, {agree}.",
        "wrong": [str(one) for one in audit.wrong],
        "unchecked": [line.removeprefix("not checked: ") for line in audit.unchecked_lines()],
        "tree": _branch(next(iter(nodes.values())), set(), elsewhere),
        "links": {name: elsewhere.get(name, f"#{ids[name]}") for name in nodes},
        "stages": [_stage(ids[name], nodes[name], readers, bool(elsewhere)) for name in own],
        "elsewhere": f"{count(len(nodes) - len(own))} more are another row's too; their links lead to its page, where "
        "the chain goes on and the files of all rows are listed."
        if elsewhere
        else "",
    }


def _branch(node: Node, shown: set[str], elsewhere: Mapping[str, str]) -> dict[str, Any]:
    """The chain from a stage on; what comes before a stage that another page tells of stands there."""
    label = node.record.label
    if label in shown:
        return {"name": label, "again": True}
    shown.add(label)
    outside = [path for path, _ in node.outside]
    parents = [] if label in elsewhere else [_branch(parent, shown, elsewhere) for parent in node.parents]
    return {"name": label, "again": False, "outside": outside, "parents": parents}


def _stage(identifier: str, node: Node, readers: Mapping[str, list[str]], brief: bool) -> dict[str, Any]:
    """`brief`: without the files that are of another row."""
    record = node.record
    inputs = [_input(path, digest, node) for path, digest in sorted(record.inputs.items())]
    return {
        "id": identifier,
        "name": record.label,
        "fingerprint": record.fingerprint[:DIGITS],
        "code": record.code[:DIGITS],
        "seed": None if record.seed is None else str(record.seed),
        "rows": _rows(record),
        "params": [[name, said(value)] for name, value in _leaves(record.params)],
        "inputs": [one for one in inputs if not brief or one["remark"] != ANOTHER or one["stages"]],
        "outputs": [
            {
                "path": path,
                "digest": digest[:DIGITS],
                "stages": _readers(path, readers),
                "remark": "nothing in this chain",
            }
            for path, digest in sorted(record.outputs.items())
        ],
    }


def _input(path: str, digest: str, node: Node) -> dict[str, Any]:
    writers = [
        parent.record.label
        for parent in node.parents
        if any(out == path or out.startswith(f"{path}/") for out in parent.record.outputs)
        or (path.endswith("/record.json") and parent.record.path.as_posix().endswith(path))
    ]
    outside = any(path == name for name, _ in node.outside)
    remark = "from outside the pipeline" if outside else ANOTHER
    return {"path": path, "digest": digest[:DIGITS], "stages": writers, "remark": remark}


def _readers(path: str, readers: Mapping[str, list[str]]) -> list[str]:
    """Who read a file, by itself or with a folder that it is in."""
    folders = [path, *(parent.as_posix() for parent in Path(path).parents)]
    return list(dict.fromkeys(name for folder in folders for name in readers.get(folder, [])))


def _rows(record: Record) -> str:
    if not record.rows:
        return ""
    dropped = ", ".join(f"{count(number)} {reason}" for reason, number in record.rows["dropped"].items() if number)
    return f"{count(record.rows['in'])} in, {count(record.rows['out'])} out" + (
        f"; dropped: {dropped}" if dropped else ""
    )


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
