"""An arm's run as a work tree has it: its params.yaml and the entries of its dvc.lock.

With both written, `dvc checkout` puts the run's files in place and `dvc repro` of what the claim is about runs nothing.
"""

import io
from pathlib import Path
from typing import Any

from stages.base.errors import InputError, ParamError
from stages.base.files import atomic_path
from stages.base.params import lookup
from stages.base.scales import render
from stages.base.store import git
from stages.experiment.runs.graph import Run, resolve
from stages.experiment.runs.objects import MissingObject
from stages.experiment.runs.results import PARAMS, Store

LOCK = "dvc.lock"


def lock_of(run: Run, store: Store, text: str | None = None) -> str:
    """dvc.lock of the instances that a finished run stands on; text: params.yaml as it will stand there, if that is
    written otherwise than in the run.

    Raises InputError for a run that isn't finished, or whose files have gone from DVC's cache.
    """
    return _dump({"schema": "2.0", "stages": _entries(run, store, run.text if text is None else text)})


def _entries(run: Run, store: Store, text: str) -> dict[str, Any]:
    resolved = resolve(run, store)
    if not resolved.done:
        raise InputError(f"{run.name}: hasn't run to its end; `trainyard experiment run` the claim first")
    stages: dict[str, Any] = {}
    for place in resolved.places:
        one = place.instance
        assert place.result is not None and place.outs is not None
        deps = []
        for path in sorted(place.deps):
            if path == PARAMS:
                deps.append(_file(path, store.text_digest(text), (len(text.encode()), 1)))
                continue
            outside = path in run.graph.externals
            try:
                size = store.externals(run.root).size(path) if outside else store.objects.size(place.deps[path])
            except MissingObject:
                raise InputError(f"{run.name}: {path} has gone from DVC's cache; run the claim again") from None
            deps.append(_file(path, place.deps[path], size))
        entry: dict[str, Any] = {"cmd": one.cmd, "deps": deps}
        if one.params:
            entry["params"] = {PARAMS: {section: lookup(run.values, section) for section in sorted(one.params)}}
        entry["outs"] = [_file(path, place.outs[path], place.result.sizes[path]) for path in sorted(place.outs)]
        stages[one.label] = entry
    return stages


def _file(path: str, md5: str, size: tuple[int, int]) -> dict[str, Any]:
    entry = {"path": path, "hash": "md5", "md5": md5, "size": size[0]}
    return {**entry, "nfiles": size[1]} if md5.endswith(".dir") else entry


def _dump(content: dict[str, Any]) -> str:
    """In the form in which DVC writes it: by YAML 1.2, which quotes other words than 1.1."""
    from ruamel.yaml import YAML

    form = YAML()
    form.default_flow_style = False
    out = io.StringIO()
    form.dump(content, out)
    return out.getvalue()


def check_out(run: Run, store: Store) -> list[Path]:
    """Write params.yaml and dvc.lock of a finished run into the project's work tree; entries of stages that the run
    doesn't stand on stay as they are.

    Raises ParamError for an arm of another revision, InputError where either file has changes that git doesn't have.
    """
    from ruamel.yaml import YAML

    root = store.root
    if run.root != root:
        raise ParamError(
            f"arm `{run.arm}` runs another revision's code; `git worktree add` that revision, and check out there"
        )
    if git("rev-parse", "HEAD", folder=root) == "":
        raise InputError(f"{root}: no git repository with a commit, so nothing could bring its params.yaml back")
    if changed := git("status", "--porcelain", "--", PARAMS, LOCK, folder=root):
        names = ", ".join(line.split()[-1] for line in changed.splitlines())
        raise InputError(f"{names}: has changes that aren't committed; commit them or `git restore` them first")
    own = (root / PARAMS).read_text(encoding="utf-8")
    text = own if run.text == own else render(root / PARAMS, run.values)
    entries = _entries(run, store, text)
    path = root / LOCK
    lock = YAML(typ="safe").load(path.read_text(encoding="utf-8")) if path.exists() else {}
    merged = _dump({"schema": "2.0", "stages": {**(lock.get("stages") or {}), **entries}})
    for name, content in ((PARAMS, text), (LOCK, merged)):
        with atomic_path(root / name) as temporary:
            temporary.write_text(content, encoding="utf-8")
    return [root / PARAMS, path]
