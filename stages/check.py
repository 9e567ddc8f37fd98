"""The gate before any work: the whole of params.yaml, the sources, the disk; and what code each stage stands on.

It is the first stage of the pipeline and runs again after any edit of code or params. All it writes is, for each stage,
the digests of the files that the stage imports: a stage reruns when its own file of digests has changed.
"""

import importlib
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


def declared_sections() -> dict[str, type[Section]]:
    """Every params section that some stage module declares; `phase.items.*` stands for each item of a dict."""
    sections: dict[str, type[Section]] = dict(PARAMS)
    for module in sorted({declared.name for declared in read_pipeline()} - {"check"}):
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
            problems.append(f"params.yaml: unknown phase `{phase}`{nearest(phase, phases)}")
        elif (phase,) not in known and isinstance(stages_of_phase, dict):
            names = sorted({path[1] for path in known if path[0] == phase and len(path) > 1})
            problems += [
                f"params.yaml: unknown section `{phase}.{name}`{nearest(name, names)}"
                for name in stages_of_phase
                if name not in names
            ]
    return problems


def check_sources(values: dict[str, Any]) -> None:
    """Every local path that a source names must be readable before any work starts."""
    upstream = {out for declared in read_pipeline() for out in declared.outs}
    for name, source in lookup(values, "corpus.ingest.sources").items():
        for path in [source["path"]] if source.get("path") else source.get("paths") or []:
            made_here = any(path == out or path.startswith(f"{out}/") for out in upstream)
            if "://" in path or made_here:
                continue
            pattern = Path(path)
            found = sorted(Path(pattern.anchor or ".").glob(str(pattern.relative_to(pattern.anchor))))
            if not found:
                raise InputError(f"params.yaml: `corpus.ingest.sources.{name}`: nothing readable at {path}")


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
    check_sources(values)
    check_machine(parse("check", values["check"], CheckParams))


def main() -> None:
    with stage("check", CheckParams) as run:
        check()
        for name in sorted({declared.name for declared in read_pipeline()} - {"check"}):
            run.write_json(f"code/{name}.json", code_files(f"stages.{name}"))


if __name__ == "__main__":
    main()
