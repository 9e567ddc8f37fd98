"""Why a stage would run again, or ran: what differs between two states of it, in words.

A state is an entry of dvc.lock, or what such an entry would be if the stage ran now. Of code, DVC knows one digest a
stage; which module changed is told from the lists of digests that `check` wrote, kept by DVC's cache.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.base.closure import code_files
from stages.base.errors import ParamError, TrainyardError
from stages.base.params import lookup, nearest
from stages.base.pipeline import Declared
from stages.base.store import git
from stages.publishing.lineage.changes import value_changes
from stages.publishing.lineage.files import Files, plain
from stages.publishing.lineage.project import CHECK, CODE, Locked, Project, read_lock

_SHOWN = 5  # files of a folder, or modules, in a sentence
_OLDEST = 20  # commits of dvc.lock that are looked through


@dataclass(frozen=True)
class Reason:
    """`kind`: never, command, param, code, dependency, output or upstream; `stage`: who makes what changed."""

    kind: str
    name: str
    what: str
    stage: str | None = None


@dataclass(frozen=True)
class Ran:
    """When a stage last ran by the history of dvc.lock, and what had changed by then."""

    commit: str
    """Short name and subject; "" for a lock that isn't committed yet."""
    reasons: list[Reason]


def find_stages(name: str, project: Project) -> list[Declared]:
    """The instances that a name means: DVC's label, the module with its item, or all items of a stage.

    Raises ParamError for a name that none has.
    """
    if not project.pipeline:
        raise ParamError("dvc.yaml, params.yaml: not found; run from the project's root")
    for key in (_label, _module):
        found = [one for one in project.pipeline if name in (key(one), key(one).partition("@")[0])]
        if found:
            return [one for one in found if key(one) == name] or found
    known = [one.label for one in project.pipeline]
    close = nearest(name, known)
    raise ParamError(
        f"no stage `{name}` in dvc.yaml{close if 'did you mean' in close else '; `dvc stage list` lists them'}"
    )


def _label(one: Declared) -> str:
    return one.label


def _module(one: Declared) -> str:
    return f"{one.name}@{one.item}" if one.item else one.name


class Reasons:
    """What differs now from the last run, for any stage; states of stages are worked out once."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self._lock = project.lock or {}
        self._makers = {out: one.label for one in project.pipeline for out in one.outs}
        self._declared = {one.label: one for one in project.pipeline}
        self._own: dict[str, list[Reason]] = {}

    def now(self, one: Declared) -> list[Reason]:
        """Its own reasons, then those of the stages before it that would run first."""
        found = list(self._own_reasons(one))
        for label in self._before(one):
            own = self._own_reasons(self._declared[label])
            if own:
                more = f" (and {len(own) - 1} more)" if len(own) > 1 else ""
                found.append(Reason("upstream", label, f"would run first: {own[0].name} {own[0].what}{more}", label))
        return found

    def last(self, one: Declared) -> Ran | None:
        """Of a stage that is up to date: what had changed when it last ran, by the versions of dvc.lock in git."""
        entry = self._lock[one.label]
        for commit, subject in _commits():
            try:
                older = read_lock(
                    f"dvc.lock of {commit}", git("show", f"{commit}:./dvc.lock", folder=self.project.root)
                )
            except TrainyardError:
                return None
            before = older.get(one.label)
            if before is None:
                return Ran("", [Reason("never", one.label, f"had not run by commit {commit}")])
            if before != entry:
                return Ran(f"{commit} {subject}", list(self._between(before, entry, None)))
        return None

    def _own_reasons(self, one: Declared) -> list[Reason]:
        if one.label not in self._own:
            entry = self._lock.get(one.label)
            if entry is None:
                self._own[one.label] = [Reason("never", one.label, "never ran here: dvc.lock has no entry of it")]
            else:
                state, code = self._state(one, entry)
                self._own[one.label] = list(self._between(entry, state, code))
        return self._own[one.label]

    def _before(self, one: Declared) -> list[str]:
        """Labels of all stages that it stands on, nearest first; without check, which any edit reruns."""
        found: dict[str, None] = {}
        pending = [one]
        while pending:
            for dep in pending.pop(0).deps:
                for label in self._made_by(dep):
                    if label not in found and label not in (one.label, CHECK):
                        found[label] = None
                        pending.append(self._declared[label])
        return list(found)

    def _made_by(self, dep: str) -> list[str]:
        return list(
            dict.fromkeys(
                label
                for out, label in self._makers.items()
                if out == dep or out.startswith(f"{dep}/") or dep.startswith(f"{out}/")
            )
        )

    def _state(self, one: Declared, entry: Locked) -> tuple[Locked, dict[str, str] | None]:
        """The entry that a run of now would have, with "" for what is gone; and the digests of its code."""
        params: dict[str, Any] = {}
        code = None
        for section in one.params:
            try:
                params[section] = lookup(self.project.params or {}, section)
            except ParamError:
                params[section] = None
        deps = {}
        for path in one.deps:
            if path == f"{CODE}/{one.name}.json":
                code = code_files(f"stages.{one.name}", self.project.root.resolve())
                deps[path] = hashlib.md5(_as_check_writes(code), usedforsecurity=False).hexdigest()
            else:
                deps[path] = self._in_place(path)
        outs = {path: self._in_place(path) for path in one.outs}
        return Locked(one.label, one.cmd, deps, params, outs), code

    def _in_place(self, path: str) -> str:
        """md5; "" for what isn't in its place, though DVC's cache may have it."""
        return (self.project.files.md5(path) or "") if (self.project.root / path).exists() else ""

    def _between(self, old: Locked, new: Locked, code: dict[str, str] | None) -> Iterator[Reason]:
        """`code`: the digests of the new state, where they are no file in DVC's cache yet."""
        if old.cmd != new.cmd:
            yield Reason("command", new.cmd, f"is the command now; it was `{old.cmd}`")
        for section in dict.fromkeys([*old.params, *new.params]):
            if section in old.params and section in new.params:
                for change in value_changes(plain(old.params[section]), plain(new.params[section]), section):
                    yield Reason("param", f"`{change.name}`", str(change).removeprefix(f"`{change.name}` "))
            else:
                yield Reason("param", f"`{section}`", "is read now" if section in new.params else "is no longer read")
        for path in dict.fromkeys([*old.deps, *new.deps]):
            if path not in old.deps or path not in new.deps:
                yield Reason("dependency", path, "is read now" if path in new.deps else "is no longer read")
            elif old.deps[path] != new.deps[path]:
                yield from self._changed_dep(path, old.deps[path], new.deps[path], code)
        if code is not None or all(new.outs.values()):
            for path in new.outs:
                if old.outs.get(path) != new.outs[path] and old.deps == new.deps:
                    yield Reason("output", path, "is gone" if not new.outs[path] else "isn't what the stage wrote")

    def _changed_dep(self, path: str, old: str, new: str, code: dict[str, str] | None) -> Iterator[Reason]:
        if path.startswith(f"{CODE}/"):
            yield from self._changed_code(old, code if code is not None else self._kept_code(new))
            return
        makers = self._made_by(path)
        told = "is gone" if not new else "changed"
        if new.endswith(".dir") and (inner := _inner(self.project.files, path, old, new)):
            told += f" ({', '.join(inner[:_SHOWN])}{f' and {len(inner) - _SHOWN} more' if len(inner) > _SHOWN else ''})"
        made = f"; made by {', '.join(f'`{label}`' for label in makers[:_SHOWN])}" if makers else ""
        yield Reason("dependency", path, f"{told}{made}", makers[0] if makers else None)

    def _kept_code(self, digest: str) -> dict[str, str] | None:
        place = self.project.files.object(digest)
        try:
            found = json.loads(place.read_bytes())
        except (OSError, ValueError, RecursionError):
            return None
        return found if isinstance(found, dict) else None

    def _changed_code(self, old: str, new: dict[str, str] | None) -> Iterator[Reason]:
        before = self._kept_code(old)
        if before is None or new is None:
            yield Reason(
                "code", "its code", "changed; which module isn't known, as DVC's cache no longer has the older digests"
            )
            return
        changed = sorted(path for path in {*before, *new} if before.get(path) != new.get(path))
        for number, path in enumerate(changed):
            word = (
                "is imported now" if path not in before else "is no longer imported" if path not in new else "changed"
            )
            told = _last_commit(path, self.project.root) if number < _SHOWN and path in new else ""
            yield Reason("code", path, f"{word}{told}")


def _inner(files: Files, folder: str, old: str, new: str) -> list[str]:
    """Files of a folder that differ, where DVC's cache still has both lists or the folder is here."""
    before = files.listing(old)
    if not before:
        return []
    after = files.listing(new) or {
        path.relative_to(files.root / folder).as_posix(): (files.md5(path.relative_to(files.root).as_posix()) or "")
        for path in sorted((files.root / folder).rglob("*"))
        if path.is_file()
    }
    return sorted(path for path in {*before, *after} if before.get(path) != after.get(path))


def _as_check_writes(code: dict[str, str]) -> bytes:
    """`base.files.write_json` of the digests: what data/check/code/<stage>.json will be."""
    return (json.dumps(code, sort_keys=True, indent=2, ensure_ascii=False) + "\n").encode()


def _last_commit(path: str, root: Path) -> str:
    if git("diff", "--name-only", "HEAD", "--", path, folder=root):
        return " (not committed)"
    found = git("log", "-1", "--format=%h %s", "--", path, folder=root)
    return f" (last in {found})" if found else ""


def _commits() -> Iterator[tuple[str, str]]:
    for line in git("log", f"-{_OLDEST}", "--format=%h %s", "--", "dvc.lock").splitlines():
        commit, _, subject = line.partition(" ")
        yield commit, subject


def as_json(one: Declared, found: list[Reason], ran: Ran | None) -> dict[str, Any]:
    def rows(reasons: list[Reason]) -> list[dict[str, Any]]:
        return [{"kind": r.kind, "name": r.name.strip("`"), "what": r.what, "stage": r.stage} for r in reasons]

    last = None if ran is None else {"after": ran.commit, "reasons": rows(ran.reasons)}
    return {"stage": one.label, "changed": bool(found), "reasons": rows(found), "last_run": last}
