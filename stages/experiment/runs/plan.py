"""What running some claims would take, without running anything: the instances to run and to reuse, and their time."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stages.base.reference import Schema
from stages.experiment.declaration import Declaration
from stages.experiment.runs.graph import Run, resolve
from stages.experiment.runs.results import Store, open_store


@dataclass(frozen=True)
class Planned:
    """A distinct stage instance, of one run or of many."""

    key: str
    label: str
    name: str
    """`<phase>.<stage>`"""
    known: bool
    """Nothing is left to run."""
    cpu_seconds: float | None
    """To expect, or what a known one took; None: it has never been timed."""
    wall_seconds: float | None
    claims: tuple[str, ...]


@dataclass
class Plan:
    """The instances that some claims stand on, each counted once."""

    instances: list[Planned] = field(default_factory=list)
    runs: int = 0
    finished_runs: int = 0
    """Runs of which nothing is left to do."""

    @property
    def to_run(self) -> list[Planned]:
        return [one for one in self.instances if not one.known]

    @property
    def reused(self) -> list[Planned]:
        return [one for one in self.instances if one.known]

    @property
    def cpu_seconds(self) -> float:
        """Of the instances to run, those that were never timed left out (`untimed`)."""
        return sum(one.cpu_seconds or 0.0 for one in self.to_run)

    @property
    def untimed(self) -> list[str]:
        """Labels of the instances to run that nobody knows the time of."""
        return sorted({one.label for one in self.to_run if one.cpu_seconds is None})


def plan(declarations: Sequence[Declaration], schema: Schema, root: Path = Path()) -> Plan:
    """`schema`: what `base.reference.params_schema` makes of all sections. Raises ParamError for params or metrics that
    the pipeline doesn't have."""
    from stages.experiment.runs.suite import expand

    store = open_store(root)
    return forecast(expand(declarations, schema, store), store)


def forecast(runs: Sequence[Run], store: Store) -> Plan:
    """The plan of some runs. Keys of what stands on unknown results are made up: equal where the real ones would be."""
    found: dict[str, Planned] = {}
    claims: dict[str, dict[str, None]] = {}
    plan = Plan(runs=len(runs))
    for run in runs:
        resolved = resolve(run, store, forecast=True)
        plan.finished_runs += resolved.done
        for index, place in enumerate(resolved.places):
            one, known = place.instance, index not in resolved.needed
            key = place.key or f"{run.name} {one.label}"
            claims.setdefault(key, {})[run.claim] = None
            if key in found:
                continue
            result = place.result
            if result is not None and result.cpu_seconds is not None:
                seconds: tuple[float | None, float | None] = (result.cpu_seconds, result.wall_seconds)
            else:
                seconds = store.seconds(one.label, one.cmd, run.scale) or (None, None)
            found[key] = Planned(key, one.label, one.name, known, *seconds, ())
    plan.instances = [Planned(**{**vars(one), "claims": tuple(claims[key])}) for key, one in found.items()]
    return plan
