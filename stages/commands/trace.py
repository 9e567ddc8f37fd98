"""`trainyard trace <leaderboard row>`: from one published number, or one packed token, back to the pages it came from.

Every step of the chain is checked: the bytes on disk hash to what the record says, and each input is exactly what its
producer wrote. A chain that can't be verified is an error (exit status 1), not a footnote.
"""

import argparse
import sys
from dataclasses import asdict
from typing import Any

from stages.base.errors import TrainyardError
from stages.base.files import read_json
from stages.base.params import nearest
from stages.base.terminal import one_line, shown_json
from stages.publishing.lineage.audit import Audit, audit_chain, readable_records, uncommitted
from stages.publishing.lineage.chain import (
    BOARD,
    LEADERBOARD,
    Finding,
    Node,
    judged_models,
    of_another_row,
    row_of,
    walk,
)
from stages.publishing.lineage.project import Project
from stages.publishing.lineage.records import Graph, LineageError, Record


def register(subparsers: argparse._SubParsersAction) -> None:
    command = subparsers.add_parser(
        "trace", help="follow a leaderboard row back to the source documents, verifying every hash"
    )
    add = command.add_argument
    add("row", help="a model's name or lineage id on the leaderboard, or a packed token: train:ROW:COLUMN")
    add("--json", action="store_true", help="the whole chain as JSON")
    command.set_defaults(run=run)


def trace(row: str, graph: Graph) -> tuple[dict[str, Node], list[Finding]]:
    """The records behind one row, by label, from the published board on; and the edges that don't hold.

    Raises LineageError for a row that isn't on the leaderboard.
    """
    models = judged_models(graph)
    if row not in models:
        raise LineageError(f"no row `{row}` on the leaderboard{nearest(row, models)}")
    starts = [record for record in graph.records if record.stage == BOARD] or [graph.find(LEADERBOARD)]
    return walk(starts, graph, of_another_row(row))


def as_json(row: str, nodes: dict[str, Node], audit: Audit) -> dict[str, Any]:
    return {
        "row": row,
        "chain": [
            {
                "stage": record.label,
                "params": record.params,
                "seed": record.seed,
                "code": record.code,
                "inputs": record.inputs,
                "outputs": record.outputs,
                "rows": record.rows,
                "fingerprint": record.fingerprint,
            }
            for record in (node.record for node in nodes.values())
        ],
        "files": audit.files,
        "wrong": [asdict(one) for one in audit.wrong],
        "unchecked": [asdict(one) for one in audit.unchecked],
    }


def render(first: str, nodes: dict[str, Node], audit: Audit) -> str:
    """The chain as a tree below `first`, each stage printed in full once and as a pointer after that."""
    lines = [first]
    _draw(next(iter(nodes.values())), "", lines, set())
    lines.append(f"verified: {audit.summary}; dvc.lock and params.yaml agree")
    return "\n".join(lines + audit.unchecked_lines())


def _draw(node: Node, indent: str, lines: list[str], shown: set[str], last: bool = True) -> None:
    record, label = node.record, one_line(node.record.label)
    corner, below = ("└─ ", "   ") if last else ("├─ ", "│  ")
    if record.label in shown:
        lines.append(f"{indent}{corner}{label} (above)")
        return
    shown.add(record.label)
    lines.append(f"{indent}{corner}{label}  {one_line(_summary(record))}")
    inner = indent + below
    settings = one_line(_settings(record))
    if settings:
        lines.append(f"{inner}{'│  ' if node.parents or node.outside else '   '}{settings}")
    for i, (path, digest) in enumerate(node.outside):
        end = not node.parents and i == len(node.outside) - 1
        lines.append(f"{inner}{'└─ ' if end else '├─ '}{one_line(path)}  {digest[:12]}  from outside the pipeline")
    for i, parent in enumerate(node.parents):
        _draw(parent, inner, lines, shown, i == len(node.parents) - 1)


def _summary(record: Record) -> str:
    parts = [f"run {record.fingerprint[:12]}"]
    if record.rows:
        lost = sum(record.rows["dropped"].values())
        counts = f"{record.rows['in']:,} rows in, {record.rows['out']:,} out"
        parts.append(f"{counts}, {lost:,} dropped" if lost else counts)
    elif table := next((path for path in sorted(record.outputs) if path.endswith(".parquet")), None):
        parts.append(_row_count(table))
    main = sorted(record.outputs)[:1]
    parts += [f"{path.rsplit('/', 1)[-1]} {record.outputs[path][:12]}" for path in main]
    more = len(record.outputs) - len(main)
    return " · ".join(parts) + (f" (+{more} files)" if more > 0 else "")


def _row_count(table: str) -> str:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return f"{pq.read_metadata(table).num_rows:,} rows"
    except pa.ArrowInvalid:
        return "unreadable rows"  # its hash was verified: this is how it was written


def _settings(record: Record, limit: int = 110) -> str:
    """The scalar params of the stage's own section, cut to one line; `--json` has all of them."""
    own: Any = next((value for name, value in record.params.items() if name == record.stage), {})
    leaves = own.items() if isinstance(own, dict) else ()
    text = " ".join(f"{key}={value}" for key, value in sorted(leaves) if not isinstance(value, dict | list))
    return text if len(text) <= limit else text[: limit - 1].rsplit(" ", 1)[0] + " …"


def run(options: argparse.Namespace) -> int:
    """Print the chain of a row, or of a packed token (`train:ROW:COLUMN`). Exit status 1 for contradictions."""
    from stages.publishing.lineage.published import edited_cells
    from stages.publishing.lineage.token_source import PLACE, find_token
    from stages.publishing.lineage.token_source import render as show_token

    project, audit = Project(), Audit()
    told: dict[str, Any] = {}
    is_token = PLACE.fullmatch(options.row) is not None
    try:
        graph = Graph(readable_records(project, audit))
        row = options.row if is_token else row_of(options.row, graph)
        nodes, broken = walk([graph.find("tokens.pack")], graph) if is_token else trace(row, graph)
    except LineageError as error:
        print(one_line(f"trainyard: trace: {error}"), file=sys.stderr)
        return 1
    if any(node.record.stage == BOARD for node in nodes.values()):
        audit.add(edited_cells(project, row))
    elif not is_token:
        audit.unchecked.append(Finding("reports/leaderboard.csv", "no board was published; `dvc repro board`"))
    audit.add(broken)
    audit_chain(nodes, graph, project, audit)
    audit.unchecked += uncommitted(project)
    first = f"{row}{row_scores(row)}"
    if is_token and not audit.wrong:
        token = find_token(row)
        told, first = {"token": asdict(token)}, show_token(token)
    if options.json:
        print(shown_json(told | as_json(row, nodes, audit)))
    elif not audit.wrong:
        print(render(first, nodes, audit))
    if audit.wrong:
        more = f" (and {len(audit.wrong) - 1} more: `trainyard verify` lists them)" if len(audit.wrong) > 1 else ""
        print(one_line(f"trainyard: trace: {audit.wrong[0]}{more}"), file=sys.stderr)
    return 1 if audit.wrong else 0


def row_scores(row: str) -> str:
    """The row's numbers, for the first line; nothing where the table is not here."""
    try:
        rows = read_json("data/judging/leaderboard/leaderboard.json")["rows"]
        entry: dict[str, Any] = next((entry for entry in rows if entry["model"] == row), {})
    except (TrainyardError, KeyError, TypeError):
        return ""
    numbers = {k: v for k, v in sorted(entry.items()) if isinstance(v, int | float) and not isinstance(v, bool)}
    return ": " + ", ".join(f"{key} {value:.4g}" for key, value in numbers.items()) if numbers else ""
