"""The gate before any work: the whole of params.yaml, the sources, the disk; and what code each stage stands on.

It is the first stage of the pipeline and runs again after any edit of code or params. All it writes is, for each stage,
the digests of the files that the stage imports: a stage reruns when its own file of digests has changed.
"""

import importlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from stages.base.closure import code_files
from stages.base.errors import InputError, ParamError, ResourceError
from stages.base.params import Section, lookup, nearest, parse, read_params
from stages.base.pipeline import ITEM_KEY, read_pipeline
from stages.base.record import stage


class CheckParams(Section):
    min_free_disk_gib: Annotated[float, Field(ge=0)]
    min_memory_gib: Annotated[float, Field(ge=0)]


class Seed(Section):
    seed: Annotated[int, Field(ge=0)]


PARAMS: dict[str, type[Section]] = {"check": CheckParams, "run": Seed}
MAY_BE_EMPTY = {"pretraining.branches"}  # of the items, those that no later stage needs


def declared_sections() -> dict[str, type[Section]]:
    """Every params section that some stage module declares; `phase.items.*` stands for each item of a dict."""
    sections: dict[str, type[Section]] = dict(PARAMS)
    try:
        text = Path("dvc.yaml").read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ParamError("dvc.yaml: not found; run from the project's root") from None
    # Not `read_pipeline`: that expands the items of params.yaml, which nobody has checked yet.
    for module in sorted(set(re.findall(r"-m\s+stages\.([\w.]+)", text)) - {"check"}):
        try:
            sections |= importlib.import_module(f"stages.{module}").PARAMS
        except ModuleNotFoundError as error:
            raise ParamError(f"dvc.yaml: stage module stages.{module} can't be imported: {error}") from None
    return sections


def check_params(values: dict[str, Any], sections: dict[str, type[Section]]) -> None:
    """Raises ParamError with every problem of the file in one line, not only the first."""
    problems = []
    for section, model in sections.items():
        try:
            for name, value in _instances(values, section):
                parse(name, value, model)
        except ParamError as error:
            problems.append(str(error))
    try:
        parse("corpus", {"seed": lookup(values, "corpus.seed")}, Seed)
    except ParamError as error:
        problems.append(str(error))
    known = {tuple(section.split(".")) for section in sections} | {("corpus", "seed")}
    problems += _unknown(values, known)
    if problems:
        raise ParamError("; ".join(problems))


def _instances(values: dict[str, Any], section: str) -> Iterator[tuple[str, Any]]:
    if not section.endswith(".*"):
        yield section, lookup(values, section)
        return
    parent = section[:-2]
    items = lookup(values, parent)
    if items == {} and parent in MAY_BE_EMPTY:
        return
    if not isinstance(items, dict) or not items:
        raise ParamError(f"params.yaml: `{parent}` must be a non-empty mapping of items")
    for key, value in items.items():
        if not ITEM_KEY.match(str(key)):
            raise ParamError(f"params.yaml: item key `{parent}.{key}` must match {ITEM_KEY.pattern}")
        yield f"{parent}.{key}", value


def _unknown(values: dict[str, Any], known: set[tuple[str, ...]]) -> list[str]:
    """Phases and stages that no module reads: a misspelt section would otherwise be silently ignored."""
    problems = []
    for phase, stages_of_phase in values.items():
        phases = sorted({path[0] for path in known})
        if phase not in phases:
            problems.append(f"params.yaml: unknown phase `{phase}`{nearest(str(phase), phases)}")
        elif (phase,) not in known and isinstance(stages_of_phase, dict):
            names = sorted({path[1] for path in known if path[0] == phase and len(path) > 1})
            problems += [
                f"params.yaml: unknown section `{phase}.{name}`{nearest(str(name), names)}"
                for name in stages_of_phase
                if name not in names
            ]
    return problems


def check_references(values: dict[str, Any]) -> None:
    """Names that params give to items: a misspelt one would otherwise be met by the last stages of a long run."""
    named = (
        ("judging.baseline.model", "judging.models"),
        ("judging.leaderboard.subject", "judging.models"),
        ("judging.leaderboard.against", "judging.models"),
        ("publishing.report.side_by_side", "judging.models"),
        ("publishing.report.base", "evaluation.checkpoints"),
    )
    problems = []
    for section, parent in named:
        value, items = lookup(values, section), list(lookup(values, parent))
        problems += [
            f"params.yaml: `{section}`: no `{name}` in `{parent}`{nearest(name, items)}"
            for name in (value if isinstance(value, list) else [value])
            if name not in items
        ]
    if problems:
        raise ParamError("; ".join(problems))


def check_item_inputs() -> None:
    """What an item reads (a model's `source`, a checkpoint's `path`) is there, or a stage writes it."""
    pipeline = read_pipeline()
    outs = [out for declared in pipeline for out in declared.outs]
    for declared in (one for one in pipeline if one.item is not None):
        for dep in declared.deps:
            made_here = any(dep == out or dep.startswith(f"{out}/") or out.startswith(f"{dep}/") for out in outs)
            if not made_here and not Path(dep).exists():
                raise InputError(f"params.yaml: `{declared.label}` reads {dep}: not there, and no stage writes it")


def check_sources(values: dict[str, Any]) -> None:
    """Every local path that a source names must be readable before any work starts."""
    upstream = {out for declared in read_pipeline() for out in declared.outs}
    for name, source in lookup(values, "corpus.ingest.sources").items():
        for path in [source["path"]] if source.get("path") else source.get("paths") or []:
            made_here = any(path == out or path.startswith(f"{out}/") for out in upstream)
            if "://" in path or made_here:
                continue
            if not (found := _files_at(path)):
                raise InputError(f"params.yaml: `corpus.ingest.sources.{name}`: nothing readable at {path}")
            for file in found:
                if not os.access(file, os.R_OK):
                    raise InputError(f"params.yaml: `corpus.ingest.sources.{name}`: no permission to read {file}")


def _files_at(path: str) -> list[Path]:
    """What a path or glob pattern stands for; a path that exists is itself, whatever characters it has."""
    pattern = Path(path)
    if pattern.exists():
        return [pattern]
    try:
        return sorted(Path(pattern.anchor or ".").glob(str(pattern.relative_to(pattern.anchor))))
    except (ValueError, NotImplementedError):  # `a**b` is no pattern
        return []


def check_machine(params: CheckParams) -> None:
    """Raises ResourceError if the disk or the memory is too small for the run."""
    free = shutil.disk_usage(".").free / 2**30
    if free < params.min_free_disk_gib:
        raise ResourceError(
            f"{free:.1f} GiB of disk are free, `check.min_free_disk_gib` asks for {params.min_free_disk_gib}; "
            "free some space, or run `dvc gc -w`"
        )
    memory = Path("/proc/meminfo")
    if memory.exists():
        total = int(memory.read_text().split(maxsplit=2)[1]) / 2**20
        if total < params.min_memory_gib:
            raise ResourceError(
                f"{total:.1f} GiB of memory, `check.min_memory_gib` asks for {params.min_memory_gib}; "
                "use a larger machine"
            )


def check() -> None:
    """Raises TrainyardError with the first group of problems."""
    values = read_params()
    check_params(values, declared_sections())
    check_references(values)
    check_item_inputs()
    check_sources(values)
    check_machine(parse("check", values["check"], CheckParams))


def main() -> None:
    with stage("check", CheckParams) as run:
        check()
        for name in sorted({declared.name for declared in read_pipeline()} - {"check"}):
            run.write_json(f"code/{name}.json", code_files(f"stages.{name}"))


if __name__ == "__main__":
    main()
