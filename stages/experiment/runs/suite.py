"""Claims as runs: each arm with each seed, the code that it runs, and what becomes of them in the claim's folder."""

import io
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.base.contracts.claim import Verdict
from stages.base.errors import InputError, ParamError
from stages.base.reference import Schema
from stages.base.store import git
from stages.experiment.arms import compose
from stages.experiment.declaration import Declaration
from stages.experiment.metrics import asked_for, targets
from stages.experiment.runs.graph import Run, graph_of, params_text
from stages.experiment.runs.outcomes import ClaimFolder, cost_of, outcome_table, read_run, seed_label
from stages.experiment.runs.plan import Plan, forecast
from stages.experiment.runs.results import Store, open_store
from stages.experiment.runs.scheduler import Finished, Scheduler, Tally
from stages.experiment.runs.workers import workers

Show = Callable[[Tally], None]


@dataclass(frozen=True)
class Concluded:
    """A claim as far as it has come: what its folder holds."""

    declaration: Declaration
    folder: ClaimFolder
    finished: list[Finished]
    """In the order of arms and seeds."""
    outcomes: Any
    """pyarrow table (`outcomes.outcome_table`)."""
    verdict: Verdict
    cost: dict[str, Any]
    deviated: str
    """What was edited after the first run; "" for nothing."""


def run(
    declarations: Sequence[Declaration],
    schema: Schema,
    store: Store | None = None,
    page: Callable[[Callable[[], Plan], int], Show] | None = None,
    refused: Mapping[str, Sequence[str]] | None = None,
) -> list[Concluded]:
    """Run claims to their verdicts; what they share, and what is known, runs once or not at all.

    page: makes the function that shows progress, of a forecast of what is left and the number of workers; refused:
    claim → why the check refuses it (it isn't run). Raises ParamError for params, metrics or revisions that aren't
    there; what fails in a run is in its `Finished`.
    """
    store = store or open_store()
    refused = refused or {}
    folders = {one.name: ClaimFolder(one.name, store) for one in declarations}
    deviated = {one.name: folders[one.name].freeze(one) for one in declarations if one.name not in refused}
    seeds = {one.name: (one.looks.at[0] if one.looks else len(one.seed_values())) for one in declarations}
    concluded: dict[str, Concluded] = {}
    due = list(declarations)
    while due:
        runs = {one.name: [] if one.name in refused else expand([one], schema, store, seeds[one.name]) for one in due}
        ended = _schedule([run for some in runs.values() for run in some], due, store, folders, page)
        for one in due:
            finished = [ended[run] for run in runs[one.name]]
            why = refused.get(one.name, ())
            concluded[one.name] = conclude(one, folders[one.name], finished, store, deviated.get(one.name, ""), why)
        due = [one for one in due if _look_again(one, concluded[one.name], seeds)]
    return [concluded[one.name] for one in declarations]


def _schedule(
    runs: Sequence[Run],
    declarations: Sequence[Declaration],
    store: Store,
    folders: Mapping[str, ClaimFolder],
    page: Callable[[Callable[[], Plan], int], Show] | None,
) -> dict[Run, Finished]:
    named = {one.name: one for one in declarations}
    pool = workers()
    scheduler = Scheduler(runs, store, pool)
    show = page(lambda: forecast(scheduler.open_runs, store), pool.count) if page else lambda tally: None
    ended = scheduler.run(lambda one: folders[one.run.claim].log(one, named[one.run.claim]), show)
    return {one.run: one for one in ended}


def _look_again(declaration: Declaration, so_far: Concluded, seeds: dict[str, int]) -> bool:
    """Whether the next look of a sequential claim is due: this one left it open, and every run has ended well."""
    looks = declaration.looks
    later = [n for n in looks.at if n > seeds[declaration.name]] if looks else []
    if not later or so_far.verdict.verdict != "undecided" or any(one.failed for one in so_far.finished):
        return False
    seeds[declaration.name] = later[0]
    return True


def conclude(
    declaration: Declaration,
    folder: ClaimFolder,
    finished: Sequence[Finished],
    store: Store,
    deviated: str = "",
    refused: Sequence[str] = (),
) -> Concluded:
    """Read what runs gave, and write outcomes, cost and verdict into the claim's folder. A run whose numbers can't be
    read counts as failed."""
    from stages.experiment.verdict import decide

    rows: list[dict[str, Any]] = []
    told: list[Finished] = []
    for one in finished:
        if not one.failed:
            try:
                rows += read_run(one.run, asked_for(declaration, one.run.values), store)
            except InputError as error:
                one = Finished(one.run, one.keys, "outcome", str(error))
                folder.log(one, declaration)
        told.append(one)
    waits = [
        f"arm {one.run.arm}, seed {seed_label(one.run.seed)} ({one.failed} failed: {one.reason})"
        for one in told
        if one.failed
    ]
    table = outcome_table(rows)
    try:
        verdict = decide(declaration, table, deviated=deviated, refused=refused, waits=waits)
    except InputError as error:
        verdict = decide(declaration, table, refused=[str(error)])
    cost = cost_of(declaration.name, told, store)
    folder.write(table, cost, verdict)
    return Concluded(declaration, folder, told, table, verdict, cost, deviated)


def expand(declarations: Sequence[Declaration], schema: Schema, store: Store, seeds: int | None = None) -> list[Run]:
    """The runs of some claims, one an arm and seed, in the order of the declarations; seeds: only the first so many.
    Raises ParamError for params, metrics or revisions that aren't there."""
    runs = []
    for declaration in declarations:
        for name, arm in declaration.arm.items():
            root = store.root if arm.revision is None else code_of(arm.revision, store)
            for seed in declaration.seed_values()[:seeds]:
                values = compose(declaration, name, seed, schema)
                try:
                    graph = graph_of(root, values, targets(declaration, values))
                except ParamError as error:
                    raise ParamError(f"{declaration.path or declaration.name}: arm `{name}`: {error}") from None
                text = params_text(root, values)
                runs.append(Run(declaration.name, name, seed, root, values, text, graph, tuple(declaration.scale)))
    return runs


def code_of(revision: str, store: Store) -> Path:
    """The files of a git revision, in the project's store. Raises ParamError for a revision that git doesn't know."""
    commit = git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}", folder=store.root)
    if not commit:
        raise ParamError(f"revision `{revision}`: git doesn't know it; `git log` shows those there are")
    tree = store.folder / "trees" / commit
    if not tree.is_dir():
        prefix = git("rev-parse", "--show-prefix", folder=store.root)
        partial = tree.with_name(f".{commit}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        words = ["git", "archive", "--format=tar", f"{commit}:{prefix}"]
        archive = subprocess.run(words, cwd=store.root, capture_output=True, check=False).stdout
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            files.extractall(partial, filter="data")
        try:
            partial.replace(tree)
        except OSError:  # another runner was faster
            shutil.rmtree(partial, ignore_errors=True)
    store.read_lock(tree)
    return tree.resolve()
