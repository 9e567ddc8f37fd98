"""A chain as a tree of text, and as JSON."""

from dataclasses import asdict
from typing import Any

from stages.base.terminal import one_line
from stages.publishing.lineage.audit import Audit
from stages.publishing.lineage.chain import Node
from stages.publishing.lineage.records import Record


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
