"""Whether a project's files are what its records, dvc.lock and params.yaml say, and what of it couldn't be checked.

Every check is of hashes or of plain values; nothing is run. A file that isn't here is no contradiction: it is listed.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from stages.base.closure import code_files, digest_of
from stages.base.errors import TrainyardError
from stages.base.params import lookup
from stages.base.pipeline import Declared
from stages.base.seeds import derive
from stages.base.store import git
from stages.publishing.lineage.chain import Finding, Node
from stages.publishing.lineage.changes import Change, value_changes
from stages.publishing.lineage.files import plain
from stages.publishing.lineage.project import CHECK, Locked, Project
from stages.publishing.lineage.records import Graph, Record, read_record, record_paths

# Of check alone: any edit changes them. What a stage computes depends on the digests that check makes of them.
WHOLE_CODE = "stages"
_SHOWN = 3  # names in a sentence


@dataclass
class Audit:
    """`files`: how many hash to what their records say; `wrong`: contradictions; `unchecked`: what isn't here."""

    stages: int = 0
    files: int = 0
    wrong: list[Finding] = field(default_factory=list)
    unchecked: list[Finding] = field(default_factory=list)

    def add(self, found: Iterable[Finding]) -> None:
        """Contradictions, each told once."""
        self.wrong += [one for one in dict.fromkeys(found) if one not in self.wrong]

    @property
    def summary(self) -> str:
        """What holds, in one sentence."""
        return f"{self.stages} stages, {self.files} files hash to what their records say"

    def unchecked_lines(self, shown: int = 3) -> list[str]:
        """What couldn't be checked, with its first paths for each reason."""
        reasons: dict[str, list[str]] = {}
        for one in dict.fromkeys(self.unchecked):
            reasons.setdefault(one.what, []).append(one.path)
        lines = []
        for what, paths in reasons.items():
            more = f" and {len(paths) - shown} more" if len(paths) > shown else ""
            lines.append(f"not checked: {', '.join(paths[:shown])}{more}: {what}")
        return lines


def readable_records(project: Project, audit: Audit) -> list[Record]:
    """The records of a project; one that can't be read is wrong."""
    records = []
    for path in record_paths(project.root / "data"):
        try:
            record = read_record(path)
        except TrainyardError as error:
            audit.wrong.append(_told(error, path.relative_to(project.root).as_posix()))
            continue
        folder = Path("data").joinpath(*record.stage.split("."), *([record.item] if record.item else []))
        here = path.relative_to(project.root)
        if here.parent == folder:
            records.append(record)
        else:
            audit.wrong.append(
                Finding(here.as_posix(), f"says that it is of `{record.label}`, whose place is {folder}")
            )
    return records


def audit_chain(nodes: Mapping[str, Node], graph: Graph, project: Project, audit: Audit, code: bool = False) -> None:
    """Check every record of a chain. `code`: the code of this working tree too, not only what `check` wrote of it."""
    labels: dict[str, Declared] = {}
    for node in nodes.values():
        record = node.record
        audit.stages += 1
        _outputs(record, project, audit)
        _outside(node, project, audit)
        for check in (_params, _seed, _code):
            try:
                audit.add(check(record, project))
            except TrainyardError as error:
                audit.add([_told(error, f"record of `{record.label}`")])
        try:
            declared = project.declared(record)
        except TrainyardError as error:
            audit.add([_told(error, "dvc.yaml")])
            continue
        if declared is not None:
            labels[declared.label] = declared
        elif project.pipeline:
            audit.unchecked.append(Finding(_name(record, project), "no stage of dvc.yaml writes it; it was left over"))
    _locked(labels, graph, project, audit)
    if code:
        _working_code(sorted({one.name for one in labels.values()}), project, audit)


def _told(error: Exception, path: str) -> Finding:
    """An error that names its own place, told once."""
    text = str(error)
    start, _, rest = text.partition(": ")
    return Finding(start, rest) if rest and not start.count(" ") else Finding(path, text)


def _name(record: Record, project: Project) -> str:
    return record.path.relative_to(project.root).as_posix()


def _outputs(record: Record, project: Project, audit: Audit) -> None:
    for path, digest in sorted(record.outputs.items()):
        found = project.files.digest(path)
        if found is None:
            audit.unchecked.append(Finding(path, "not here, and not in DVC's cache"))
        elif found.sha256 != digest:
            audit.add([_changed(path, found.sha256, digest, f"the record of {record.label}")])
        else:
            audit.files += 1


def _changed(path: str, found: str, digest: str, said_by: str) -> Finding:
    return Finding(
        path,
        f"its sha256 is {found[:12]}, in {said_by} {digest[:12]}: changed since it was recorded; restore it with "
        "`dvc checkout` or `git checkout`, or rerun with `dvc repro`",
    )


def _outside(node: Node, project: Project, audit: Audit) -> None:
    """Files that no stage wrote, and records that were read as files."""
    record = node.record
    outside = dict(node.outside)
    read = {path: digest for path, digest in record.inputs.items() if path.endswith("/record.json")}
    for path, digest in sorted({**outside, **read}.items()):
        found = project.files.sha256(path)
        if found is None:
            audit.unchecked.append(Finding(path, "not here: a file that no stage wrote"))
        elif found != digest:
            audit.add([_changed(path, found, digest, f"what {record.label} read")])
        elif path in outside and path.startswith("data/"):
            audit.unchecked.append(Finding(path, f"read by {record.label}; no record says who wrote it"))
        else:
            audit.files += path in outside


def _params(record: Record, project: Project) -> Iterator[Finding]:
    if project.params is None:
        return
    for section, old in record.params.items():
        try:
            new = plain(lookup(project.params, section))
        except TrainyardError:
            yield Finding("params.yaml", f"`{section}`, with which {record.label} ran, is no longer there; `dvc repro`")
            continue
        yield from _changed_params(value_changes(old, new, section), f"{record.label} ran")


def _changed_params(changes: Iterable[Change], ran: str) -> Iterator[Finding]:
    for change in changes:
        yield Finding("params.yaml", f"{change}, but {ran} with the former; rerun (`dvc repro`) or put it back")


def _seed(record: Record, project: Project) -> Iterator[Finding]:
    """A stage's seed follows from its root seed, its name and its item; that of a ladder's point from its own name."""
    declared = project.declared(record)
    if declared is None or declared.item != record.item:
        return
    roots = [
        value.get("seed") if isinstance(value, dict) else value
        for section, value in record.params.items()
        if section == "run" or section.endswith(".seed")
    ]
    known = [derive(root, record.stage, record.item or "") for root in roots if isinstance(root, int)]
    if record.seed is not None and known and record.seed not in known:
        yield Finding(_name(record, project), f"its seed {record.seed} doesn't follow from the root seed in its params")


def _code(record: Record, project: Project) -> Iterator[Finding]:
    files = project.code(record.stage)
    if files is not None and digest_of(files) != record.code:
        yield Finding(
            _name(record, project),
            f"ran with other code ({record.code[:12]}) than `check` last saw ({digest_of(files)[:12]}); `dvc repro`",
        )


def _locked(labels: Mapping[str, Declared], graph: Graph, project: Project, audit: Audit) -> None:
    """dvc.lock's word on the same files: md5 of outs (records among them) and deps, params, commands."""
    try:
        lock = project.lock
    except TrainyardError as error:
        audit.add([_told(error, "dvc.lock")])
        return
    if lock is None:
        audit.unchecked.append(Finding("dvc.lock", "not here: records were compared with each other only"))
        return
    _locked_files([lock[label] for label in labels if label in lock], graph, project, audit)
    for label, declared in labels.items():
        entry = lock.get(label)
        if entry is None:
            audit.unchecked.append(Finding(label, "dvc.lock has no entry of it: it ran without DVC"))
            continue
        if entry.cmd != declared.cmd:
            audit.add([Finding("dvc.lock", f"`{label}` ran as `{entry.cmd}`, dvc.yaml has `{declared.cmd}`")])
        for section, old in entry.params.items():
            try:
                new = lookup(project.params or {}, section)
            except TrainyardError:
                new = None
            changes = value_changes(plain(old), plain(new), section)
            audit.add(_changed_params(changes, f"dvc.lock says that `{label}` ran"))


def _locked_files(entries: Iterable[Locked], graph: Graph, project: Project, audit: Audit) -> None:
    """What is told of a file, once, whoever read it."""
    said: dict[tuple[str, str], tuple[list[str], list[str]]] = {}  # path and md5: who wrote it, who read it
    for entry in entries:
        for path, digest in entry.outs.items():
            said.setdefault((path, digest), ([], []))[0].append(entry.label)
        for path, digest in entry.deps.items():
            if path != WHOLE_CODE or entry.label != CHECK:
                said.setdefault((path, digest), ([], []))[1].append(entry.label)
    for (path, digest), (wrote, read) in said.items():
        known = graph.files_of(path) if digest.endswith(".dir") else []
        found = project.files.md5(path, known)
        if found is None:
            audit.unchecked.append(
                Finding(path, "not all of it is here, so that dvc.lock's md5 of it can't be compared")
            )
        elif found != digest:
            did = f"`{wrote[0]}` wrote" if wrote else f"`{read[0]}` read" if len(read) == 1 else "it had"
            readers = f", read by {len(read)} stages" if len(read) > 1 else ""
            folder = f"as a folder{_in_folder(path, digest, known, project)}, " if digest.endswith(".dir") else ""
            audit.add(
                [
                    Finding(
                        path,
                        f"{folder}its md5 is {found[:12]}, but by dvc.lock {did} {digest[:12]}{readers}; `dvc status` "
                        "and `dvc repro`",
                    )
                ]
            )


def _in_folder(folder: str, digest: str, known: Iterable[str], project: Project) -> str:
    """Which of a folder's files were added, are gone or changed: by DVC's list of them, or else by the records, which
    tell no change of a record itself."""
    now = [str(PurePosixPath(path).relative_to(folder)) for path in project.files.below(folder, ())]
    before = project.files.listing(digest)
    names = list(before) or [str(PurePosixPath(path).relative_to(folder)) for path in known]
    if not names:
        return ""
    kinds = {
        "added": sorted({*now} - {*names}),
        "missing": sorted({*names} - {*now}),
        "changed": [
            name for name in sorted({*before} & {*now}) if project.files.md5(f"{folder}/{name}") != before[name]
        ],
    }
    told = [f"{kind}: {_some(some)}" for kind, some in kinds.items() if some]
    return f" ({'; '.join(told)})" if told else ""


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}"


def _working_code(stages: Iterable[str], project: Project, audit: Audit) -> None:
    """Whether the code that `check` saw is the code that stands here; all that differs in one sentence."""
    if not (project.root / WHOLE_CODE / "__init__.py").is_file():
        audit.unchecked.append(Finding(WHOLE_CODE, "no code here: its digests are those of the records"))
        return
    changed: set[str] = set()
    for stage in stages:
        try:
            seen = project.code(stage)
            now = code_files(f"stages.{stage}", project.root.resolve()) if seen is not None else {}
        except (TrainyardError, OSError, SyntaxError, ValueError) as error:
            audit.add([_told(error, f"{WHOLE_CODE}/{stage.replace('.', '/')}.py")])
            continue
        changed |= {path for path in {*now, *(seen or {})} if now.get(path) != (seen or {}).get(path)}
    if changed:
        differ = "1 module differs" if len(changed) == 1 else f"{len(changed)} modules differ"
        what = f"this run is of other code: {differ} ({_some(sorted(changed))}); `dvc repro`, or check out its revision"
        audit.add([Finding(WHOLE_CODE, what)])


def uncommitted(project: Project) -> Iterator[Finding]:
    """What differs from git's last commit: files that agree with each other may all have been edited, a commit not."""
    revision = git("rev-parse", "--short", "HEAD", folder=project.root)
    if not revision:
        yield Finding(
            "dvc.lock", "this is no git repository: that records and lock were not edited together isn't known"
        )
        return
    paths = ("dvc.lock", "dvc.yaml", "params.yaml", "reports")
    for path in git("diff", "--name-only", "--relative", "HEAD", "--", *paths, folder=project.root).splitlines():
        yield Finding(path, f"differs from commit {revision}")
    if git("ls-files", "--others", "--", "dvc.lock", folder=project.root):
        yield Finding("dvc.lock", f"not in commit {revision}: commit it after a run")
