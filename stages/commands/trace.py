"""`trainyard trace <leaderboard row>`: from one published number, or one packed token, back to the pages it came from.

Every step of the chain is checked: the bytes on disk hash to what the record says, and each input is exactly what its
producer wrote. A chain that can't be verified is an error (exit status 1), not a footnote.
"""

import argparse
import json
import sys
from dataclasses import asdict, dataclass, field
from typing import Any

from stages.base.files import read_json
from stages.publishing.lineage.records import Graph, LineageError, Record, read_records

LEADERBOARD = "judging.leaderboard"
ANNOTATIONS = "/annotations.parquet"


def register(subparsers: argparse._SubParsersAction) -> None:
    command = subparsers.add_parser(
        "trace", help="follow a leaderboard row back to the source documents, verifying every hash"
    )
    add = command.add_argument
    add("row", help="a model's name or lineage id on the leaderboard, or a packed token: train:ROW:COLUMN")
    add("--json", action="store_true", help="the whole chain as JSON")
    command.set_defaults(run=run)


@dataclass
class Node:
    """One stage instance in the chain of a row; `parents` wrote what it read."""

    record: Record
    parents: list["Node"] = field(default_factory=list)
    outside: list[tuple[str, str]] = field(default_factory=list)  # inputs that no stage wrote


def trace(row: str, graph: Graph) -> Node:
    """The verified chain behind one row of the leaderboard. Raises LineageError."""
    models = sorted(judged_models(graph))
    if row not in models:
        raise LineageError(f"no row `{row}` on the leaderboard; rows: {', '.join(models)}")
    return _walk(graph.find(LEADERBOARD), row, graph, {}, set())


def row_of(name: str, graph: Graph) -> str:
    """The model of a lineage id, which is how the sha256 of its annotations begins; any other name is itself."""
    judged = {path: digest for path, digest in graph.find(LEADERBOARD).inputs.items() if path.endswith(ANNOTATIONS)}
    return next(
        (path.split("/")[3] for path in sorted(judged) if len(name) >= 8 and judged[path].startswith(name)), name
    )


def judged_models(graph: Graph) -> set[str]:
    """Items of judging.judge that the leaderboard read."""
    return {path.split("/")[3] for path in graph.find(LEADERBOARD).inputs if path.endswith(ANNOTATIONS)}


def _walk(record: Record, row: str, graph: Graph, seen: dict[str, Node], checked: set[str]) -> Node:
    if record.label in seen:
        return seen[record.label]
    node = seen[record.label] = Node(record)
    for path, digest in sorted(record.outputs.items()):
        if path not in checked:
            graph.verify(path, digest)
            checked.add(path)
    for path, digest in sorted(record.inputs.items()):
        if _of_another_row(path, record, row):
            continue
        producers = graph.producers(path, digest)
        if not producers:
            graph.verify(path, digest)
            node.outside.append((path, digest))
        for producer in producers:
            parent = _walk(producer, row, graph, seen, checked)
            if parent not in node.parents:
                node.parents.append(parent)
    return node


def _of_another_row(path: str, record: Record, row: str) -> bool:
    """The leaderboard reads every model; a row's chain follows its own and what all rows share."""
    parts = path.split("/")
    return record.stage == LEADERBOARD and parts[:2] == ["data", "judging"] and len(parts) > 4 and parts[3] != row


def chain(node: Node) -> list[Record]:
    """All records of a chain, each once, nearest first."""
    found: dict[str, Record] = {}
    pending = [node]
    while pending:
        here = pending.pop(0)
        if here.record.label not in found:
            found[here.record.label] = here.record
            pending += here.parents
    return list(found.values())


def as_json(row: str, node: Node) -> dict[str, Any]:
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
            for record in chain(node)
        ],
    }


def render(row: str, node: Node, scores: dict[str, Any] | None = None) -> str:
    """The chain as a tree, each stage printed in full once and as a pointer after that."""
    facts = ", ".join(f"{key} {value}" for key, value in (scores or {}).items())
    lines = [f"{row}{f': {facts}' if facts else ''}"]
    _draw(node, "", lines, set())
    records = chain(node)
    files = sum(len(record.outputs) for record in records)
    lines.append(f"verified: {len(records)} stages, {files} files hash to what their records say")
    return "\n".join(lines)


def _draw(node: Node, indent: str, lines: list[str], shown: set[str], last: bool = True) -> None:
    record = node.record
    corner, below = ("└─ ", "   ") if last else ("├─ ", "│  ")
    if record.label in shown:
        lines.append(f"{indent}{corner}{record.label} (above)")
        return
    shown.add(record.label)
    lines.append(f"{indent}{corner}{record.label}  {_summary(record)}")
    inner = indent + below
    settings = _settings(record)
    if settings:
        lines.append(f"{inner}{'│  ' if node.parents or node.outside else '   '}{settings}")
    for i, (path, digest) in enumerate(node.outside):
        end = not node.parents and i == len(node.outside) - 1
        lines.append(f"{inner}{'└─ ' if end else '├─ '}{path}  {digest[:12]}  from outside the pipeline")
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
    """Print the chain of a row, or of a packed token (`train:ROW:COLUMN`). Exit status 1 where it can't be verified."""
    from stages.publishing.lineage.token_source import PLACE, find_token
    from stages.publishing.lineage.token_source import render as show_token

    row = options.row
    try:
        graph = Graph(read_records())
        if PLACE.fullmatch(row):
            node, token = _walk(graph.find("tokens.pack"), row, graph, {}, set()), find_token(row)
            told, shown = {"token": asdict(token)} | as_json(row, node), render(show_token(token), node)
        else:
            row = row_of(row, graph)
            node = trace(row, graph)
            told, shown = as_json(row, node), render(row, node, row_scores(row))
    except LineageError as error:
        print(f"trainyard: trace: {error}", file=sys.stderr)
        return 1
    print(json.dumps(told, indent=2, sort_keys=True) if options.json else shown)
    return 0


def row_scores(row: str) -> dict[str, Any]:
    """The row's published numbers, for the first line."""
    rows = read_json("data/judging/leaderboard/leaderboard.json")["rows"]
    entry: dict[str, Any] = next((entry for entry in rows if entry["model"] == row), {})
    numbers = {k: v for k, v in sorted(entry.items()) if isinstance(v, int | float) and not isinstance(v, bool)}
    return {key: f"{value:.4g}" for key, value in numbers.items()}
