"""Tasks and models: every score with its protocol, its interval and what is known of contamination."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from stages.base.contracts.contamination import Contamination, Verdict
from stages.base.contracts.evaluation import LOWER_IS_BETTER, Accuracy, Evaluation, Score, TaskResult
from stages.base.paired import win_rates
from stages.publishing.evaluation.comparisons import Asked, Comparisons, Paired
from stages.publishing.html.numbers import Scale, Value, count, value

Evaluations = Mapping[str, Evaluation]  # model → its numbers, in the order of params.yaml

PROTOCOLS = {
    "original": ("letters", "asks for a letter after worked examples, as the authors of MMLU do"),
    "helm": ("letters, HELM", "one greedy token of the whole vocabulary, which must be the right letter"),
    "harness": ("whole answers", "scores each answer in full after a list of all of them, as the Harness of 2023 did"),
    "cloze": ("cloze", "scores the words of each answer; the model never sees the others"),
    "chat": ("chat", "scores each answer as an assistant's reply, through the model's own template"),
    "chat_generate": ("chat, generated", "lets the model reply to the question with its choices, and reads its answer"),
    "generate": ("generated", "lets the model write and reads an answer out of what it wrote"),
    "task": ("the task's own", "the task file's own template, as the LM Evaluation Harness would run it"),
    "rolling": ("whole texts", "scores every token of a text, no question asked"),
}
METRICS = {
    "acc": "% right",
    "acc_norm": "% right, log-likelihood per character",
    "acc_bytes": "% right, log-likelihood per byte",
    "exact_match": "% matching exactly",
    "bits_per_byte": "bits per byte",
    "perplexity": "perplexity",
    "word_perplexity": "perplexity a word",
    "byte_perplexity": "perplexity a byte",
    "brier_score": "Brier score",
}
TONES: dict[Verdict, str] = {
    "clean": "good", "contaminated": "bad", "undecided": "plain", "unknown": "plain", "not exchangeable": "plain",
}  # fmt: skip
AGGREGATIONS = {
    "size_weighted": "mean over questions",
    "mean": "mean over tasks",
    "normalised": "normalised (Open LLM Leaderboard v2)",
    "centred": "centred (CORE)",
    "win_rate": "mean win rate (HELM)",
}
PERCENT = Scale(0, 100)
MOST_FLIPS = 20
ALL_PAIRS = 5  # models, of which every pair is shown


@dataclass(frozen=True)
class Cell:
    """A model's score in a row of the table."""

    value: Value
    tier: int | None
    note: str
    """Read out: interval, items, how the interval is made."""


def named(key: str) -> str:
    return key.replace("_", " ")


def protocol_name(key: str) -> str:
    return PROTOCOLS[key][0] if key in PROTOCOLS else named(key)


def shown(score: Score | None, metric: str) -> Value | None:
    """Shares in percent, perplexities and bits as they are."""
    if score is None:
        return None
    if metric in LOWER_IS_BETTER:
        return value(score.mean, score.low, score.high, digits=3)
    return value(score.mean, score.low, score.high, factor=100)


def all_tasks(evaluations: Evaluations) -> list[str]:
    return [*dict.fromkeys(task for one in evaluations.values() for task in one.tasks)]


def protocols_of(evaluations: Evaluations, task: str) -> list[str]:
    """The known ones first, in the order of `PROTOCOLS`."""
    found = [name for one in evaluations.values() if task in one.tasks for name in one.tasks[task].protocols]
    return sorted(dict.fromkeys(found), key=lambda name: (*PROTOCOLS, name).index(name))


def main_metrics(evaluations: Evaluations) -> dict[Asked, str]:
    return {
        Asked(task, protocol): result.metric
        for one in evaluations.values()
        for task, found in one.tasks.items()
        for protocol, result in found.protocols.items()
    }


def tasks_view(
    evaluations: Evaluations, base: str, compared: Comparisons, found: Contamination | None
) -> dict[str, Any]:
    tasks = [_task(evaluations, task, base, compared, found) for task in all_tasks(evaluations)]
    turned, noise = (_flips(compared, certain) for certain in (True, False))
    used = [protocol for protocol in PROTOCOLS if any(protocol in task["protocols"] for task in tasks)]
    return {
        "models": [*evaluations],
        "pairs": "every pair of models" if len(evaluations) <= ALL_PAIRS else f"each model beside {base}",
        "tasks": tasks,
        "protocols": [PROTOCOLS[name] for name in used],
        "flips": turned[:MOST_FLIPS],
        "more_flips": max(0, len(turned) - MOST_FLIPS),
        "noise": noise[:MOST_FLIPS],
        "groups": groups_table(evaluations),
        "scale": PERCENT,
        "notes": _table(
            ["Task", "Protocol", "Models", "Questions"],
            [[task["name"], *note] for task in tasks for note in task["notes"]],
            4,
        ),
    }


def _task(
    evaluations: Evaluations, task: str, base: str, compared: Comparisons, found: Contamination | None
) -> dict[str, Any]:
    results = {model: one.tasks[task] for model, one in evaluations.items() if task in one.tasks}
    first = next(iter(results.values()))
    protocols = protocols_of(evaluations, task)
    sure = [flip for flip in compared.flips if flip.task == task and flip.certain]
    turned = {name for flip in sure for name in (flip.ahead, flip.behind)}
    rows = []
    for protocol in protocols:
        asked = {model: one.protocols[protocol] for model, one in results.items() if protocol in one.protocols}
        some = next(iter(asked.values()))
        rows.append(
            {
                "name": protocol_name(protocol),
                "about": _about(some, [one.shots for one in asked.values()]),
                "turned": protocol in turned,
                "percent": some.metric not in LOWER_IS_BETTER,
                "cells": [
                    _cell(asked.get(model), compared.tier(Asked(task, protocol), model)) for model in evaluations
                ],
            }
        )
    chance = value(first.chance_acc, factor=100)
    constant = value(first.constant_acc, factor=100)
    controls = [("chance", chance)] if chance else []
    controls += [("the same choice always", constant)] if constant else []
    return {
        "id": task,
        "name": named(task),
        "size": f"{count(first.questions)} questions",
        "protocols": protocols,
        "rows": rows,
        "chance": chance,
        "controls": [f"{name} {number.text}" for name, number in controls],
        "verdicts": [_verdict(found, model, task) for model in evaluations] if found else [],
        "notes": _notes(results),
        "metrics": _other_metrics(results, protocols, [*evaluations]),
        "subjects": _subjects(results, protocols, [*evaluations]),
        "differences": _differences(compared, task, protocols, [*evaluations], base),
    }


def _about(result: Accuracy, shots: Iterable[float | None]) -> str:
    parts = [f"v{result.version}", METRICS.get(result.metric, named(result.metric))]
    known = [one for one in shots if one is not None]
    if known and max(known) > 0:
        low, high = (f"{one:.1f}".removesuffix(".0") for one in (min(known), max(known)))
        parts.append(f"{low if low == high else f'{low} – {high}'} examples")
    return ", ".join(parts)


def _cell(result: Accuracy | None, tier: int | None) -> Cell | None:
    number = shown(result.main, result.metric) if result else None
    if result is None or number is None or result.main is None:
        return None
    over = f"{count(result.main.n)} items"
    if result.main.clusters:
        over += f" in {count(result.main.clusters)} clusters"
    return Cell(number, tier, ", ".join(part for part in (number.text, number.range, over, result.main.method) if part))


def _verdict(found: Contamination | None, model: str, task: str) -> dict[str, str]:
    """What is known of one model and one task; unknown where nobody looked."""
    for row in found.verdicts if found else []:
        if (row.model, row.task) == (model, task):
            return {"word": row.verdict, "tone": TONES[row.verdict], "reason": row.reason}
    for test in found.ordering if found else []:
        if (test.model, test.task) == (model, task):
            return {"word": test.verdict, "tone": TONES[test.verdict], "reason": test.reason}
    return {"word": "unknown", "tone": "plain", "reason": "not tested"}


def _notes(results: Mapping[str, TaskResult]) -> list[list[str]]:
    """What was left out, cut or couldn't be read: rows of protocol, models, what. Models with the same share a row."""
    told: dict[tuple[str, str], list[str]] = {}
    for model, task in results.items():
        for protocol, one in task.protocols.items():
            left = one.left_out or ({"no room in the context": one.too_long} if one.too_long else {})
            said = [f"{count(number)} left out: {named(reason)}" for reason, number in left.items() if number]
            said += [f"{count(one.truncated)} read without their beginning"] if one.truncated else []
            said += (
                [f"{count(one.unread)} without an answer that could be read, counted as wrong"] if one.unread else []
            )
            said += [f"{count(one.repeated)} with the same option twice"] if one.repeated else []
            if said:
                told.setdefault((protocol_name(protocol), "; ".join(said)), []).append(model)
    return [[protocol, ", ".join(models), said] for (protocol, said), models in told.items()]


def _other_metrics(
    results: Mapping[str, TaskResult], protocols: Sequence[str], models: Sequence[str]
) -> dict[str, Any] | None:
    rows = []
    for protocol in protocols:
        asked = {model: one.protocols[protocol] for model, one in results.items() if protocol in one.protocols}
        names = dict.fromkeys(metric for one in asked.values() for metric in one.scores if metric != one.metric)
        for metric in names:
            cells = [shown(asked[model].scores.get(metric) if model in asked else None, metric) for model in models]
            rows.append([protocol_name(protocol), METRICS.get(metric, named(metric)), *map(_words, cells)])
    return _table(["Protocol", "Metric", *models], rows, 2) if rows else None


def _subjects(
    results: Mapping[str, TaskResult], protocols: Sequence[str], models: Sequence[str]
) -> dict[str, Any] | None:
    rows = []
    for protocol in protocols:
        asked = {model: one.protocols[protocol] for model, one in results.items() if protocol in one.protocols}
        names = dict.fromkeys(subject for one in asked.values() for subject in one.subjects)
        for subject in names:
            scores = [asked[model].subjects.get(subject) if model in asked else None for model in models]
            size = max(score.n for score in scores if score)
            metric = next(iter(asked.values())).metric
            cells = [_words(shown(score, metric)) for score in scores]
            rows.append([named(subject), protocol_name(protocol), count(size), *cells])
    return _table(["Subject", "Protocol", "Questions", *models], sorted(rows), 2) if len(rows) > 1 else None


def _words(number: Value | None) -> str:
    if number is None:
        return "–"
    return f"{number.text} ({number.range})" if number.range else number.text


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], first: int) -> dict[str, Any]:
    return {"head": list(head), "rows": list(rows), "numeric": list(range(first, len(head)))}


def _differences(
    compared: Comparisons, task: str, protocols: Sequence[str], models: Sequence[str], base: str
) -> dict[str, Any] | None:
    """Every pair of models under each protocol, in the models' order; of many models, each beside the base."""
    pairs = [*combinations(models, 2)]
    if len(models) > ALL_PAIRS:
        pairs = [(base, model) for model in models if model != base]
    rows = [
        [protocol_name(protocol), *_difference(pair)]
        for protocol in protocols
        for a, b in pairs
        if (pair := compared.between(Asked(task, protocol), b, a))
    ]
    head = ["Protocol", "Models", "Difference", "95 % interval", "p (Holm)", "Visible at 80 % power", "Questions"]
    return _table(head, rows, 2) if rows else None


def _difference(pair: Paired) -> list[str]:
    factor, digits = (1, 3) if pair.metric in LOWER_IS_BETTER else (100, 1)
    low, middle, high = (f"{factor * x:+.{digits}f}".replace("-", "−") for x in (pair.low, pair.difference, pair.high))
    p = f"{pair.p_adjusted:.3f}" if pair.p_adjusted >= 0.001 else "< .001"
    seen = "–" if pair.visible is None else f"{factor * pair.visible:.{digits}f}"
    over = count(pair.n) + (f" in {count(pair.clusters)} clusters" if pair.clusters else "")
    return [f"{pair.a} − {pair.b}", middle, f"{low} to {high}", p, seen, over]


def _flips(compared: Comparisons, certain: bool) -> list[str]:
    """One sentence for all models that one model stands before by one protocol and behind by another."""
    behind: dict[tuple[str, str, str, str], list[str]] = {}
    for flip in compared.flips:
        if flip.certain == certain:
            behind.setdefault((flip.task, flip.a, flip.ahead, flip.behind), []).append(flip.b)
    return [
        f"{named(task)}: {model} is ahead of {', '.join(others)} by “{protocol_name(ahead)}” and behind by "
        f"“{protocol_name(after)}”."
        for (task, model, ahead, after), others in behind.items()
    ]


def groups_table(evaluations: Evaluations) -> dict[str, Any] | None:
    """Groups of tasks: a row each group, protocol and way to aggregate; win rates are made here, from all models."""
    keys = dict.fromkeys((row.group, row.protocol) for one in evaluations.values() for row in one.groups)
    rows = []
    for group, protocol in keys:
        found = {
            model: row
            for model, one in evaluations.items()
            for row in one.groups
            if (row.group, row.protocol) == (group, protocol)
        }
        tasks = next(iter(found.values())).tasks
        ways = [way for way in AGGREGATIONS if any(way in row.scores for row in found.values())]
        cells = {way: {model: shown(row.scores.get(way), way) for model, row in found.items()} for way in ways}
        rates = win_rates(_means(evaluations, tasks, protocol))
        if rates:
            cells["win_rate"] = {model: value(rate, factor=100) for model, rate in rates.items()}
        label = f"{named(group)}, {protocol_name(protocol)} ({_plural(len(tasks))})"
        rows += [[label, AGGREGATIONS[way], *(_words(cells[way].get(model)) for model in evaluations)] for way in cells]
    return _table(["Group", "Aggregated as", *evaluations], rows, 2) if rows else None


def _plural(tasks: int) -> str:
    return "1 task" if tasks == 1 else f"{count(tasks)} tasks"


def _means(evaluations: Evaluations, tasks: Sequence[str], protocol: str) -> dict[str, dict[str, float]]:
    means: dict[str, dict[str, float]] = {}
    for task in tasks:
        for model, one in evaluations.items():
            result = one.tasks[task].protocols.get(protocol) if task in one.tasks else None
            if result and result.main and result.main.mean is not None:
                sign = -1 if result.metric in LOWER_IS_BETTER else 1
                means.setdefault(task, {})[model] = sign * result.main.mean
    return means
