"""`trainyard trace <leaderboard row>`: from one published number, or one packed token, back to the pages it came from.

Every step of the chain is checked: the bytes on disk hash to what the record says, and each input is exactly what its
producer wrote. A chain that can't be verified is an error (exit status 1), not a footnote.
"""

import argparse
import sys
from dataclasses import asdict
from typing import Any

EXAMPLE = """\
examples:
  trainyard trace dpo --page
  trainyard trace train:0:17  # a packed token
"""


def register(subparsers: argparse._SubParsersAction) -> None:
    command = subparsers.add_parser(
        "trace",
        help="follow a leaderboard row back to the source documents, verifying every hash",
        epilog=EXAMPLE,
    )
    add = command.add_argument
    add("row", help="a model's name or lineage id on the leaderboard, or a packed token: train:ROW:COLUMN")
    add("--page", action="store_true", help="write the chain as a page too: reports/lineage/ROW.html")
    add("--json", action="store_true", help="the whole chain as JSON")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the chain of a row, or of a packed token (`train:ROW:COLUMN`). Exit status 1 for contradictions."""
    from stages.base.terminal import one_line, shown_json
    from stages.publishing.lineage.audit import Audit, audit_chain, readable_records, uncommitted
    from stages.publishing.lineage.chain import BOARD, Finding, row_chain, row_of, walk
    from stages.publishing.lineage.project import Project
    from stages.publishing.lineage.published import edited_cells, row_scores
    from stages.publishing.lineage.records import Graph, LineageError
    from stages.publishing.lineage.token_source import PLACE, find_token
    from stages.publishing.lineage.token_source import render as show_token
    from stages.publishing.lineage.tree import as_json, render

    project, audit = Project(), Audit()
    told: dict[str, Any] = {}
    is_token = PLACE.fullmatch(options.row) is not None
    try:
        graph = Graph(readable_records(project, audit))
        row = options.row if is_token else row_of(options.row, graph)
        nodes, broken = walk([graph.find("tokens.pack")], graph) if is_token else row_chain(row, graph)
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
    if options.page and not is_token:
        from stages.publishing.lineage.page import write_page

        print(f"{write_page(row, nodes, audit, project)} written", file=sys.stderr)
    if options.json:
        print(shown_json(told | as_json(row, nodes, audit)))
    elif not audit.wrong:
        print(render(first, nodes, audit))
    if audit.wrong:
        more = f" (and {len(audit.wrong) - 1} more: `trainyard verify` lists them)" if len(audit.wrong) > 1 else ""
        print(one_line(f"trainyard: trace: {audit.wrong[0]}{more}"), file=sys.stderr)
    return 1 if audit.wrong else 0
