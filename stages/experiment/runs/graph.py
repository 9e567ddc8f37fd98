"""Runs as graphs of stage instances: what a metric's files stand on, and the key that says when two instances are one.

A key is a digest of the command, the digests of what the instance reads and the params that it declares: what DVC
compares before it runs a stage. Code is among them, through the files of `data/check/code/`. Two runs share every
instance of one key, and an entry of dvc.lock is a result of its key.
"""

import hashlib
import json
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from stages.base.errors import InputError, ParamError
from stages.base.params import lookup, nearest
from stages.base.pipeline import Declared, read_pipeline
from stages.experiment.runs.objects import MissingObject
from stages.experiment.runs.results import PARAMS, Result, Store, key_of, shape_of

UNKNOWN = "?"  # a digest that begins with it stands for content that nobody has made yet


class Source(NamedTuple):
    """Where a path comes from: `makers`, the instances that write it (each with the out, and where that stands below
    the path); `inner`, the place of the path in the only maker's out. No makers: from outside the pipeline."""

    path: str
    makers: tuple[tuple[int, str, str], ...]
    inner: str = ""


@dataclass(frozen=True)
class Graph:
    """The instances that some files stand on, each behind all that it reads."""

    instances: tuple[Declared, ...]
    sources: tuple[tuple[Source, ...], ...]
    """Of the deps of each instance."""
    targets: tuple[Source, ...]
    labels: tuple[str, ...]
    """Of the whole pipeline."""
    externals: frozenset[str]
    """Deps, of the whole pipeline, that no stage writes."""


@dataclass(frozen=True, eq=False)
class Run:
    """One arm with one seed: a set of params, and the files that are wanted of it."""

    claim: str
    arm: str
    seed: Mapping[str, int]
    """Axis → value."""
    root: Path
    """Whose code runs it: the work tree, or that of another revision."""
    values: dict[str, Any]
    text: str
    """params.yaml."""
    graph: Graph
    scale: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return " ".join([self.claim, self.arm, *(f"{axis}={value}" for axis, value in self.seed.items())])


def params_text(root: Path, values: dict[str, Any]) -> str:
    """`values` as a params.yaml: the project's own text if they are its own, else JSON, which every YAML reader reads
    alike."""
    from stages.base.plain_yaml import parse_yaml

    path = root / PARAMS
    own = path.read_text(encoding="utf-8") if path.is_file() else ""
    if own not in _PARSED:
        _PARSED[own] = parse_yaml(own, path)
    return own if _PARSED[own] == values else json.dumps(values, ensure_ascii=False) + "\n"


_PARSED: dict[str, Any] = {}


def graph_of(root: Path, values: dict[str, Any], targets: Sequence[str]) -> Graph:
    """What the targets stand on, for these params. Raises ParamError for a target that no stage writes and that isn't
    there."""
    pipeline = tuple(read_pipeline(root, values))
    key = (root, pipeline, tuple(targets))
    if key not in _GRAPHS:
        _GRAPHS[key] = _build(root, pipeline, targets)
    return _GRAPHS[key]


_GRAPHS: dict[Any, Graph] = {}


@cache
def _upwards(path: str) -> tuple[str, ...]:
    """The path and all that it lies in."""
    return (str(PurePosixPath(path)), *map(str, PurePosixPath(path).parents))


def _build(root: Path, pipeline: Sequence[Declared], targets: Sequence[str]) -> Graph:
    outs = {out: index for index, one in enumerate(pipeline) for out in one.outs}
    below: dict[str, list[str]] = {}
    for out in outs:
        for parent in _upwards(out)[1:]:
            below.setdefault(parent, []).append(out)

    def source(path: str) -> Source:
        path, *parents = _upwards(path)
        for place in (path, *parents):
            if place in outs:
                return Source(path, ((outs[place], place, ""),), path[len(place) + 1 :])
        inner = sorted(below.get(path, []))
        return Source(path, tuple((outs[out], out, out[len(path) + 1 :]) for out in inner))

    sources = {index: tuple(map(source, one.deps)) for index, one in enumerate(pipeline)}
    wanted = tuple(map(source, targets))
    for one in wanted:
        if not one.makers and not (root / one.path).exists():
            raise ParamError(f"{one.path}: no stage of dvc.yaml writes it{nearest(one.path, sorted(outs))}")
    order: list[int] = []
    state: dict[int, bool] = {}  # False while an instance's deps are being placed

    def place(index: int) -> None:
        if index in state:
            if not state[index]:
                raise ParamError(f"dvc.yaml: stage `{pipeline[index].label}` stands on itself")
            return
        state[index] = False
        for dep in sources[index]:
            for maker, _, _ in dep.makers:
                place(maker)
        state[index] = True
        order.append(index)

    for one in wanted:
        for maker, _, _ in one.makers:
            place(maker)
    number = {index: position for position, index in enumerate(order)}

    def renumbered(one: Source) -> Source:
        return one._replace(makers=tuple((number[maker], out, at) for maker, out, at in one.makers))

    return Graph(
        instances=tuple(pipeline[index] for index in order),
        sources=tuple(tuple(map(renumbered, sources[index])) for index in order),
        targets=tuple(map(renumbered, wanted)),
        labels=tuple(one.label for one in pipeline),
        externals=frozenset(
            dep.path for deps in sources.values() for dep in deps if not dep.makers and dep.path != PARAMS
        ),
    )


@dataclass
class Place:
    """An instance of a run: its key and what it wrote, as far as they are known."""

    instance: Declared
    key: str | None = None
    deps: dict[str, str] = field(default_factory=dict)
    outs: dict[str, str] | None = None
    result: Result | None = None


@dataclass
class Resolved:
    """A run as far as its keys are known; `needed` are the positions of instances that must (still) run."""

    places: list[Place]
    needed: set[int]
    ready: list[int]
    """Of those needed, the ones whose deps are there."""

    @property
    def done(self) -> bool:
        return not self.needed


def resolve(run: Run, store: Store, *, forecast: bool = False) -> Resolved:
    """Which instances of a run are known and which must run.

    An instance has a key when all it reads has been made. forecast: keys of the others are made up from the keys of
    what they stand on, so that they can be counted, each once; a stage that reads the whole of params.yaml is taken to
    write what it wrote for other params (`store.expect`).
    """
    graph = run.graph
    places = [Place(one) for one in graph.instances]
    needed: set[int] = set()
    for index, place in enumerate(places):
        one = place.instance
        try:
            place.deps = {source.path: digest(source, places, store, run) for source in graph.sources[index]}
        except _Unmade:
            continue
        except MissingObject:  # the list of files of a folder is gone: whoever wrote it writes it again
            needed.update(
                maker for source in graph.sources[index] for maker in _incomplete(source, places, store, needed)
            )
            continue
        params = {section: lookup(run.values, section) for section in one.params}
        place.key = key_of(one.cmd, place.deps, params)
        exact = not any(md5.startswith(UNKNOWN) for md5 in place.deps.values())
        place.result = store.get(place.key) if exact else None
        if place.result is not None:
            place.outs = place.result.outs
            continue
        needed.add(index)
        if forecast:
            whole = PARAMS in one.deps
            origin = shape_of_place(run, place) if whole else place.key
            expected = store.expect(origin) if whole else None
            place.outs = expected or {out: f"{UNKNOWN}{origin}/{out}" for out in one.outs}
        elif not exact:
            place.key = None
    _add_missing(graph, places, needed, store)
    ready = [
        index
        for index in sorted(needed)
        if places[index].key and not any(maker in needed for dep in graph.sources[index] for maker, _, _ in dep.makers)
    ]
    return Resolved(places, needed, ready)


class _Unmade(Exception):
    """A dep that an instance of the run has yet to write."""


def digest(source: Source, places: Sequence[Place], store: Store, run: Run) -> str:
    """The digest of a path, DVC's own."""
    if not source.makers:
        return store.text_digest(run.text) if source.path == PARAMS else store.externals(run.root).digest(source.path)
    parts = []
    for maker, out, at in source.makers:
        outs = places[maker].outs
        if outs is None:
            raise _Unmade(source.path)
        parts.append((at, outs[out]))
    if any(md5.startswith(UNKNOWN) for _, md5 in parts):
        return UNKNOWN + hashlib.sha256(json.dumps([source.inner, parts]).encode()).hexdigest()
    if len(parts) == 1 and not parts[0][0]:
        md5 = parts[0][1]
        try:
            return store.objects.within(md5, source.inner) if source.inner else md5
        except InputError:
            label = places[source.makers[0][0]].instance.label
            raise InputError(f"{source.path}: stage `{label}` ended without writing it") from None
    return store.objects.union(parts)


def _add_missing(graph: Graph, places: Sequence[Place], needed: set[int], store: Store) -> None:
    """Add to those needed the ones that are known, but whose contents are gone where they are wanted."""
    pending = list(needed)
    for target in graph.targets:
        pending += _incomplete(target, places, store, needed)
    while pending:
        index = pending.pop()
        needed.add(index)
        for source in graph.sources[index]:
            pending += _incomplete(source, places, store, needed)


def _incomplete(source: Source, places: Sequence[Place], store: Store, needed: Container[int]) -> list[int]:
    return [
        maker
        for maker, out, _ in source.makers
        if maker not in needed and (outs := places[maker].outs) is not None and not store.objects.has(outs[out])
    ]


def shape_of_place(run: Run, place: Place) -> str:
    """What the outs of a stage that reads the whole of params.yaml are taken to depend on: all else, and which
    instances there are."""
    params = {section: lookup(run.values, section) for section in place.instance.params}
    return shape_of(place.instance.cmd, place.deps, params, run.graph.labels)
