"""The folder in which one stage instance runs: what it reads, linked from the cache; the code; its params.

Nothing in it is the project's own: the project's data/ and reports/ aren't even in sight. What is left of a killed
instance is swept, but for the checkpoints that its stage goes on from.
"""

import os
import re
import shlex
import shutil
from pathlib import Path

from stages.base.errors import InputError, ParamError
from stages.base.store import SIDE
from stages.experiment.runs.graph import Place, Run
from stages.experiment.runs.objects import IGNORE, Ignored
from stages.experiment.runs.results import PARAMS, Store
from stages.experiment.runs.workers import Job

OWN = {"data", "reports", "dvc.lock", PARAMS, "mlruns"}  # what a run has of its own, or none of
FOLDER = "project"


def command(place: Place) -> tuple[str, tuple[str, ...]]:
    """Module and arguments of `python -m module arguments`. Raises ParamError for another command."""
    words = shlex.split(place.instance.cmd)
    if words[:2] != ["python", "-m"] or len(words) < 3:
        raise ParamError(f"dvc.yaml: stage `{place.instance.label}` must run `python -m module`, not `{words[0]}`")
    return words[2], tuple(words[3:])


def prepare(run: Run, place: Place, store: Store) -> Job:
    """Raises MissingObject for content that has gone from the cache; InputError for what isn't there from outside."""
    module, arguments = command(place)
    assert place.key is not None
    home = store.folder / "work" / place.key
    folder = home / FOLDER
    _sweep(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for entry in sorted(run.root.iterdir()):
        if entry.name not in OWN and (not entry.name.startswith(".") or entry.name == IGNORE):
            (folder / entry.name).symlink_to(entry)
    (folder / PARAMS).write_text(run.text, encoding="utf-8")
    externals = store.externals(run.root)
    if changed := externals.changed():
        raise InputError(f"{changed}: was edited while experiments ran; run the same command again")
    for path in run.graph.externals:
        target = Path(os.path.normpath(folder / path))
        if "://" not in path and not Path(path).is_absolute() and not target.exists():
            if not target.is_relative_to(home):
                raise ParamError(f"{path}: lies too far above the project for an experiment; give the whole path")
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.is_symlink():
                target.symlink_to(externals.place(path).resolve())
    for path, digest in place.deps.items():
        if path != PARAMS and path not in run.graph.externals:
            store.objects.link(digest, folder / path)
    for out in place.instance.outs:
        (folder / out).parent.mkdir(parents=True, exist_ok=True)
    return Job(place.key, place.instance.label, module, arguments, run.root, folder, home)


def _sweep(folder: Path) -> None:
    for entry in folder.iterdir() if folder.is_dir() else ():
        if entry.is_symlink() or not entry.is_dir():
            entry.unlink()
        elif entry.name != SIDE.name:
            shutil.rmtree(entry)


def collect(job: Job, place: Place, store: Store) -> dict[str, str]:
    """Digests of what an instance wrote, all of it stored. Raises InputError for an out that it didn't write."""
    ignored = Ignored(job.folder)
    outs = {}
    for out in place.instance.outs:
        if not (job.folder / out).exists():
            raise InputError(f"{place.instance.label}: ended without writing {out}")
        outs[out] = store.objects.add(job.folder / out, ignored)
    return outs


def discard(job: Job) -> None:
    shutil.rmtree(job.logs, ignore_errors=True)


def last_words(job: Job, status: int) -> str:
    """Why an instance failed: the last line that it wrote to stderr."""
    try:
        lines = (job.logs / "stderr").read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        lines = []
    said = next((line.strip() for line in reversed(lines) if line.strip()), "")
    if status == -9:
        return "killed (signal 9), most likely for memory; set TRAINYARD_WORKERS lower"
    if status < 0:
        return f"killed by signal {-status}" + (f" after: {said}" if said else "")
    return re.sub(r"^trainyard: ([\w.@]+: )?", "", said) or f"ended with exit status {status} and said nothing"
