"""A side of a comparison: a git revision, a DVC experiment, an arm of a claim, or a project's folder.

Params, stages and numbers are read as params.yaml, dvc.lock and reports/metrics.json tell them; files from the folder,
or by their md5 from DVC's cache. Nothing is checked out.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stages.base.errors import InputError
from stages.base.files import read_json
from stages.base.params import lookup, nearest
from stages.base.plain_yaml import parse_yaml, read_yaml
from stages.base.reference import Schema
from stages.base.store import git, project_store
from stages.experiment.arms import compose
from stages.experiment.runs.objects import MissingObject, Objects, cache_folder, md5_file
from stages.experiment.runs.outcomes import ClaimFolder, seed_label
from stages.experiment.runs.results import FOLDER, Store, key_of, open_store

NUMBERS = "reports/metrics.json"
CLAIM = re.compile(r"(?P<claim>[a-z][a-z0-9_-]*):(?P<arm>[a-z][a-z0-9_]*)(@(?P<seed>.+))?")


Stages = dict[str, dict[str, Any]]
"""Label → what DVC compares: cmd, deps and outs as path → md5, params as section → value."""


@dataclass
class Side:
    """One of two things to compare, as far as it is known."""

    name: str
    about: str
    values: dict[str, Any]
    """Of params.yaml."""
    runs: dict[str, Stages]
    """Label of the seed → the stages of the run; one run, "", of what is no arm."""
    numbers: dict[str, float]
    """Of reports/metrics.json."""
    objects: Objects
    folder: Path | None = None
    """Where its files stand themselves."""
    outcomes: list[dict[str, Any]] | None = None
    """Of an arm: rows with metric, seed, item, cluster, value."""
    notes: list[str] = field(default_factory=list)

    @property
    def stages(self) -> Stages:
        """Of the first run."""
        return next(iter(self.runs.values()), {})


def read_side(name: str, schema: Callable[[], Schema]) -> Side:
    """`schema`: what an arm's params are composed by (`base.reference.params_schema` of all sections), if one is asked
    for. Raises InputError for what is none of the four."""
    asked = CLAIM.fullmatch(name)
    if asked and (project_store() / FOLDER / "claims" / asked["claim"]).is_dir():
        return _arm(name, asked["claim"], asked["arm"], asked["seed"], schema)
    if (Path(name) / "dvc.yaml").is_file():
        return _project(name, Path(name))
    if commit := git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}"):
        return _revision(name, commit, "")
    refs = git("for-each-ref", "--format=%(objectname) %(refname)", "refs/exps").splitlines()
    found = [line.split()[0] for line in refs if line.rsplit("/", 1)[-1] == name]
    if len(found) > 1:
        raise InputError(
            f"{name}: {len(found)} DVC experiments have this name; name one by its commit: {' '.join(found)}"
        )
    if found:
        return _revision(name, found[0], "DVC experiment, ")
    claims = sorted(path.name for path in (project_store() / FOLDER / "claims").glob("*"))
    known = f"; claims that have run: {', '.join(claims)}" if asked and claims else ""
    raise InputError(f"{name}: no git revision, DVC experiment, arm of a claim (CLAIM:ARM) or project's folder{known}")


def _revision(name: str, commit: str, kind: str) -> Side:
    def text(path: str) -> str:
        return git("show", f"{commit}:./{path}")

    when = git("show", "-s", "--format=%h, %cs, %s", commit)
    return _side(name, f"{kind}{when}", text, Path())


def _project(name: str, folder: Path) -> Side:
    def text(path: str) -> str:
        return (folder / path).read_text(encoding="utf-8") if (folder / path).is_file() else ""

    side = _side(name, f"folder {folder.resolve()}", text, folder)
    side.folder = folder
    params = folder / "params.yaml"
    ran = next((one["deps"]["params.yaml"] for one in side.stages.values() if "params.yaml" in one["deps"]), None)
    if ran and params.is_file() and md5_file(params) != ran:
        side.notes.append(f"{name}: params.yaml was edited after the last run; numbers and stages are that run's")
    return side


def _side(name: str, about: str, text: Callable[[str], str], folder: Path) -> Side:
    """A project whose files `text` reads; "" for one that isn't there."""
    loaded: dict[str, Any] = {}
    for path in ("params.yaml", "dvc.lock", NUMBERS):
        loaded[path] = parse_yaml(text(path), f"{name}: {path}") or {}
        if not isinstance(loaded[path], dict):
            raise InputError(f"{name}: {path}: must be a mapping")
    if not loaded["params.yaml"]:
        raise InputError(f"{name}: no params.yaml there; is it a revision of this project?")
    stages = {label: _entry(entry) for label, entry in (loaded["dvc.lock"].get("stages") or {}).items()}
    numbers = {key: float(one) for key, one in loaded[NUMBERS].items() if isinstance(one, int | float)}
    notes = [] if stages else [f"{name}: no dvc.lock, so its stages and tables are unknown; `dvc repro` writes it"]
    return Side(name, about, loaded["params.yaml"], {"": stages}, numbers, Objects(cache_folder(folder)), notes=notes)


def _entry(entry: Mapping[str, Any]) -> dict[str, Any]:
    digests = {kind: {one["path"]: one.get("md5", "") for one in entry.get(kind, [])} for kind in ("deps", "outs")}
    return {"cmd": entry.get("cmd"), "params": (entry.get("params") or {}).get("params.yaml", {}), **digests}


def _arm(name: str, claim: str, arm: str, seed: str | None, schema: Callable[[], Schema]) -> Side:
    """The runs of one arm of a claim, or one of them. The params are those of the first seed."""
    declaration = (folder := ClaimFolder(claim, store := open_store())).declared()
    if declaration is None:
        raise InputError(f"{name}: the claim hasn't run; `trainyard experiment run experiments/{claim}.yaml`")
    if arm not in declaration.arms:
        raise InputError(f"{name}: no arm `{arm}` in the claim{nearest(arm, list(declaration.arms))}")
    seeds = {seed_label(values): values for values in declaration.seed_values()}
    if seed is not None and seed not in seeds:
        raise InputError(f"{name}: no seed `{seed}` in the claim; its seeds: {'; '.join(seeds)}")
    chosen = {seed: seeds[seed]} if seed is not None else seeds
    first = compose(declaration, arm, next(iter(chosen.values())), schema())
    runs: dict[str, Stages] = {}
    for (one, label), run in folder.runs().items():
        if one == arm and label in chosen and run["status"] == "finished":
            values = compose(declaration, arm, chosen[label], schema())
            runs[label] = {
                stage: told | {"params": {section: lookup(values, section) for section in told["params"]}}
                for stage, told in instances(run["instances"], store).items()
            }
    rows = folder.outcomes().to_pylist()
    outcomes = [row for row in rows if row["arm"] == arm and row["seed"] in chosen]
    about = f"arm {arm} of claim {claim}, " + (f"seed {seed}" if seed else f"{len(chosen)} seeds")
    notes = [] if outcomes else [f"{name}: no run of it has numbers"]
    return Side(name, about, first, runs, {}, store.objects, outcomes=outcomes, notes=notes)


def instances(keys: Mapping[str, str], store: Store) -> dict[str, dict[str, Any]]:
    """Label → cmd, deps, outs (path → md5) and params (names of sections) of the stage instances with these keys, as
    far as they are known."""
    lock = store.root / "dvc.lock"
    content = read_yaml(lock) if lock.is_file() else None
    entries = [_entry(one) for one in ((content or {}).get("stages") or {}).values()]
    locked = {key_of(one["cmd"], one["deps"], one["params"]): one for one in entries}
    found = {}
    for label, key in keys.items():
        if key in locked:
            found[label] = locked[key] | {"params": list(locked[key]["params"])}
            continue
        try:
            record = read_json(store.instance_file(key))
            known = {name: record[name] for name in ("cmd", "deps", "params")}
            found[label] = known | {"outs": record["result"]["outs"]}
        except (InputError, KeyError, TypeError):  # removed since
            continue
    return found


def place_files(side: Side, run: str, files: Sequence[str], scratch: Path) -> bool:
    """Let files of a run stand below `scratch`; False where no stage of it writes one.

    Raises MissingObject for one that is neither in the side's folder nor in the cache.
    """
    for file in files:
        source = side.folder / file if side.folder else None
        if source is None or not source.is_file():
            digest = digest_of(side.runs[run], file, side.objects)
            if digest is None:
                return False
            source = side.objects.path(digest)
            if not source.is_file():
                raise MissingObject(digest)
        target = scratch / file
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.is_symlink():
            target.symlink_to(source.resolve())
    return True


def digest_of(stages: Stages, file: str, objects: Objects) -> str | None:
    """md5 of a file that a stage wrote, alone or in a folder; None where none did. Raises MissingObject for a folder
    whose list of files isn't in the cache."""
    for stage in stages.values():
        for out, digest in stage["outs"].items():
            if file == out:
                return digest
            if digest and file.startswith(f"{out}/"):
                return objects.within(digest, file[len(out) + 1 :])
    return None
