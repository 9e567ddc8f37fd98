"""The chain behind a record: who wrote what it read, and so on down to files that no stage wrote."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from stages.base.params import nearest
from stages.publishing.lineage.records import Graph, LineageError, Record

BOARD, LEADERBOARD, AGREEMENT = "publishing.board", "judging.leaderboard", "judging.agreement"
ANNOTATIONS = "/annotations.parquet"


@dataclass(frozen=True)
class Finding:
    """What is wrong with a path, or what couldn't be checked of it: the end of a sentence that begins with the path."""

    path: str
    what: str

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


@dataclass
class Node:
    """One stage instance of a chain; `parents` wrote what it read."""

    record: Record
    parents: list["Node"] = field(default_factory=list)
    outside: list[tuple[str, str]] = field(default_factory=list)  # inputs that no stage wrote


def walk(
    starts: Iterable[Record], graph: Graph, skipped: Callable[[Record, str], bool] | None = None
) -> tuple[dict[str, Node], list[Finding]]:
    """All records behind `starts`, by label, nearest first, and the edges that don't hold: a reader that read other
    bytes than its input's writers recorded. `skipped` says which inputs aren't followed."""
    nodes: dict[str, Node] = {}
    broken: list[Finding] = []
    pending = list(starts)
    for record in pending:
        nodes[record.label] = Node(record)
    while pending:
        node = nodes[pending.pop(0).label]
        for path, digest in sorted(node.record.inputs.items()):
            if skipped is not None and skipped(node.record, path):
                continue
            writers, written = graph.written(path)
            if written is not None and written != digest:
                labels = " and ".join(one.label for one in writers)
                broken.append(
                    Finding(
                        path,
                        f"{node.record.label} read sha256 {digest[:12]}, but {labels} last wrote {written[:12]}: the "
                        "pipeline was not rerun to the end; `dvc repro`",
                    )
                )
            if not writers:
                node.outside.append((path, digest))
            for writer in writers:
                if writer.label not in nodes:
                    nodes[writer.label] = Node(writer)
                    pending.append(writer)
                parent = nodes[writer.label]
                if parent is not node and not any(parent is one for one in node.parents):
                    node.parents.append(parent)
    return nodes, broken


def judged_models(graph: Graph) -> list[str]:
    """Items of judging.judge that the leaderboard read: its rows, sorted."""
    return sorted(
        path.split("/")[3]
        for path in graph.find(LEADERBOARD).inputs
        if path.endswith(ANNOTATIONS) and path.count("/") > 3
    )


def row_chain(row: str, graph: Graph) -> tuple[dict[str, Node], list[Finding]]:
    """The records behind one row, by label, from the published board on; and the edges that don't hold.

    Raises LineageError for a row that isn't on the leaderboard.
    """
    models = judged_models(graph)
    if row not in models:
        raise LineageError(f"no row `{row}` on the leaderboard{nearest(row, models)}")
    starts = [record for record in graph.records if record.stage == BOARD] or [graph.find(LEADERBOARD)]
    return walk(starts, graph, of_another_row(row))


def row_of(name: str, graph: Graph) -> str:
    """The model of a lineage id, which is how the sha256 of its annotations begins; any other name is itself."""
    judged = {path: digest for path, digest in graph.find(LEADERBOARD).inputs.items() if path.endswith(ANNOTATIONS)}
    return next(
        (path.split("/")[3] for path in sorted(judged) if len(name) >= 8 and judged[path].startswith(name)), name
    )


def of_another_row(row: str) -> Callable[[Record, str], bool]:
    """The board and the leaderboard read every model; a row's chain follows its own and what all rows share."""

    def skipped(record: Record, path: str) -> bool:
        parts = path.split("/")
        shared = record.stage in (BOARD, LEADERBOARD, AGREEMENT)
        return shared and parts[:2] == ["data", "judging"] and len(parts) > 4 and parts[3] != row

    return skipped
