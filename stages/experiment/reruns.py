"""Other trainings of the leaderboard's models: the verdicts on one arm's runs, as the leaderboard reads them."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from stages.base.artifacts import JUDGED
from stages.base.errors import InputError, ParamError
from stages.base.files import atomic_path
from stages.base.params import nearest
from stages.base.reference import Schema
from stages.base.scales import Values, leaves
from stages.experiment.declaration import SEED, Declaration
from stages.experiment.runs.graph import Run, graph_of, resolve
from stages.experiment.runs.outcomes import target_digests
from stages.experiment.runs.results import Store
from stages.experiment.runs.suite import expand

FILES = {"annotations": ".parquet", "exact": ".exact.parquet"}


def export(
    declaration: Declaration, arm: str, models: Sequence[str], values: Values, schema: Schema, store: Store, out: Path
) -> list[str]:
    """Copy what is judged of these models in an arm's runs to `out`: <seed>/<model>.parquet and <model>.exact.parquet.
    Returns what was written, as <seed>/<model>; models that a run didn't judge are left out. values: the project's
    params, which the runs must have had but for run.seed.

    Raises ParamError for an unknown arm, for other seeds than run.seed or for params that differ, InputError where
    nothing was judged.
    """
    name = declaration.name
    if arm not in declaration.arms:
        raise ParamError(f"--arm {arm}: `{name}` has no such arm{nearest(arm, list(declaration.arms))}")
    if declaration.axes != [SEED]:
        axes = ", ".join(declaration.axes)
        raise ParamError(f"{name}: its seeds are {axes}; other trainings of the leaderboard's models differ in {SEED}")
    if revision := declaration.arm[arm].revision:
        raise ParamError(f"{name}: arm `{arm}` runs revision {revision}; export one that runs the project's code")
    own, written = dict(leaves(values)), []
    for run in expand([declaration], schema, store):
        if run.arm != arm:
            continue
        theirs = dict(leaves(run.values))
        if others := [key for key in theirs.keys() | own.keys() if key != SEED and theirs.get(key) != own.get(key)]:
            raise ParamError(
                f"{name}: arm `{arm}` isn't what the leaderboard's models were trained with (`{min(others)}`); export "
                f"one that differs from params.yaml in {SEED} alone"
            )
        for model in models:
            if found := _judged(run, model, store):
                written.append(f"{run.seed[SEED]}/{model}")
                for file, md5 in found.items():
                    with atomic_path(out / f"{written[-1]}{FILES[file]}") as temporary:
                        shutil.copyfile(store.objects.path(md5), temporary)
    if not written:
        raise InputError(
            f"{name}: no run of arm `{arm}` has judged {', '.join(models)}; name their metrics, such as "
            f"{models[0]}/win_rate, in the claim's `metrics` and run it"
        )
    return written


def _judged(run: Run, model: str, store: Store) -> dict[str, str]:
    """File → digest; nothing where the run hasn't judged the model."""
    paths = {name: f"{JUDGED}/{model}/{name}.parquet" for name in FILES}
    try:
        graph = graph_of(run.root, run.values, list(paths.values()))
    except ParamError:
        return {}
    judged = Run(run.claim, run.arm, run.seed, run.root, run.values, run.text, graph, run.scale)
    if resolve(judged, store).needed:
        return {}
    digests = target_digests(judged, store)
    return {name: md5 for name, path in paths.items() if (md5 := digests[path])}
