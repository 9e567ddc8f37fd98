"""A claim as it is declared in `experiments/<name>.yaml` before anything runs: arms, seeds, metric, rule, budget.

docs/experiments.md says what each key means to the one who writes it.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, field_validator, model_validator

from stages.base.errors import ParamError
from stages.base.params import nearest
from stages.base.plain_yaml import read_yaml
from stages.experiment.rule import ARM, RESERVED, Analysis, Rule, parse_rule

NAME = re.compile(r"[a-z][a-z0-9_-]{0,99}")
BASELINE = "baseline"
SEED = "run.seed"
REVISION = "revision"
Topic = Literal["data", "tokenizer", "model", "tuning", "alignment", "evaluation", "systems"]
Unit = Literal["seed", "item", "cluster"]
Positive = Annotated[float, Field(gt=0)]
Seed = Annotated[int, Field(ge=0)]
MOST_SEEDS, MOST_VALUES, DEEPEST = 1000, 100_000, 32
SeedList = (
    Annotated[int, Field(ge=1, le=MOST_SEEDS)] | Annotated[list[Seed], Field(min_length=1, max_length=MOST_SEEDS)]
)
"""How many, 1 … n; or which."""


class Part(BaseModel):
    """Base of what a declaration is made of: strict types, unknown keys refused, frozen."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class MetricFile(Part):
    """A metric that the catalogue doesn't name: a number of a JSON file, or a column of a table."""

    file: str
    """As a stage writes it: `data/….json` or `data/….parquet`."""
    key: str | None = None
    """Of a JSON file: the dotted path of the number."""
    value: str | None = None
    """Of a table: the column of numbers (true and false are 1 and 0)."""
    item: str | None = None
    """Of a table: the column that tells its rows apart."""
    cluster: str | None = None
    """Of a table: the column of what items come in groups of."""
    where: dict[str, str | int | float | bool] = {}
    """Of a table: column → value of the rows that count."""

    @model_validator(mode="after")
    def _kind(self) -> Self:
        path = PurePosixPath(self.file)
        if path.is_absolute() or ".." in path.parts or path.parts[:1] != ("data",):
            raise ValueError("`file` must lie below data/, where stages write")
        if path.suffix == ".json":
            if not self.key or self.value or self.item or self.cluster or self.where:
                raise ValueError("a JSON file needs `key`, the dotted path of the number, and nothing else")
        elif path.suffix == ".parquet":
            if self.key or not (self.value and self.item):
                raise ValueError("a table needs `value` and `item`, names of columns, and no `key`")
        else:
            raise ValueError("`file` must end in .json or .parquet")
        return self


class Looks(Part):
    """When a verdict may be read off before all seeds are there (group-sequential; Lan and DeMets 1983)."""

    at: Annotated[list[Annotated[int, Field(ge=2)]], Field(min_length=2)]
    """Numbers of seeds, rising; the last is all of them."""
    spending: Literal["obrien_fleming", "pocock"] = "obrien_fleming"


class Budget(Part):
    """A claim whose bill is higher is refused before it runs."""

    cpu_hours: Positive | None = None
    judge_usd: Annotated[float, Field(ge=0)] | None = None


class Arm(Part):
    """One of the things compared: params laid over the project's, and whose code runs them."""

    name: str
    overlay: dict[str, Any]
    """Nested, as params.yaml is."""
    revision: str | None
    """Git revision whose code the arm runs; None: the code as it stands."""


class Declaration(Part):
    """One claim. Raises ParamError through `declare` and `read_declaration`, which name the file and the key."""

    claim: Annotated[str, Field(min_length=1)]
    """The claim in one sentence."""
    source: str | None = None
    """Where the claim comes from, in other words than there."""
    question: str | None = None
    """Longer prose: why one asks, what is held equal."""
    lecture: Topic | None = None
    """Of the suite on the lecture: its chapter."""
    scale: list[str] = []
    """Scales laid over the complete one in turn, as `trainyard configure` does; none: params.yaml as it stands."""
    set: dict[str, Any] = {}
    """Params that all arms share, laid over the scale."""
    arms: dict[str, dict[str, Any] | None] = Field(min_length=1)
    """Name → what this arm changes, nested or with dots; `revision` runs another revision's code."""
    levels: dict[str, float] = {}
    """Of a trend: the number that each arm stands for."""
    seeds: SeedList | Annotated[dict[str, SeedList], Field(min_length=1)]
    """How many or which values of run.seed; or axis → the same, several of them side by side."""
    metric: str | MetricFile
    """What the rule is about: a name of `trainyard experiment metrics`, or a file."""
    metrics: list[str | MetricFile] = []
    """Further ones that are reported beside it."""
    pair: list[Unit] | None = None
    """What two arms share: without `seed`, their seeds are independent samples."""
    analysis: Analysis | None = None
    """The rule's own where it is left out."""
    rule: str
    """What makes the claim true."""
    margin: Positive | None = None
    """The smallest effect that matters, in the metric's unit."""
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    power: Annotated[float, Field(gt=0.5, lt=1)] = 0.8
    looks: Looks | None = None
    budget: Budget = Budget()

    _name: str = PrivateAttr("claim")
    _content: dict[str, Any] = PrivateAttr(default_factory=dict)
    _path: Path | None = PrivateAttr(None)

    @field_validator("arms")
    @classmethod
    def _arm_names(cls, arms: dict[str, Any]) -> dict[str, Any]:
        for name in arms:
            if not ARM.fullmatch(name):
                raise ValueError(f"the name `{name}` must be of small letters, digits and _, a letter first")
            if name in RESERVED:
                raise ValueError(f"`{name}` means something in rules; give the arm another name")
        return arms

    @model_validator(mode="after")
    def _agree(self) -> Self:
        problems = [*self._rule_problems(), *self._seed_problems()]
        if not self.claim.strip():
            problems.append("`claim` is blank; say in one sentence what is claimed")
        for name, overlay in self.arms.items():
            revision = (overlay or {}).get(REVISION)
            if revision is not None and not (isinstance(revision, str) and re.match(r"^[^-\s]\S*$", revision)):
                problems.append(f"`arms.{name}.revision`: must be a git revision, got {revision!r}")
            for axis in self.axes:
                if _at(nested(overlay or {}, f"arms.{name}"), axis) is not None:
                    problems.append(f"`arms.{name}` sets `{axis}`, which `seeds` sets; leave it to one of them")
        if unknown := [name for name in self.levels if name not in self.arms]:
            problems.append(f"`levels`: unknown arm `{unknown[0]}`{nearest(unknown[0], list(self.arms))}")
        if self.pair is not None and len(set(self.pair)) < len(self.pair):
            problems.append("`pair` names a unit twice")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _rule_problems(self) -> Iterable[str]:
        rule = self.parsed
        if not math.isfinite(rule.threshold):
            yield f"`rule`: `{self.rule:.80}` can only come out one way: its number is beyond all others"
        for name in rule.arms:
            if name not in self.arms:
                yield f"`rule`: unknown arm `{name}`{nearest(name, list(self.arms))}"
        if self.analysis not in (None, rule.analysis):
            yield f"`analysis` is {self.analysis}, but the rule `{self.rule}` asks for {rule.analysis}; leave it out"
        if rule.analysis == "trend":
            if len(self.arms) < 3:
                yield f"`rule`: a trend needs three arms or more, here are {len(self.arms)}; say `a > b` of two"
            if self.levels and len(self.levels) < len(self.arms):
                left = next(name for name in self.arms if name not in self.levels)
                yield f"`levels` has no number for arm `{left}`; give every arm one, or none"
            if len(set(self.levels.values())) < len(self.levels):
                yield "`levels`: two arms stand for the same number, a trend can't tell them apart"
        elif self.levels:
            yield f"`levels` are for trends, and the rule `{self.rule}` is none; leave them out"
        if rule.analysis in ("equivalence", "predicted") and rule.threshold == 0:
            yield f"`rule`: `{self.rule}` can't hold: no interval lies within ± 0; give the smallest gap that matters"
        if rule.quantity == "multiplier" and rule.threshold <= 0:
            yield f"`rule`: `{self.rule}` always holds: a multiplier is above 0; compare it with 1 or more"

    def _seed_problems(self) -> Iterable[str]:
        lengths = {}
        for axis, values in self._axes().items():
            lengths[axis] = len(values)
            if twice := next((value for value in values if values.count(value) > 1), None):
                yield f"`seeds`: {axis} {twice} is used twice; a run counts once"
        if len(set(lengths.values())) > 1:
            counts = ", ".join(f"{axis} has {n}" for axis, n in lengths.items())
            yield f"`seeds`: all axes need the same number of values, as they go side by side: {counts}"
        elif self.looks is not None:
            at, count = self.looks.at, next(iter(lengths.values()))
            if at != sorted(set(at)) or at[-1] != count:
                yield f"`looks.at` must rise and end with the number of seeds, {count}, got {at}"

    @cached_property
    def parsed(self) -> Rule:
        return parse_rule(self.rule)

    @property
    def name(self) -> str:
        """The file's name without `.yaml`."""
        return self._name

    @property
    def path(self) -> Path | None:
        return self._path

    @property
    def digest(self) -> str:
        """sha256 of the content: comments, layout and the way a param is written, nested or with dots, left out."""
        content = dict(self._content)
        content["set"] = nested(content.get("set") or {}, "set")
        # As pairs: the order of arms says which is the baseline, and what a trend runs over.
        content["arms"] = [[name, nested(over or {}, name)] for name, over in content["arms"].items()]
        return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()

    @cached_property
    def arm(self) -> dict[str, Arm]:
        """Name → arm, in the order of the file."""
        found = {}
        for name, overlay in self.arms.items():
            changes = {key: value for key, value in (overlay or {}).items() if key != REVISION}
            revision = (overlay or {}).get(REVISION)
            found[name] = Arm(name=name, overlay=nested(changes, f"arms.{name}"), revision=revision)
        return found

    @property
    def baseline(self) -> str:
        """The arm that others are compared with: `baseline` if there is one, else the first."""
        return BASELINE if BASELINE in self.arms else next(iter(self.arms))

    @property
    def axes(self) -> list[str]:
        """The params that tell two runs of one arm apart."""
        return list(self._axes())

    def _axes(self) -> dict[str, list[int]]:
        axes = self.seeds if isinstance(self.seeds, dict) else {SEED: self.seeds}
        return {axis: list(range(1, n + 1)) if isinstance(n, int) else list(n) for axis, n in axes.items()}

    def seed_values(self) -> list[dict[str, int]]:
        """Axis → value of every run of an arm, in the order in which looks count them."""
        axes = self._axes()
        return [dict(zip(axes, values, strict=True)) for values in zip(*axes.values(), strict=True)]


def nested(overlay: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Keys with dots taken apart: {"a.b": 1} → {"a": {"b": 1}}. Raises ValueError for a param that is given twice."""
    found: dict[str, Any] = {}
    for key, value in overlay.items():
        *parts, last = str(key).split(".")
        here, place = found, where
        for part in parts:
            place = f"{place}.{part}" if place else part
            here = here.setdefault(part, {})
            if not isinstance(here, dict):
                raise ValueError(f"`{place}` is given twice")
        inner = nested(value, f"{place}.{last}".lstrip(".")) if isinstance(value, Mapping) else value
        if last in here:
            if not (isinstance(inner, dict) and isinstance(here[last], dict)):
                raise ValueError(f"`{place}.{last}` is given twice".replace("`.", "`"))
            _join(here[last], inner, f"{place}.{last}")
        else:
            here[last] = inner
    return found


def _join(here: dict[str, Any], more: dict[str, Any], place: str) -> None:
    for key, value in more.items():
        if key not in here:
            here[key] = value
        elif isinstance(value, dict) and isinstance(here[key], dict):
            _join(here[key], value, f"{place}.{key}")
        else:
            raise ValueError(f"`{place}.{key}` is given twice")


def _at(values: Any, path: str) -> Any:
    for part in path.split("."):
        values = values.get(part) if isinstance(values, dict) else None
    return values


def declare(content: Mapping[str, Any], name: str = "claim", path: Path | None = None) -> Declaration:
    """A declaration from the keys of its YAML. Raises ParamError with every problem in one line, the file first."""
    where = path or name
    try:
        if _weigh(content, "", (), {}) > MOST_VALUES:
            raise ValueError(f"more than {MOST_VALUES:,} values, those that an alias repeats counted again")
        declaration = Declaration.model_validate(dict(content))
        for key, overlay in (("set", declaration.set), *((f"arms.{k}", v) for k, v in declaration.arms.items())):
            nested(overlay or {}, key)
    except ValidationError as error:
        problems = dict.fromkeys(_explain(problem) for problem in _told(error.errors()))
        raise ParamError("; ".join(f"{where}: {problem}" for problem in problems)) from None
    except (ValueError, ParamError) as error:
        raise ParamError(f"{where}: {error}") from None
    declaration._name, declaration._content, declaration._path = name, dict(content), path
    return declaration


def _weigh(value: Any, place: str, above: tuple[int, ...], known: dict[int, int]) -> int:
    """How many values it holds, those behind an alias counted wherever it stands. Raises ValueError for a mapping that
    contains itself, one that is nested too deep, and what params don't have, as bytes and sets."""
    if not isinstance(value, dict | list):
        if value is None or isinstance(value, str | int | float):
            return 1
        raise ValueError(f"`{place}` is of YAML's type {type(value).__name__}, which no param has")
    if id(value) in above:
        raise ValueError(f"`{place}` contains itself")
    if len(above) > DEEPEST:
        raise ValueError(f"`{place:.80}` is nested more than {DEEPEST} deep")
    if id(value) not in known:
        inner = value.items() if isinstance(value, dict) else enumerate(value)
        here = (*above, id(value))
        known[id(value)] = 1 + sum(_weigh(one, f"{place}.{key}".lstrip("."), here, known) for key, one in inner)
    return known[id(value)]


def _told(problems: Sequence[Any]) -> Iterator[Any]:
    """Of a key that may be several things, the problems of the one that it is; one problem where it is none of them."""
    for key, group in groupby(problems, lambda problem: problem["loc"][:1]):
        found = list(group)
        if key in (("metric",), ("metrics",), ("seeds",)) and len(found) > 1:
            inner = [
                one
                for one in found
                if not one["type"].endswith(("int_type", "list_type", "dict_type", "string_type", "model_type"))
            ]
            found = inner or [{"type": "value_error", "loc": key, "ctx": {"error": _SHAPES[str(key[0])]}}]
        yield from found


_SHAPES = {
    "seeds": "must be a number of seeds, a list of them, or axis: either of these",
    "metric": "must be a name of `trainyard experiment metrics`, or {file: …}",
    "metrics": "must be a list of names of `trainyard experiment metrics`, or of {file: …}",
}


def _explain(problem: Any) -> str:
    loc = [part for part in problem["loc"] if isinstance(part, int) or _KEY.fullmatch(str(part))]
    loc = loc or list(problem["loc"][-1:])  # an unknown key that looks like no key
    where = ".".join(map(str, loc))
    match problem["type"]:
        case "extra_forbidden":
            model = MetricFile if loc[0] in ("metric", "metrics") else _PARTS.get(str(loc[0]), Declaration)
            return f"unknown key `{where}`{nearest(str(loc[-1]), list(model.model_fields))}"
        case "missing":
            return f"`{where}` is missing" + (
                "" if len(loc) > 1 else "; a claim needs claim, arms, seeds, metric and rule"
            )
        case "value_error":
            text = str(problem["ctx"]["error"])
            return text if not loc or text.startswith("`") else f"`{where}`: {text}"
    return f"`{where}`: {problem['msg'][0].lower()}{problem['msg'][1:]}, got {problem['input']!r:.80}"


_KEY = re.compile(r"(?!MetricFile$|str$|int$|float$|bool$|list\[|dict\[|constrained-|function-)[\w.-]+")
"""What stands in the file: pydantic names the members of unions too."""
_PARTS: dict[str, type[Part]] = {"looks": Looks, "budget": Budget}


def read_declaration(path: Path) -> Declaration:
    """Raises ParamError naming the file, the key and the remedy."""
    try:
        content = read_yaml(path, ParamError)
    except FileNotFoundError:
        known = sorted(str(one) for one in path.parent.glob("*.yaml") if one != path)
        raise ParamError(f"{path}: not found{nearest(str(path), known)}") from None
    if not NAME.fullmatch(path.stem) or path.suffix != ".yaml":
        raise ParamError(
            f"{path}: a claim's file is named in at most 100 small letters, digits, - and _, and ends in .yaml"
        )
    if not isinstance(content, dict):
        raise ParamError(f"{path}: must be a mapping with the keys claim, arms, seeds, metric and rule")
    return declare(content, path.stem, path)


def read_suite(paths: Iterable[Path]) -> tuple[list[Declaration], list[str]]:
    """The claims of several files, of a folder all its `.yaml` files, and a line for each file that is none: what is
    wrong with it, or another claim of its name. Raises ParamError where there is no file at all."""
    files: list[Path] = []
    for path in paths:
        found = sorted(path.glob("*.yaml")) if path.is_dir() else [path]
        if not found:
            raise ParamError(f"{path}: no claim there; it is a `.yaml` file (docs/experiments.md)")
        files += found
    problems: list[str] = []
    suite: dict[str, Declaration] = {}
    for path in dict.fromkeys(files):
        try:
            declaration = read_declaration(path)
        except ParamError as error:
            problems.append(str(error))
            continue
        twin = suite.setdefault(declaration.name, declaration)
        if twin is not declaration:
            problems.append(f"{path}: a claim named `{declaration.name}` is in {twin.path} too; rename one")
    return list(suite.values()), problems
