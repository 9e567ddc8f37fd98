"""reports/claims.json: what the pages of claims are and what they stand on, by sha256; read by `trainyard verify`.

No stage writes these pages, so that no stage's record speaks of them.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import ValidationError

from stages.base.contracts import Contract
from stages.base.errors import InputError
from stages.base.files import read_json, sha256_file, write_json
from stages.base.params import nearest
from stages.base.store import SIDE, project_store
from stages.publishing.claims.publish import FOLDER, REPORTS
from stages.publishing.lineage.audit import Audit
from stages.publishing.lineage.chain import Finding
from stages.publishing.lineage.project import Project

RECORD = REPORTS / "claims.json"
KINDS = (".html", ".json", ".md")
RUNS = ("declaration.yaml", "edited.yaml", "runs.jsonl", "outcomes.parquet", "cost.json", "verdict.json")
"""Of a claim's folder in the store: what its pages are made of."""
SUITE = tuple(str(REPORTS / f"claims{kind}") for kind in (".html", ".md"))


class Entry(Contract):
    """Of one claim: path → sha256."""

    pages: dict[str, str]
    stands_on: dict[str, str]
    """Its declaration, and the files of its runs as paths below `.trainyard/`, wherever that is."""


class ClaimsRecord(Contract):
    claims: dict[str, Entry]
    suite: dict[str, str]
    """reports/claims.html and .md."""
    digest: str
    """sha256 of all of the above, as JSON with sorted keys and no spaces."""

    def sealed(self) -> str:
        values = self.model_dump(mode="json", exclude={"digest"})
        return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_record(root: Path = Path(".")) -> ClaimsRecord | None:
    """None where there is none. Raises InputError for one that isn't as it was written."""
    path = root / RECORD
    if not path.exists():
        return None
    try:
        found = ClaimsRecord.model_validate(read_json(path))
    except ValidationError:
        found = None
    if found is None or found.digest != found.sealed():
        raise InputError(f"{RECORD}: edited since it was written; restore it with `git checkout {RECORD}`")
    return found


def write_record(folders: Mapping[str, tuple[Path, Path]], names: Iterable[str]) -> None:
    """The record of the pages of `names` as they are on disk. `folders`: claim → declaration and folder of its runs, of
    those whose pages were made from them just now; of other claims the former record of these is kept."""
    former = read_record()
    claims = {}
    for name in sorted(names):
        pages = {str(path): sha256_file(path) for kind in KINDS if (path := FOLDER / f"{name}{kind}").exists()}
        kept = former.claims[name].stands_on if former is not None and name in former.claims else {}
        if name in folders:
            declaration, runs = folders[name]
            files = [declaration, *(runs / file for file in RUNS)]
            kept = {_within(path): sha256_file(path) for path in files if path.is_file()}
        claims[name] = Entry(pages=pages, stands_on=kept)
    suite = {path: sha256_file(path) for path in SUITE if Path(path).exists()}
    unsealed = ClaimsRecord(claims=claims, suite=suite, digest="")
    write_json(RECORD, unsealed.model_copy(update={"digest": unsealed.sealed()}).model_dump(mode="json"))


def unedited(name: str, record: ClaimsRecord | None) -> None:
    """Raises InputError where a claim's JSON, from which its page is to be made anew, isn't what was recorded."""
    path = FOLDER / f"{name}.json"
    known = record.claims[name].pages.get(str(path)) if record is not None and name in record.claims else None
    if known is not None and known != sha256_file(path):
        raise InputError(f"{path}: edited since it was written; restore it with `git checkout {path}`")


def of_claims(target: str) -> bool:
    """Whether a path of a project is of claims' pages."""
    return target in (*SUITE, str(RECORD), str(FOLDER)) or target.startswith(f"{FOLDER}/")


def audit_claims(project: Project, audit: Audit, target: str | None = None) -> set[str]:
    """Compare the pages of all claims, or those of a target, with the record. Returns the pages that it speaks of.

    Raises InputError where the target isn't of a claim that the record knows.
    """
    try:
        record = read_record(project.root)
    except InputError as error:
        audit.add([Finding(str(RECORD), str(error).removeprefix(f"{RECORD}: "))])
        return {str(RECORD)}
    if record is None:
        if target is not None:
            raise InputError(f"{target}: no {RECORD} says what it was; `trainyard experiment report` writes it")
        return set()
    names, suite = list(record.claims), record.suite
    if target is not None and target.startswith(f"{FOLDER}/"):
        name = Path(target).stem
        if target not in record.claims.get(name, Entry(pages={}, stands_on={})).pages:
            known = [path for entry in record.claims.values() for path in entry.pages]
            raise InputError(f"{target}: {RECORD} doesn't know it{nearest(target, known)}")
        names, suite = [name], {}
    entries = [(name, record.claims[name]) for name in names]
    for name, pages in [("", suite), *((name, entry.pages) for name, entry in entries)]:
        for path, digest in pages.items():
            _page(path, digest, name, project, audit)
    for name, entry in entries:
        for path, digest in entry.stands_on.items():
            _foundation(path, digest, name, project, audit)
        if not entry.stands_on:
            audit.unchecked.append(Finding(f"{FOLDER}/{name}.json", "made before there was a record of its runs"))
    return {str(RECORD), *suite, *(path for _, entry in entries for path in entry.pages)}


def _page(path: str, digest: str, name: str, project: Project, audit: Audit) -> None:
    place = project.root / path
    remedy = f"`git checkout {path}`, or `{f'trainyard experiment report {name}'.strip()}` where it ran"
    if not place.is_file():
        audit.add([Finding(path, f"not here, but {RECORD} has it; {remedy}")])
    elif sha256_file(place) != digest:
        audit.add([Finding(path, f"its sha256 isn't that of {RECORD} ({digest[:12]}): edited since; {remedy}")])
    else:
        audit.files += 1


def _foundation(path: str, digest: str, name: str, project: Project, audit: Audit) -> None:
    store = project_store() if project.root.resolve() == Path.cwd() else project.root / SIDE
    place = store / Path(path).relative_to(SIDE) if Path(path).is_relative_to(SIDE) else project.root / path
    if not place.is_file():
        audit.unchecked.append(Finding(path, "not here: claims' runs are where they ran"))
    elif sha256_file(place) != digest:
        what = f"changed since the page of `{name}` was made of it; `trainyard experiment report {name}`"
        audit.add([Finding(path, what)])
    else:
        audit.files += 1


def _within(path: Path) -> str:
    """A file of the store as below `.trainyard/`, whichever work tree it is of; any other as it is."""
    store = project_store()
    whole = path.resolve()
    return (
        (SIDE / whole.relative_to(store.resolve())).as_posix() if whole.is_relative_to(store.resolve()) else str(path)
    )
