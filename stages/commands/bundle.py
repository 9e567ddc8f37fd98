"""`trainyard bundle ROW -o FILE`: one file with which anyone can verify a row of the leaderboard elsewhere.

It holds the records behind the board, params, dvc.lock, digests of code, the verdicts of all rows and the row's answers
and replies; of corpus and weights it holds the hashes. `trainyard verify FILE` recomputes the board from it.
"""

import argparse
from pathlib import Path

from stages.base.terminal import one_line, shown_json

EXAMPLE = """\
example, with a key that `openssl genpkey -algorithm ed25519 -out key.pem` makes:
  trainyard bundle dpo --key key.pem -o dpo.bundle
"""


def register(subparsers: argparse._SubParsersAction) -> None:
    command = subparsers.add_parser(
        "bundle",
        help="write a row's records, hashes and verdicts to one file, with which anyone can verify it",
        epilog=EXAMPLE,
    )
    add = command.add_argument
    add("row", help="a model's name or lineage id on the leaderboard")
    add("-o", "--output", type=Path, required=True, metavar="FILE", help="the file to write")
    add("--key", type=Path, metavar="PEM", help="your Ed25519 private key, to sign with")
    add("--weights", action="store_true", help="the model's folder too")
    add("--json", action="store_true", help="what was written, as JSON")
    command.set_defaults(run=run)


def write_bundle(row: str, target: Path, key: Path | None, weights: bool) -> tuple[str, int]:
    """The row's name and how many files of the project went in. Raises LineageError where the project contradicts
    itself, and InputError for a key or a file that can't be used."""
    from stages.base.params import nearest
    from stages.publishing.lineage.audit import Audit, audit_chain, readable_records
    from stages.publishing.lineage.bundle import archive, statement
    from stages.publishing.lineage.bundle.contents import predicate, project_files
    from stages.publishing.lineage.chain import BOARD, judged_models, row_of, walk
    from stages.publishing.lineage.project import Project
    from stages.publishing.lineage.records import Graph, LineageError

    signer = statement.private_key(key) if key is not None else None
    project, audit = Project(), Audit()
    graph = Graph(readable_records(project, audit))
    row, models = row_of(row, graph), judged_models(graph)
    if row not in models:
        raise LineageError(f"no row `{row}` on the leaderboard{nearest(row, models)}")
    nodes, broken = walk([graph.find(BOARD)], graph)
    audit.add(broken)
    audit_chain(nodes, graph, project, audit)
    if audit.wrong:
        raise LineageError(f"{audit.wrong[0]}; `trainyard verify` lists all, and what contradicts itself isn't bundled")
    files = project_files(row, nodes, project, weights)
    digests = {}
    for path in (name.removeprefix(archive.PROJECT) for name in files):
        found = project.files.digest(path)
        if found is None:
            raise LineageError(f"{path}: gone while it was read; try again")
        digests[path] = found.sha256
    payload = statement.statement(digests, predicate(row, nodes, project, weights))
    parts: dict[str, bytes | Path] = {**files, archive.STATEMENT: statement.envelope(payload, signer)}
    if signer is not None:
        parts[archive.KEY] = statement.pem(signer.public_key())
    archive.write_archive(target, row, parts)
    return row, len(files)


def run(options: argparse.Namespace) -> int:
    row, files = write_bundle(options.row, options.output, options.key, options.weights)
    size = options.output.stat().st_size
    if options.json:
        told = {
            "row": row,
            "file": str(options.output),
            "files": files,
            "bytes": size,
            "signed": options.key is not None,
        }
        print(shown_json(told))
    else:
        signed = "signed" if options.key is not None else "not signed (--key PEM signs it)"
        print(one_line(f"{options.output}: row {row}, {files} files, {size / 1e6:.1f} MB, {signed}"))
    return 0
