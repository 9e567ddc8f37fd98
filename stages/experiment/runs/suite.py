"""Claims as runs: each arm with each seed, the code that it runs, and what becomes of them in the claim's folder."""

import io
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path

from stages.base.errors import ParamError
from stages.base.reference import Schema
from stages.experiment.arms import compose
from stages.experiment.declaration import Declaration
from stages.experiment.runs.graph import Run, graph_of, params_text
from stages.experiment.runs.results import Store


def expand(declarations: Sequence[Declaration], schema: Schema, store: Store) -> list[Run]:
    """The runs of some claims, one an arm and seed, in the order of the declarations. Raises ParamError for params,
    metrics or revisions that aren't there."""
    from stages.experiment.metrics import targets

    runs = []
    for declaration in declarations:
        for name, arm in declaration.arm.items():
            root = store.root if arm.revision is None else code_of(arm.revision, store)
            for seed in declaration.seed_values():
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
    commit = _git(store.root, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}").decode().strip()
    if not commit:
        raise ParamError(f"revision `{revision}`: git doesn't know it; `git log` shows those there are")
    tree = store.folder / "trees" / commit
    if not tree.is_dir():
        prefix = _git(store.root, "rev-parse", "--show-prefix").decode().strip()
        partial = tree.with_name(f".{commit}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        archive = _git(store.root, "archive", "--format=tar", f"{commit}:{prefix}")
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            files.extractall(partial, filter="data")
        try:
            partial.replace(tree)
        except OSError:  # another runner was faster
            shutil.rmtree(partial, ignore_errors=True)
    store.read_lock(tree)
    return tree.resolve()


def _git(folder: Path, *arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, check=False).stdout
