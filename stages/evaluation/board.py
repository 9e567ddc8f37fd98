"""Models beside each other: every score with its protocol, interval and what was left out; pairs, tiers and groups."""

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Literal

from stages.base.contracts.evaluation import LOWER_IS_BETTER, Accuracy, Score
from stages.base.paired import compare, rank_flips
from stages.base.readable import counted
from stages.base.terminal import one_line
from stages.evaluation.measure import Measured, Task
from stages.evaluation.results import Part, digest, group_result, main_metric
from stages.evaluation.statistics import LEVEL, over_seeds, seeds_apart
from stages.evaluation.tasks.groups import Group, TaskScore, aggregate

Kind = Literal["folder", "server", "imported"]
SHOWN = 15  # differences, and orders that turn, that are printed
OF_MAIN = ("subjects", "by_subject", "variants", "calibration")  # fields of Accuracy that are about the main metric


@dataclass(frozen=True)
class Model:
    name: str
    kind: Kind
    digest: str


@dataclass(frozen=True)
class Cell:
    """One model on one task under one protocol."""

    model: Model
    task: str
    protocol: str
    shots: int  # asked for
    measured: Measured

    @property
    def accuracy(self) -> Accuracy:
        return self.measured.accuracy

    def values(self, metric: str) -> dict[str, float]:
        """Item → its value."""
        rows = self.measured.rows
        return {row.item.id: row.answer.scores[metric] for row in rows if row.answer and metric in row.answer.scores}


@dataclass
class Board:
    """Everything that a run of `trainyard evaluate` found."""

    tasks: dict[str, Task]
    groups: Sequence[Group] = ()
    models: list[Model] = field(default_factory=list)
    cells: list[Cell] = field(default_factory=list)
    scores: list[tuple[Model, str, int, dict[str, Score]]] = field(default_factory=list)  # task, shots; without items
    seeds: dict[str, list[str]] = field(default_factory=dict)  # one model trained from several seeds → their names
    notes: list[str] = field(default_factory=list)

    def columns(self) -> dict[tuple[str, str], list[Cell]]:
        """(Task, protocol) → its cells, tasks in the order they were given."""
        found: dict[tuple[str, str], list[Cell]] = defaultdict(list)
        for cell in self.cells:
            found[cell.task, cell.protocol].append(cell)
        return found

    def compared(self) -> "Compared":
        pairs: list[dict[str, Any]] = []
        tiers: dict[str, dict[str, dict[str, int]]] = defaultdict(dict)
        means: dict[str, dict[str, dict[str, float]]] = defaultdict(dict)
        for (task, protocol), cells in self.columns().items():
            metric = main_metric([row for cell in cells for row in cell.measured.rows])
            values = {cell.model.name: own for cell in cells if (own := cell.values(metric))}
            if len(values) < 2:
                continue
            clusters = {row.item.id: row.item.cluster for cell in cells for row in cell.measured.rows}
            found, placed = compare(values, clusters)
            tiers[task][protocol] = placed
            means[task][protocol] = {model: sum(own.values()) / len(own) for model, own in values.items()}
            pairs += [
                {"task": task, "protocol": protocol, "metric": metric, "a": a, "b": b} | vars(one)
                for (a, b), one in found.items()
            ]
        sure = {
            (pair["task"], pair["protocol"], frozenset((pair["a"], pair["b"])))
            for pair in pairs
            if not pair["low"] <= 0 <= pair["high"]
        }
        flips = [
            {"task": task, "protocol": one, "other": other, "ahead": a, "behind": b}
            | {"certain": all((task, protocol, frozenset((a, b))) in sure for protocol in (one, other))}
            for task, by_protocol in means.items()
            for one, other, a, b in rank_flips(by_protocol)
        ]
        return Compared(pairs, dict(tiers), flips)

    def pooled(self) -> list["Pooled"]:
        """Models that were trained from several seeds, over those items that all their seeds answered."""
        found = []
        for (task, protocol), cells in self.columns().items():
            by_name = {cell.model.name: cell for cell in cells}
            for name, models in self.seeds.items():
                own = [by_name[model] for model in models if model in by_name]
                metric = main_metric([row for cell in own for row in cell.measured.rows])
                values = [cell.values(metric) for cell in own]
                items = sorted(set.intersection(*map(set, values))) if values else []
                if len(own) > 1 and len(items) > 1:
                    clusters = {row.item.id: row.item.cluster for row in own[0].measured.rows}
                    found.append(Pooled(name, task, protocol, metric, values, items, [clusters[one] for one in items]))
        return found

    def grouped(self) -> list[dict[str, Any]]:
        """Groups by protocol and model; an interval where the aggregation needs no other model."""
        return [row for group in self.groups for row in self._group(group)]

    def _group(self, group: Group) -> Iterator[dict[str, Any]]:
        names = [member.task for member in group.task]
        by_protocol: dict[str, dict[str, dict[str, Cell]]] = defaultdict(lambda: defaultdict(dict))
        for cell in self.cells:
            if cell.task in names:
                by_protocol[cell.protocol][cell.model.name][cell.task] = cell
        metrics = _metrics_of(group)
        for protocol, models in by_protocol.items():
            whole = {
                model: own
                for model, own in models.items()
                if set(names) <= set(own) and all(own[name].values(metrics[name]) for name in names)
            }
            scores = {
                model: {name: self._task_score(own[name], metrics[name]) for name in names}
                for model, own in whole.items()
            }
            for model, value in aggregate(group, scores).items() if scores else ():
                found = Score(mean=None if math.isnan(value) else value, n=0, method="none: it stands on other models")
                if group.aggregation != "mean_win_rate":
                    parts = {name: self._part(whole[model][name], metrics[name]) for name in names}
                    found = group_result(group.group, protocol, parts).scores[group.aggregation]
                yield {
                    "group": group.group,
                    "aggregation": group.aggregation,
                    "protocol": protocol,
                    "model": model,
                    "tasks": names,
                } | found.model_dump()

    def incomplete(self) -> list[str]:
        """Why a model has no number for a group under a protocol that some of its tasks were asked under."""
        said = []
        for group in self.groups:
            metrics, by_row = _metrics_of(group), defaultdict[tuple[str, str], dict[str, Cell]](dict)
            for cell in self.cells:
                if cell.task in metrics:
                    by_row[cell.model.name, cell.protocol][cell.task] = cell
            for (model, protocol), own in by_row.items():
                lacking = [
                    f"{name} was not asked" if name not in own else f"{name} has no {metric}"
                    for name, metric in metrics.items()
                    if name not in own or not own[name].values(metric)
                ]
                if lacking:
                    said.append(f"[{group.group}]: no number of {model} under {protocol}: {'; '.join(lacking)}")
        return said

    def _task_score(self, cell: Cell, metric: str) -> TaskScore:
        values = cell.values(metric)
        return TaskScore(sum(values.values()) / len(values), self._chance(cell), len(values))

    def _part(self, cell: Cell, metric: str) -> Part:
        values = cell.values(metric)
        clusters = {row.item.id: row.item.cluster for row in cell.measured.rows}
        return Part(list(values.values()), [clusters[item] for item in values], self._chance(cell))

    def _chance(self, cell: Cell) -> float:
        task = self.tasks.get(cell.task)
        return (task.result({}, "").chance_acc if task is not None else None) or 0.0

    def as_json(self) -> dict[str, Any]:
        """All of it, for `results.json`; no key of a server is in it, as none is in the models' names."""
        compared = self.compared()
        return {
            "models": [vars(model) for model in self.models],
            "tasks": [self._about(key, task) for key, task in self.tasks.items()],
            "scores": [row for cell in self.cells for row in self._scores(cell)]
            + [
                {"model": model.name, "task": task, "protocol": "task", "metric": metric, "shots_asked": shots}
                | score.model_dump()
                for model, task, shots, own in self.scores
                for metric, score in own.items()
            ],
            "groups": self.grouped(),
            "seeds": [one.as_json() for one in self.pooled()],
            "comparisons": [*compared.pairs, *_seeds_compared(self.pooled())],
            "tiers": compared.tiers,
            "rank_flips": compared.flips,
            "left_out": [row for cell in self.cells for row in _left_out(cell)],
            "notes": [*self.notes, *self.incomplete()],
        }

    def _about(self, key: str, task: Task) -> dict[str, Any]:
        result = task.result({}, "test")
        return {"task": key, "file": task.file.file, "not_computed": list(task.file.not_computed)} | {
            name: getattr(result, name)
            for name in ("version", "digest", "questions", "output_type", "chance_acc", "constant_acc")
        }

    def _scores(self, cell: Cell) -> Iterator[dict[str, Any]]:
        task, accuracy = self.tasks.get(cell.task), cell.accuracy
        asked = task.asked if task is not None else [row.item for row in cell.measured.rows]
        about = accuracy.model_dump(exclude={"scores", *OF_MAIN})
        of_main = accuracy.model_dump(include=set(OF_MAIN))
        for metric, score in _scores_of(accuracy).items():
            main = metric == accuracy.metric
            yield {
                "model": cell.model.name,
                "model_digest": cell.model.digest,
                "task": cell.task,
                "task_digest": digest(asked),
                "protocol": cell.protocol,
                "shots_asked": cell.shots,
                "chance": self._chance(cell),
                "main": main,
                **about,
                "metric": metric,
                **score.model_dump(),
                **(of_main if main else {}),
            }


@dataclass(frozen=True)
class Compared:
    pairs: list[dict[str, Any]]
    tiers: dict[str, dict[str, dict[str, int]]]
    flips: list[dict[str, Any]]


@dataclass(frozen=True)
class Pooled:
    """One model over its seeds, under one protocol of one task."""

    name: str
    task: str
    protocol: str
    metric: str
    values: list[dict[str, float]]  # of each seed
    items: list[str]
    clusters: list[str]

    def table(self, items: Sequence[str]) -> list[list[float]]:
        return [[own[item] for item in items] for own in self.values]

    @property
    def score(self) -> Score:
        return over_seeds(self.table(self.items), self.clusters)

    def as_json(self) -> dict[str, Any]:
        about = {"model": self.name, "task": self.task, "protocol": self.protocol, "metric": self.metric}
        return about | {"seeds": len(self.values)} | self.score.model_dump()


def _seeds_compared(pooled: Sequence[Pooled]) -> Iterator[dict[str, Any]]:
    for a, b in combinations(pooled, 2):
        shared = sorted(set(a.items) & set(b.items))
        if (a.task, a.protocol) != (b.task, b.protocol) or len(shared) < 2:
            continue
        clusters = dict(zip(a.items, a.clusters, strict=True))
        found = seeds_apart(a.table(shared), b.table(shared), [clusters[item] for item in shared])
        low, high = found.interval(LEVEL)
        yield {
            "task": a.task,
            "protocol": a.protocol,
            "metric": a.metric,
            "a": a.name,
            "b": b.name,
            "difference": float(found.effect),
            "low": float(low),
            "high": float(high),
            "p": float(found.p_two_sided()),
            "visible": found.visible(),
            "n": len(shared),
            "clusters": int(found.n_clusters),
            "seeds": found.n_seeds,
        }


def _metrics_of(group: Group) -> dict[str, str]:
    """Which metric of each member a group takes."""
    return {member.task: member.metric or group.metric for member in group.task}


def _scores_of(accuracy: Accuracy) -> dict[str, Score]:
    """By metric; the main one without a value where no item could be asked."""
    return accuracy.scores or {accuracy.metric: Score(mean=None, n=0)}


def _left_out(cell: Cell) -> Iterator[dict[str, Any]]:
    reasons: dict[str, list[str]] = defaultdict(list)
    for row in cell.measured.rows:
        if row.left_out:
            reasons[row.left_out].append(row.item.id)
    for why, ids in reasons.items():
        yield {"model": cell.model.name, "task": cell.task, "protocol": cell.protocol, "why": why, "items": ids}


# ------------------------------------------------------------------------------------------------------- in words


def table(board: Board) -> list[str]:
    """The board as lines of text, a row a model, and below it what is to be known of it; fit for a terminal, whatever
    models and tasks are called."""
    compared = board.compared()
    head = ("task", "protocol", "metric", "model", "shots", "score", "95 %", "n", "tier", "")
    rows: list[tuple[str, ...]] = []
    for (task, protocol), cells in board.columns().items():
        placed = compared.tiers.get(task, {}).get(protocol, {})
        for metric in _shown(cells):
            for cell in _best_first(cells, metric):
                score = _scores_of(cell.accuracy)[metric]
                tier = placed.get(cell.model.name) if metric == cell.accuracy.metric else None
                rows.append(
                    (task, f"{protocol}@{cell.accuracy.version}", metric, cell.model.name,
                     _number(cell.accuracy.shots, "{:g}"), _number(score.mean), _interval(score), str(score.n),
                     str(tier or ""), _remarks(cell, metric))
                )  # fmt: skip
    rows += [
        (one.task, one.protocol, one.metric, one.name, "", _number(one.score.mean), _interval(one.score),
         str(one.score.n), "", counted(len(one.values), "seed"))
        for one in board.pooled()
    ]  # fmt: skip
    for model, task, shots, scores in board.scores:
        rows += [
            (task, "task", metric, model.name, str(shots), _number(score.mean), _interval(score), str(score.n), "",
             "from its results")
            for metric, score in scores.items()
        ]  # fmt: skip
    rows += [
        (f"[{row['group']}]", row["protocol"], row["aggregation"], row["model"], "", _number(row["mean"]),
         _interval(Score(mean=row["mean"], low=row["low"], high=row["high"], n=0)), str(row["n"] or ""), "", "")
        for row in board.grouped()
    ]  # fmt: skip
    plain = [tuple(map(one_line, row)) for row in rows]
    return [*_aligned([head, *_without_repeats(plain)]), *map(one_line, _sentences(board, compared))]


def _shown(cells: Sequence[Cell]) -> list[str]:
    """The main metric, those of the task's own file, and acc_norm where it says something else than acc."""
    found: dict[str, None] = {}
    for cell in cells:
        found[cell.accuracy.metric] = None
        for name, score in cell.accuracy.scores.items():
            own = cell.protocol == "task" and not name.startswith("acc_")
            if own or (name == "acc_norm" and score.mean != cell.accuracy.acc):
                found[name] = None
    return list(found)


def _best_first(cells: Sequence[Cell], metric: str) -> list[Cell]:
    sign = 1 if metric in LOWER_IS_BETTER else -1
    measured = {cell.model.name: cell for cell in cells if metric in _scores_of(cell.accuracy)}
    means = {name: _scores_of(cell.accuracy)[metric].mean for name, cell in measured.items()}
    return [measured[name] for name in sorted(measured, key=lambda name: (sign * (means[name] or 0.0), name))]


def _number(value: float | None, form: str = "{:.3f}") -> str:
    return "–" if value is None else form.format(value)


def _interval(score: Score) -> str:
    if score.low is None or score.high is None:
        return "–"
    return f"{score.low:.3f}–{score.high:.3f}"


def _remarks(cell: Cell, metric: str) -> str:
    accuracy, parts = cell.accuracy, []
    score = _scores_of(accuracy)[metric]
    if score.clusters:
        parts.append(counted(score.clusters, "cluster"))
    if metric != accuracy.metric:
        return ", ".join(parts)
    others = [one.mean for one in accuracy.variants.values() if one.mean is not None]
    if others:
        parts.append(f"{min(others):.3f}–{max(others):.3f} over {counted(len(others), 'wording')}")
    parts += [f"{count} left out ({why.replace('_', ' ')})" for why, count in accuracy.left_out.items()]
    for count, words in ((accuracy.truncated, "truncated"), (accuracy.unread, "without an answer"),
                         (accuracy.repeated, "with repeated options")):  # fmt: skip
        if count:
            parts.append(f"{count} {words}")
    return ", ".join(parts)


def _without_repeats(rows: Sequence[tuple[str, ...]]) -> Iterator[tuple[str, ...]]:
    before: tuple[str, ...] = ()
    for row in rows:
        same = 0
        while same < 3 and before[: same + 1] == row[: same + 1]:
            same += 1
        before = row
        yield ("",) * same + row[same:]


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    right = {4, 5, 7, 8}
    return [
        "  ".join(
            cell.rjust(width) if place in right else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _sentences(board: Board, compared: Compared) -> list[str]:
    lines = []
    for pair in [*compared.pairs, *_seeds_compared(board.pooled())]:
        told = (
            f"{pair['task']}, {pair['protocol']}: {pair['a']} − {pair['b']} = {pair['difference']:+.3f} "
            f"({pair['low']:+.3f} to {pair['high']:+.3f}), p = {pair['p']:.3g}, paired on {counted(pair['n'], 'item')}"
        )
        unsure = pair["low"] <= 0 <= pair["high"] and pair["visible"] > 0
        lines.append(told + f"; from {pair['visible']:.3f} on it would show with 80 % power" * unsure)
    turned = [
        f"{flip['task']}: {flip['ahead']} is ahead of {flip['behind']} under {flip['protocol']}, behind under "
        f"{flip['other']}{'' if flip['certain'] else ' (within the noise)'}"
        for flip in sorted(compared.flips, key=lambda flip: not flip["certain"])
    ]
    notes = [*board.notes, *board.incomplete()]
    for key, task in board.tasks.items():
        if task.file.not_computed:
            notes.append(f"{key}: not computed, as they are no mean over items: {', '.join(task.file.not_computed)}")
    return [*([""] if lines else []), *_first(lines, "differences"), *_first(turned, "orders that turn"), *notes]


def _first(lines: Sequence[str], what: str) -> list[str]:
    more = len(lines) - SHOWN
    return [*lines[:SHOWN], *([f"and of {what} {more} more: results.json has all"] if more > 0 else [])]


def model_slug(model: Model) -> str:
    """Of a name and a digest, fit for a file's name."""
    plain = "".join(c if c.isalnum() or c in "-_." else "_" for c in model.name)[-60:].lstrip(".")
    return f"{plain}-{hashlib.sha256(model.digest.encode()).hexdigest()[:12]}"
