"""From rows to numbers: what a model's answers are worth, of one task under one protocol and of several tasks."""

import dataclasses
import hashlib
import json
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from stages.base.contracts.evaluation import Accuracy, Calibration, GroupResult, Sample, Score, TaskResult
from stages.base.crossed import contrast
from stages.base.paired import cluster_ids
from stages.evaluation.calibration import of_choices
from stages.evaluation.items import writable
from stages.evaluation.perplexity import Loss, bits_interval, count_words, total
from stages.evaluation.run import ROLLING, TOO_LONG, Row, text_of
from stages.evaluation.scoring.requests import Rolling
from stages.evaluation.statistics import LEVEL, Weights, score, stratified
from stages.evaluation.tasks.item import Item, row_of

SHARES = ("acc", "acc_norm", "acc_bytes", "acc_mutual_info", "acc_all", "exact_match", "mc1", "mc2")
RANGES = dict.fromkeys(SHARES, (0.0, 1.0)) | {
    "brier_score": (0.0, 2.0),
    "bits_per_byte": (0.0, math.inf),
    "byte_perplexity": (1.0, math.inf),
    "word_perplexity": (1.0, math.inf),
    "perplexity": (1.0, math.inf),
}
"""Least and greatest value of a metric over items."""
SAMPLES = 20  # items of a task and protocol whose prompts are kept as sent


# ------------------------------------------------------------------------------------------------------ one task


def main_metric(rows: Sequence[Row]) -> str:
    """The one that stands for the task in tables: acc, else the first that is measured."""
    names = next((list(row.answer.scores) for row in rows if row.answer is not None), ["acc"])
    return "acc" if "acc" in names else names[0]


def mean_range(metric: str) -> tuple[float, float]:
    """Least and greatest value over items; infinite of a metric that isn't known."""
    return RANGES.get(metric.partition(",")[0], (-math.inf, math.inf))


def item_range(metric: str) -> tuple[float, float]:
    """Least and greatest value of one item: of a `perplexity` a log-likelihood."""
    return (-math.inf, 0.0) if metric.partition(",")[0] == "perplexity" else mean_range(metric)


def accuracy(rows: Sequence[Row], variants: Mapping[str, Sequence[Row]] | None = None) -> Accuracy:
    """Of all rows of one task under one protocol; variants: other wordings by name, on the same items."""
    if rows and rows[0].protocol == ROLLING:
        return _rolling(rows)
    answered = [row for row in rows if row.answer is not None]
    metric = main_metric(rows)
    scores = {name: _metric(answered, name) for name in _metrics(answered)}
    left_out = Counter(row.left_out for row in rows if row.left_out)
    flags = Counter(flag for row in answered if row.answer for flag in row.answer.flags)
    spread = {name: _metric([row for row in own if row.answer], metric) for name, own in (variants or {}).items()}
    return Accuracy(
        shots=float(np.mean([row.shots for row in answered])) if answered else None,
        answered=len(answered),
        too_long=left_out[TOO_LONG],
        version=rows[0].version if rows else 1,
        metric=metric,
        scores=scores,
        subjects=_subjects(answered, metric),
        by_subject=_by_subject(answered, metric),
        variants={"": scores[metric]} | spread if spread and answered else {},
        truncated=sum(row.truncated for row in answered),
        unread=flags["no_answer"],
        left_out=dict(left_out),
        repeated=flags["repeated_options"],
        calibration=_calibration(answered),
    )


def _metrics(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows if row.answer for name in row.answer.scores))


def _metric(rows: Sequence[Row], name: str) -> Score:
    """A `perplexity` is exp(−mean log-likelihood), as its interval is; all others are means. A metric of unknown range
    whose values lie from 0 to 1 is taken for a share."""
    chosen = [row for row in rows if row.answer is not None and name in row.answer.scores]
    values = [row.answer.scores[name] for row in chosen if row.answer is not None]
    clusters = [row.item.cluster for row in chosen]
    if name.partition(",")[0] != "perplexity":
        least, most = mean_range(name)
        if math.isinf(most) and all(0 <= value <= 1 for value in values):
            least, most = 0.0, 1.0
        return score(values, clusters, most=most, least=least)
    nats = score([-value for value in values], clusters, most=math.inf)
    low, high = (None if bound is None else _exp(bound) for bound in (nats.low, nats.high))
    return nats.model_copy(update={"mean": None if nats.mean is None else _exp(nats.mean), "low": low, "high": high})


def _exp(value: float) -> float | None:
    """None where a float has no room."""
    return math.exp(value) if value < 700 else None


def _of_subjects(rows: Sequence[Row]) -> dict[str, list[Row]]:
    own: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        own[row.item.subject].append(row)
    return {subject: own[subject] for subject in sorted(own)}


def _subjects(rows: Sequence[Row], metric: str) -> dict[str, Score]:
    own = _of_subjects(rows)
    return {subject: _metric(each, metric) for subject, each in own.items()} if len(own) > 1 else {}


def _by_subject(rows: Sequence[Row], metric: str) -> dict[str, Score]:
    """None of clustered items, whose groups may lie in several subjects, nor of what is no share."""
    own = _of_subjects(rows)
    values = {
        subject: [row.answer.scores[metric] for row in each if row.answer is not None and metric in row.answer.scores]
        for subject, each in own.items()
    }
    shares = all(0 <= value <= 1 for each in values.values() for value in each)
    if len(own) < 2 or not shares or any(row.item.cluster for row in rows):
        return {}
    weights: tuple[Weights, ...] = ("size", "equal")
    return {weight: stratified(values, weight) for weight in weights}


def _calibration(rows: Sequence[Row]) -> Calibration | None:
    """Of items with one right answer among different options."""
    chosen = [
        row
        for row in rows
        if row.likelihoods and row.item.answer >= 0 and 1 < len(row.item.choices) == len({*row.item.choices})
    ]
    if len(chosen) < 2:
        return None
    return of_choices(
        [[one.nats for one in row.likelihoods][: len(row.item.choices)] for row in chosen],
        [row.item.answer for row in chosen],
        [row.item.cluster for row in chosen],
    )


def _rolling(rows: Sequence[Row]) -> Accuracy:
    losses = [loss_of(row) for row in rows]
    every, bits = total(losses), bits_interval(losses)
    per_word = every.bytes * math.log(2) / every.words  # word perplexity = exp(bits per byte · bytes per word · ln 2)

    def scored(mean: float, low: float, high: float) -> Score:
        bounds = [None if math.isnan(bound) else bound for bound in (low, high)]
        return Score(mean=mean, low=bounds[0], high=bounds[1], n=len(rows), method="t, ratio of sums over texts")

    scale = {"bits_per_byte": None, "byte_perplexity": math.log(2), "word_perplexity": per_word}
    scores = {
        name: scored(*(bits if by is None else (_exp(bound * by) or math.inf for bound in bits)))
        for name, by in scale.items()
    }
    return Accuracy(shots=0, answered=len(rows), too_long=0, metric="bits_per_byte", scores=scores)


def loss_of(row: Row) -> Loss:
    """Of a rolling row: words and bytes are those of the text that counts, which may not be the one that is read."""
    assert isinstance(row.found, Rolling)
    counted = row.item.counted or text_of(row.item)
    return Loss(-row.found.nats, row.found.tokens, len(counted.encode()), count_words(counted))


def task_result(
    items: Sequence[Item],
    protocols: dict[str, Accuracy],
    *,
    output_type: Literal["multiple_choice", "loglikelihood", "generate_until", "loglikelihood_rolling"],
    split: str,
    version: str = "",
    chance: float | None = None,
) -> TaskResult:
    """With what guessing, and always giving the same letter, would score. chance: where the task's file says so."""
    chosen = [item for item in items if item.choices]
    letters = Counter(item.answer for item in chosen)
    if chance is None and chosen:
        chance = sum(len(item.right) / len(item.choices) for item in chosen) / len(chosen)
    return TaskResult(
        questions=len(items),
        chance_acc=chance,
        constant_acc=max(letters.values()) / len(chosen) if chosen else None,
        protocols=protocols,
        output_type=output_type,
        split=split,
        version=version,
        digest=digest(items),
    )


def digest(items: Sequence[Item]) -> str:
    """Of the items in any order, 16 hex digits."""
    rows = sorted(json.dumps(row_of(item), sort_keys=True) for item in items)
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()[:16]


def samples(rows: Sequence[Row], most: int = SAMPLES) -> list[Sample]:
    """Some items as they were asked, the same ones for every model: those whose ids' hashes are smallest."""
    chosen = sorted(
        (row for row in rows if row.answer is not None),
        key=lambda row: hashlib.sha256(row.item.id.encode("utf-8", "surrogatepass")).digest(),
    )[:most]
    metric = main_metric(rows)
    return [
        Sample(
            task=row.item.set,
            protocol=row.protocol,
            id=row.item.id,
            subject=row.item.subject,
            question=writable(row.item.question),
            prompt=writable(row.prompt),
            choices=[writable(choice) for choice in row.item.choices],
            answer=row.item.answer,
            target=writable(row.item.target),
            choice=row.answer.choice,
            text=writable(row.answer.text),
            logprobs=[one.nats for one in row.likelihoods][: len(row.item.choices) or None],
            right=row.answer.scores[metric] == 1,
        )
        for row in chosen
        if row.answer is not None
    ]


# ------------------------------------------------------------------------------------------------- several tasks


class Part(NamedTuple):
    """A task's values by item, as a part of a group."""

    values: Sequence[float]
    clusters: Sequence[str]
    chance: float


def group_result(group: str, protocol: str, parts: Mapping[str, Part]) -> GroupResult:
    """The four aggregations that need no other model, with intervals over the items of all tasks.

    size_weighted: mean over items. mean: over tasks. centred: mean of (score − chance) / (1 − chance) (CORE).
    normalised: the same, but 0 at the least (Open LLM Leaderboard v2).
    """
    n = sum(len(part.values) for part in parts.values())
    size = {task: len(part.values) / n for task, part in parts.items()}
    equal = dict.fromkeys(parts, 1 / len(parts))
    centred = {task: 1 / len(parts) / (1 - part.chance) for task, part in parts.items()}
    above = {task: by * (float(np.mean(parts[task].values)) > parts[task].chance) for task, by in centred.items()}
    return GroupResult(
        group=group,
        protocol=protocol,
        tasks=list(parts),
        scores={
            "size_weighted": _joined(parts, size, False),
            "mean": _joined(parts, equal, False),
            "normalised": _joined(parts, above, True),
            "centred": _joined(parts, centred, True),
        },
    )


def _joined(parts: Mapping[str, Part], weights: Mapping[str, float], from_chance: bool) -> Score:
    shift = sum(weights[task] * part.chance for task, part in parts.items()) if from_chance else 0.0
    tables = [np.asarray(part.values, dtype=np.float64)[None] for part in parts.values()]
    n = sum(table.shape[1] for table in tables)
    mean = float(sum(weights[task] * table.mean() for task, table in zip(parts, tables, strict=True))) - shift
    if min(table.shape[1] for table in tables) < 2:
        return Score(mean=mean, n=n, method="none: a task has one item")
    clusters = [cluster_ids(part.clusters) for part in parts.values()]
    found = contrast(tables, list(weights.values()), pair_items=len(tables) == 1, clusters=clusters)
    unseen = sum(
        weights[task] ** 2 * _unseen_variance(table[0], group)
        for task, table, group in zip(parts, tables, clusters, strict=True)
    )
    found = dataclasses.replace(found, standard_error=math.hypot(found.standard_error, math.sqrt(unseen)))
    low, high = (float(bound) - shift for bound in found.interval(LEVEL))
    known = not math.isnan(low)
    return Score(
        mean=mean,
        low=low if known else None,
        high=high if known else None,
        n=n,
        method="t, stratified by task" + ", clustered" * any(group is not None for group in clusters),
    )


def _unseen_variance(values: np.ndarray, clusters: np.ndarray | None) -> float:
    """Of the mean of a task whose items are all wrong, or all right: 0 by their spread, which would say that a task
    with no right answer of ten is known exactly. Jeffreys' posterior mean (k + ½) / (n + 1) stands in for the share
    (Brown, Cai and DasGupta 2001); a group of items counts as one."""
    if np.ptp(values) > 0 or values[0] not in (0.0, 1.0):
        return 0.0
    n = len(values) if clusters is None else int(clusters.max()) + 1
    share = 0.5 / (n + 1)
    return share * (1 - share) / n
