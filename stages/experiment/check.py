"""What is wrong with claims before anything runs, what their seeds and questions could see, and what they will cost."""

import json
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Protocol

from stages.base.errors import InputError, ParamError, TrainyardError
from stages.base.params import PARAMS_FILE, lookup
from stages.base.pipeline import Declared
from stages.base.reference import Schema
from stages.base.scales import leaves
from stages.experiment.arms import compose
from stages.experiment.bill import Bill, bill, price
from stages.experiment.declaration import Declaration, MetricFile
from stages.experiment.metrics import Metric, find
from stages.experiment.noise import Earlier, power_of
from stages.experiment.runs.graph import Run, resolve
from stages.experiment.runs.outcomes import ClaimFolder, read_run, seed_label
from stages.experiment.runs.plan import Planned, forecast
from stages.experiment.runs.results import Store
from stages.experiment.runs.suite import expand

ROOT_SEEDS = ("run.seed", "corpus.seed")
CODE = ("stages", "dvc.yaml")


class Sections(Protocol):
    """What params may hold; `check` raises ParamError for values that they may not."""

    @property
    def schema(self) -> Schema: ...
    def check(self, values: dict[str, Any]) -> list[Declared]: ...


@dataclass
class Admission:
    """Whether one claim may run."""

    declaration: Declaration
    problems: list[str] = field(default_factory=list)
    """One line each: the key, what is wrong with it, the remedy."""
    power: str = ""
    """What its seeds and items can see, in one line."""
    bill: Bill | None = None
    """None where it can't be known, because of the problems."""

    @property
    def admissible(self) -> bool:
        return not self.problems


def check(declarations: Sequence[Declaration], sections: Sections, store: Store) -> tuple[list[Admission], Bill | None]:
    """An admission a claim, and the bill of all that are admissible, in which shared instances count once."""
    found = [Admission(declaration) for declaration in declarations]
    runs: dict[str, list[Run]] = {}
    earlier = Earlier(store.folder)
    for one in found:
        one.problems += of_rule(one.declaration)
        one.problems += of_arms(one.declaration, sections)
        if one.problems:
            continue
        try:
            runs[one.declaration.name] = expand([one.declaration], sections.schema, store)
        except TrainyardError as error:
            one.problems.append(_after_file(str(error), one.declaration))
            continue
        own = runs[one.declaration.name]
        one.problems += of_runs(one.declaration, own)
        one.problems += of_files(one.declaration, own, store)
        metric = find(one.declaration.metric, own[0].values)
        one.power, hidden = power_of(one.declaration, metric, earlier.of(metric.name, one.declaration))
        if not ClaimFolder(one.declaration.name, store).has_started:  # noise that was measured since takes nothing back
            one.problems += hidden
    planned = _forecast(found, runs, store)
    prices: dict[str, float] = {}
    for run in (run for some in runs.values() for run in some):
        for instance in run.graph.instances:
            prices[instance.label] = max(prices.get(instance.label, 0.0), price(instance, run.values))
    for one in found:
        name = one.declaration.name
        if name in runs:
            one.bill = bill([instance for instance in planned if name in instance.claims], prices)
            one.problems += one.bill.over(one.declaration.budget)
    sound = {one.declaration.name for one in found if one.admissible}
    total = bill([instance for instance in planned if sound & set(instance.claims)], prices) if sound else None
    return found, total


def _forecast(found: Sequence[Admission], runs: dict[str, list[Run]], store: Store) -> list[Planned]:
    """The instances of all claims, each once. A claim whose inputs are not there leaves `runs`, with its problem."""
    try:
        return forecast([run for some in runs.values() for run in some], store).instances
    except TrainyardError:
        for one in found:
            try:
                forecast(runs.get(one.declaration.name, []), store)
            except TrainyardError as error:
                one.problems.append(str(error))
                del runs[one.declaration.name]
        return forecast([run for some in runs.values() for run in some], store).instances


# ------------------------------------------------------------------------------------------------- the rule


def of_rule(declaration: Declaration) -> Iterator[str]:
    """What is wrong with seeds and rule whatever the params are."""
    rule, pair = declaration.parsed, declaration.pair
    over_items = pair is not None and "seed" not in pair and rule.analysis != "predicted"
    if len(declaration.seed_values()) == 1 and rule.analysis != "scaling" and not over_items:
        remedy = "" if rule.analysis == "predicted" else ", or `pair: [item]` for an interval over items alone"
        yield f"`seeds`: one seed can't say what another training would give; declare 3 or more{remedy}"
    if declaration.looks is not None and rule.analysis in ("equivalence", "predicted"):
        yield f"`looks`: they are for rules about a side, and `{rule.text}` is none; leave them out"


def of_metric(declaration: Declaration, metric: Metric) -> Iterator[str]:
    """What is wrong with the rule, margin and pairing for this metric."""
    rule, margin = declaration.parsed, declaration.margin
    unit = f" {metric.unit}" if metric.unit else ""
    if rule.analysis == "scaling" and not metric.scaling:
        yield f"`rule`: `{rule.text}` needs losses with their compute, and `{metric.name}` has none; use ladder/loss"
    if rule.analysis == "predicted" and not metric.forecast:
        yield f"`rule`: nothing is predicted of `{metric.name}`; use pretrain/loss"
    if rule.quantity == "value" and metric.span < float("inf"):
        bounds = f"`{metric.name}` lies between {metric.low:g} and {metric.high:g}{unit}"
        reach = rule.direction * rule.threshold
        if rule.analysis == "equivalence" and rule.threshold >= metric.span:
            yield f"`rule`: `{rule.text}` always holds: {bounds}; give a smaller gap"
        elif rule.direction and reach >= metric.span:
            yield f"`rule`: `{rule.text}` can never hold: {bounds}; compare with a smaller difference"
        elif rule.direction and reach <= -metric.span:
            yield f"`rule`: `{rule.text}` always holds: {bounds}; compare with a smaller difference"
        if margin is not None and margin >= metric.span:
            yield f"`margin`: no effect can be {margin:g}{unit}: {bounds}; give the smallest effect that matters"
    if "corpus.seed" in declaration.axes and metric.item in ("question", "document"):
        yield (
            f"`seeds`: each corpus.seed has other {metric.item}s, so seeds of `{metric.name}` have no {metric.item} "
            "in common; use run.seed, or a number of a run, such as {file: data/…/metrics.json, key: test_right}"
        )
    for unit_of_pairs in declaration.pair or ():
        if unit_of_pairs == "item" and not metric.item:
            yield f"`pair`: `{metric.name}` is one number a run, it has no items; pair by seed"
        if unit_of_pairs == "cluster" and not metric.cluster:
            yield f"`pair`: nothing is known of what the items of `{metric.name}` come in groups of; leave cluster out"


# ------------------------------------------------------------------------------------------------- the arms


def of_arms(declaration: Declaration, sections: Sections) -> list[str]:
    """What is wrong with the params of arms and with the metrics that they have."""
    problems: dict[str, None] = {}
    values: dict[str, dict[str, Any]] = {}
    seed = declaration.seed_values()[0]
    for arm in declaration.arms:
        try:
            values[arm] = compose(declaration, arm, seed, sections.schema)
        except ParamError as error:
            problems[_after_file(str(error), declaration)] = None
    wrong = {arm: _problems(values[arm], sections) for arm in values if declaration.arm[arm].revision is None}
    shared = {problem for found in wrong.values() for problem in found if all(problem in one for one in wrong.values())}
    for arm, found in wrong.items():
        where = "params.yaml" if not declaration.set and not declaration.scale else "the params that all arms share"
        problems |= {f"{where if one in shared else f'`arms.{arm}`'}: {one}": None for one in found}
    for key, asked in (("metric", declaration.metric), *(("metrics", one) for one in declaration.metrics)):
        having = [name for name in values if _has(asked, values[name])]
        for name in values:
            try:
                metric = find(asked, values[name])
            except ParamError as error:
                text = f"arm `{name}` has no `{asked}`, which arm `{having[0]}` has" if having else str(error)
                problems[f"`{key}`: {text}"] = None
                if not having:
                    break
                continue
            if key == "metric":
                problems |= dict.fromkeys(of_metric(declaration, metric))
    return [*problems, *_equal_arms(declaration, values)]


def _has(asked: Any, values: Mapping[str, Any]) -> bool:
    try:
        find(asked, values)
    except ParamError:
        return False
    return True


def _problems(values: dict[str, Any], sections: Sections) -> list[str]:
    """Of params, each without the name of params.yaml."""
    try:
        sections.check(values)
    except ParamError as error:
        file = f"{PARAMS_FILE}: "
        return [one.removeprefix(file) for one in re.split(rf"; (?={re.escape(file)})", str(error))]
    return []


def _after_file(message: str, declaration: Declaration) -> str:
    return message.removeprefix(f"{declaration.path or declaration.name}: ")


def _equal_arms(declaration: Declaration, values: Mapping[str, dict[str, Any]]) -> Iterator[str]:
    seen: dict[str, str] = {}
    for name, composed in values.items():
        arm = declaration.arm[name]
        try:
            code = code_of(arm.revision) if any(one.revision for one in declaration.arm.values()) else ""
        except InputError as error:
            yield f"`arms.{name}.revision`: {error}"
            continue
        key = json.dumps([code, composed], sort_keys=True)
        twin = seen.setdefault(key, name)
        if twin == name:
            continue
        same = [f"{path} is {value!r}" for path, value in leaves(arm.overlay) if path]
        if same and twin == declaration.baseline and not declaration.arm[twin].overlay:
            yield f"`arms.{name}` changes nothing: {', '.join(same)} already; give it another value"
        else:
            yield f"`arms`: `{twin}` and `{name}` are equal, of all params and code; change one of them"


def code_of(revision: str | None) -> str:
    """Digest of what a git revision runs; of the work tree for None, its own where it has changes. Raises InputError
    for a revision that git doesn't know."""
    if revision is None:
        changed = _git("status", "--porcelain", "--", *CODE)
        if changed or changed is None:
            return "work tree"
        revision = "HEAD"
    found = _git("rev-parse", *(f"{revision}:./{path}" for path in CODE))
    if found is None:
        raise InputError(f"git doesn't know `{revision}`; `git log` shows the revisions there are")
    return found


def _git(*arguments: str) -> str | None:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False, timeout=30)
    return done.stdout.strip() if done.returncode == 0 else None


# ------------------------------------------------------------------------------------------------- the runs


def of_runs(declaration: Declaration, runs: Sequence[Run]) -> Iterator[str]:
    """Arms, or seeds, whose runs would be identical as far as the metric goes."""
    asked = declaration.metric if isinstance(declaration.metric, str) else declaration.metric.file
    arms = [run for run in runs if run.seed == runs[0].seed]
    for one, other in combinations(arms, 2):
        if _same(one, other):
            yield (
                f"`arms`: `{one.arm}` and `{other.arm}` differ in nothing that a stage behind `{asked}` reads: their "
                "runs would be identical; take another metric or change another param"
            )
    seeds = [run for run in runs if run.arm == runs[0].arm]
    if any(_same(one, other) for one, other in combinations(seeds, 2)):
        read = [axis for axis in ROOT_SEEDS if _is_read(runs[0], axis)]
        remedy = "it is a fact that no seed changes: look at one run (`trainyard compare`)"
        if read:
            remedy = f"use `seeds: {{{read[0]}: {len(declaration.seed_values())}}}`"
        axes = " and ".join(declaration.axes)
        yield f"`seeds`: no stage behind `{asked}` reads {axes}, so all seeds would be identical; {remedy}"


def of_files(declaration: Declaration, runs: Sequence[Run], store: Store) -> Iterator[str]:
    """A file, key or column that the declaration names itself and that a run which is known doesn't have."""
    asked = [one for one in (declaration.metric, *declaration.metrics) if isinstance(one, MetricFile)]
    known = next((run for run in runs if resolve(run, store).done), None) if asked else None
    if known is None:
        return
    for one in asked:
        try:
            read_run(known, [find(one, known.values)], store)
        except InputError as error:
            key = "metric" if one == declaration.metric else "metrics"
            yield f"`{key}`: {error} (so it is in the run of arm `{known.arm}`, seed {seed_label(known.seed)})"


def _same(one: Run, other: Run) -> bool:
    """Whether the stages of two runs are told the same: their code, files and params."""
    if one.root != other.root or one.graph.instances != other.graph.instances:
        return False
    sections = {section for instance in one.graph.instances for section in instance.params}
    return all(lookup(one.values, section) == lookup(other.values, section) for section in sections)


def _is_read(run: Run, axis: str) -> bool:
    return any(
        axis == section or axis.startswith(f"{section}.") for one in run.graph.instances for section in one.params
    )
