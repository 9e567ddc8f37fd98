"""Reading the files of the LM Evaluation Harness (0.4): what it measured joins our tables.

A run of it is `results_<date>.json` and, with --log_samples, one `samples_<task>_<date>.jsonl` a task: a line a
document and filter, with the prompt, the replies and the metrics.
"""

import hashlib
import json
import math
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from stages.base.contracts.evaluation import Accuracy, Score
from stages.base.errors import InputError
from stages.base.files import json_lines, read_json
from stages.base.readable import counted
from stages.evaluation.items import writable
from stages.evaluation.measure import Measured, Task
from stages.evaluation.protocols.protocol import Answer
from stages.evaluation.results import accuracy, item_range, mean_range
from stages.evaluation.run import Row
from stages.evaluation.scoring.requests import Generated, Likelihood
from stages.evaluation.tasks.item import Item

AS_TASK = "task"  # the protocol that asks as the harness does
PLAIN = "none"  # the harness's name of the filter that does nothing
AGREE = 1e-6  # between a task's score in results.json and the mean of its samples
MOST = 1_000_000_000  # of anything counted there
OF_TEXTS = ("word_perplexity", "byte_perplexity", "bits_per_byte")  # (log-likelihood, words or bytes) of each text
Line = tuple[int, Mapping[str, Any]]  # its number and its sample
TAIL = 60  # characters at the end of a prompt by which an item is looked up


@dataclass(frozen=True)
class Imported:
    """One model's results, by the task's name there: those with their samples, and those with the score alone."""

    model: str
    tasks: dict[str, Measured]
    scores: dict[str, dict[str, Score]] = field(default_factory=dict)  # task → metric
    shots: dict[str, int] = field(default_factory=dict)
    asked_as: dict[str, tuple[str, str]] = field(default_factory=dict)  # → (task, protocol)
    notes: list[str] = field(default_factory=list)


def read_harness(results: Path, samples: Sequence[Path], tasks: Mapping[str, Task]) -> Imported:
    """tasks: ours by name; a sample whose prompt is that of one of our items is paired with it.

    Raises InputError naming the file, and line, of what isn't what the harness writes, and where samples and scores
    disagree.
    """
    whole = read_json(results)
    if not isinstance(whole, dict) or not isinstance(whole.get("results"), dict) or not whole["results"]:
        raise InputError(f"{results}: no `results`; give a results_*.json of the LM Evaluation Harness")
    model = _model_name(whole, results)
    configs, all_shots, counts = (_object(whole.get(key), results, key) for key in ("configs", "n-shot", "n-samples"))
    files: dict[str, Path] = {}
    for path in samples:
        if (other := files.setdefault(sample_task(path), path)) != path:
            raise InputError(f"{path}: {other} has samples of the same task; give one of them")
    if unknown := [task for task in files if task not in whole["results"]]:
        raise InputError(f"{files[unknown[0]]}: {results} has no task `{unknown[0]}`; give the results of the same run")
    found: dict[str, Measured] = {}
    scores: dict[str, dict[str, Score]] = {}
    shots: dict[str, int] = {}
    asked_as: dict[str, tuple[str, str]] = {}
    notes: list[str] = []
    for task, metrics in whole["results"].items():
        if not isinstance(metrics, Mapping):
            raise InputError(f"{results}: `results.{task}` is {metrics!r:.40}, no object")
        key, protocol = asked_as[task] = _asked_as(task, _object(configs.get(task), results, f"configs.{task}"))
        shots[task] = _count(all_shots.get(task), results, f"n-shot.{task}")
        if task in files:
            rows, paired = _rows(files[task], key, tasks.get(key), shots[task])
            rows = [replace(row, protocol=protocol) for row in rows]
            measured = Measured(rows, {}, accuracy(rows))
            notes += _check(files[task], metrics, measured.accuracy)
            found[task] = measured
            if key in tasks and paired < len(rows):
                notes.append(
                    f"{files[task]}: of {counted(len(rows), 'document')} {len(rows) - paired} not among our items"
                )
        else:
            own, why = _scores(metrics, counts.get(task), results, task)
            notes += why
            if own:
                scores[task] = own
    return Imported(model, found, scores, shots, asked_as, notes)


def sample_task(path: Path) -> str:
    """`samples_<task>_<date>.jsonl` → the task, as the harness's own readers take it."""
    name = path.name
    if not name.startswith("samples_") or name.count("_") < 2:
        raise InputError(f"{path}: give files named samples_<task>_<date>.jsonl, as the harness names them")
    return name[name.find("_") + 1 : name.rfind("_")]


def _object(value: Any, path: Path, key: str) -> Mapping[str, Any]:
    """What stands there, or nothing."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InputError(f"{path}: `{key}` is {value!r:.40}, no object")
    return value


def _count(value: Any, path: Path, key: str) -> int:
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < MOST:
        raise InputError(f"{path}: `{key}` is {value!r:.40}; it must be an integer, 0 or more")
    return value


def _number(value: Any) -> float | None:
    """None of what is no number; infinite where a float has no room."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        return None
    return float(value) if abs(value) <= sys.float_info.max else math.inf if value > 0 else -math.inf


def _asked_as(name: str, config: Mapping[str, Any]) -> tuple[str, str]:
    """Our task and protocol: as `write_harness` noted them; of the harness's own files its task and `task`."""
    noted = config.get("metadata")
    if isinstance(noted, Mapping) and isinstance(noted.get("protocol"), str):
        own = noted.get("task")
        return writable(own if isinstance(own, str) else name), writable(noted["protocol"])
    return writable(name), AS_TASK


def _model_name(whole: Mapping[str, Any], path: Path) -> str:
    arguments = _object(whole.get("config"), path, "config").get("model_args")
    if isinstance(arguments, str):
        arguments = dict(part.split("=", 1) for part in arguments.split(",") if "=" in part)
    arguments = _object(arguments, path, "config.model_args")
    names = (whole.get("model_name"), arguments.get("pretrained"), arguments.get("model"))
    named = next((name for name in names if isinstance(name, str) and name.strip()), None)
    return writable(named) if named else path.parent.name or path.stem


def _rows(path: Path, key: str, task: Task | None, shots: int) -> tuple[list[Row], int]:
    """Rows in the order of the documents, and how many of them are items of ours."""
    documents: dict[int, dict[str, Line]] = defaultdict(dict)  # by filter
    for line, sample in json_lines(path):
        place = sample.get("doc_id") if isinstance(sample, dict) else None
        if isinstance(place, bool) or not isinstance(place, int) or place < 0:
            raise InputError(f"{path}:{line}: no `doc_id`; this is no file of samples")
        chosen = sample.get("filter", PLAIN)
        if not isinstance(chosen, str):
            raise InputError(f"{path}:{line}: `filter` is {chosen!r:.40}, no name")
        if documents[place].setdefault(chosen, (line, sample))[0] != line:
            first = documents[place][chosen][0]
            raise InputError(f"{path}:{line}: `doc_id` {place} stands twice, first in line {first}; remove one of them")
    if not documents:
        raise InputError(f"{path}: no samples; leave this file out, or write it again with --log_samples")
    filters = {chosen for own in documents.values() for chosen in own}
    known = _Known(task.asked if task is not None else ())
    rows, paired = [], 0
    for place, own in sorted(documents.items()):
        line, sample = next(iter(own.values()))
        if lacking := filters - own.keys():
            raise InputError(f"{path}:{line}: `doc_id` {place} has no line of the filter `{min(lacking)}`")
        sent = _arguments(path, line, sample)
        try:
            item = known.find(place, sent[0][0], sample.get("doc"))
        except KeyError as twice:
            raise InputError(f"{path}:{line}: our item {twice} stands twice; remove one of them") from None
        paired += item is not None
        if item is None:
            item = _foreign(key, place, sample)
        lines = {f",{writable(chosen)}" if len(filters) > 1 else "": one for chosen, one in own.items()}
        rows.append(_row(path, lines, sent, item, shots))
    return rows, paired


class _Known:
    """Our items by what their prompts end with; each is found once."""

    def __init__(self, items: Sequence[Item]) -> None:
        self._items = items
        self._by_id = {item.id: item for item in items}
        self._by_tail: dict[str, list[Item]] = defaultdict(list)
        self._found: set[str] = set()
        for item in items:
            if item.prompt:
                self._by_tail[item.prompt[-TAIL:]].append(item)

    def find(self, place: int, context: str, doc: Any) -> Item | None:
        """The item that the document names, as exported ones do; the item at that place of the split if the context
        ends with its prompt; else the one whose does. Raises KeyError for an item that is named again."""
        if isinstance(doc, Mapping) and isinstance(doc.get("id"), str) and doc["id"] in self._by_id:
            if doc["id"] in self._found:
                raise KeyError(doc["id"])
            self._found.add(doc["id"])
            return self._by_id[doc["id"]]
        for item in self._like(place, context):
            if item.id not in self._found and item.prompt and context.endswith(item.prompt):
                self._found.add(item.id)
                return item
        return None

    def _like(self, place: int, context: str) -> Iterator[Item]:
        yield from self._items[place : place + 1]
        for length in range(1, TAIL + 1) if len(context) < TAIL else (TAIL,):
            yield from self._by_tail.get(context[-length:], ())


def _foreign(key: str, place: int, sample: Mapping[str, Any]) -> Item:
    """Of a document that only the harness knows; equal for every run of it."""
    own = str(sample.get("doc_hash") or hashlib.sha256(json.dumps(sample.get("doc")).encode()).hexdigest())
    target = writable(str(sample.get("target", "")))
    return Item(f"{place}-{writable(own[:16])}", key, key, "test", "", targets=(target,))


def _arguments(path: Path, line: int, sample: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(Context, continuation) of each request, the second one empty where text is generated."""
    given = sample.get("arguments")
    try:
        if isinstance(given, Mapping):
            given = [one for _, one in sorted(given.items(), key=lambda pair: int(pair[0].rpartition("_")[2]))]
        pairs = [list(one.values()) if isinstance(one, Mapping) else one for one in given or ()]
        found = [(pair[0], pair[1] if len(pair) > 1 and isinstance(pair[1], str) else "") for pair in pairs]
    except (IndexError, KeyError, TypeError, ValueError):
        found = []
    if not found or not all(isinstance(pair, list) and isinstance(pair[0], str) for pair in pairs):
        raise InputError(f"{path}:{line}: no `arguments`; write samples with --log_samples of lm-eval 0.4")
    return found


def _row(path: Path, lines: Mapping[str, Line], sent: Sequence[tuple[str, str]], item: Item, shots: int) -> Row:
    """lines: by what stands behind a metric's name for their filter."""
    scores: dict[str, float] = {}
    for suffix, (line, sample) in lines.items():
        metrics = sample.get("metrics") or []
        if not isinstance(metrics, list) or not all(isinstance(metric, str) for metric in metrics):
            raise InputError(f"{path}:{line}: `metrics` is {metrics!r:.40}, no list of names")
        for metric in metrics:
            value = sample.get(metric)
            if metric in OF_TEXTS and isinstance(value, list):
                raise InputError(f"{path}:{line}: scores of whole texts aren't imported item by item; leave it out")
            if isinstance(value, bool | int | float):
                scores[f"{writable(metric)}{suffix}"] = _value(path, line, metric, value)
    line, sample = next(iter(lines.values()))
    if not scores:
        raise InputError(f"{path}:{line}: no metric has a number")
    found = _found(path, line, sample.get("filtered_resps"), sent)
    chosen = -1
    if item.choices and not isinstance(found, Generated):
        if len(found) < len(item.choices):
            raise InputError(f"{path}:{line}: {len(found)} `filtered_resps` for {len(item.choices)} choices")
        chosen = max(range(len(item.choices)), key=lambda place: found[place].nats)
    text = found.text if isinstance(found, Generated) else ""
    return Row(
        item=item,
        protocol=AS_TASK,
        version=1,
        shots=shots,
        prompt=sent[0][0],
        found=found,
        answer=Answer(chosen, text, scores),
    )


def _value(path: Path, line: int, metric: str, value: bool | int | float) -> float:
    """Of one item, rounding errors beyond the metric's range taken off."""
    number = float(value) if isinstance(value, bool) else _number(value)
    least, most = item_range(metric)
    if number is None or math.isinf(number):
        raise InputError(f"{path}:{line}: `{metric}` is {value!r:.40}, no score")
    if not least - AGREE <= number <= most + AGREE:
        raise InputError(f"{path}:{line}: `{metric}` is {number:g}; it must lie from {least:g} to {most:g}")
    return min(max(number, least), most)


def _found(path: Path, line: int, replies: Any, sent: Sequence[tuple[str, str]]) -> tuple[Likelihood, ...] | Generated:
    """Numbers stand as texts in these files."""
    try:
        if isinstance(replies[0], str) and not sent[0][1]:
            return Generated(replies[0], 0, True)
        found = tuple(Likelihood(float(nats), 0, str(greedy) == "True") for nats, greedy in replies)
    except (TypeError, ValueError, IndexError, KeyError, OverflowError):
        raise InputError(f"{path}:{line}: `filtered_resps` are neither texts nor log-likelihoods") from None
    if len(found) != len(sent):
        raise InputError(f"{path}:{line}: {len(found)} `filtered_resps` for {len(sent)} `arguments`")
    if any(math.isnan(one.nats) for one in found) or all(one.nats == -math.inf for one in found):
        raise InputError(f"{path}:{line}: a log-likelihood is no number, or all are −∞: that model was broken")
    if any(one.nats > AGREE for one in found):
        raise InputError(f"{path}:{line}: a log-likelihood in `filtered_resps` is above 0")
    return found


def _check(path: Path, metrics: Mapping[str, Any], found: Accuracy) -> list[str]:
    """What of the samples' scores the results don't confirm. Raises InputError where they contradict."""
    notes = []
    for name, score in found.scores.items():
        metric, _, chosen = name.partition(",")
        named = [key for key in metrics if key.partition(",")[0] == metric]
        key = f"{metric},{chosen or PLAIN}" if chosen or len(named) != 1 else named[0]
        said = _number(metrics.get(key))
        if said is None or score.mean is None:
            there = f"its `{key}` is {metrics[key]!r:.40}" if key in metrics else f"it has no `{key}`"
            notes.append(f"{path}: {name} over its samples isn't checked against the results file: {there}")
        elif not abs(said - score.mean) <= AGREE * max(1.0, abs(score.mean)):
            raise InputError(
                f"{path}: {name} over its samples is {score.mean:.6g}, the results say {said:.6g}; give samples and "
                "results of the same run"
            )
    return notes


def _scores(metrics: Mapping[str, Any], counts: Any, path: Path, task: str) -> tuple[dict[str, Score], list[str]]:
    """Of a task without samples, with the harness's own standard errors; and what is no score."""
    n = _count(metrics.get("sample_len"), path, f"results.{task}.sample_len")
    if counts is not None:
        told = _object(counts, path, f"n-samples.{task}").get("effective")
        n = _count(told, path, f"n-samples.{task}.effective")
    found, notes = {}, []
    for name, value in metrics.items():
        metric, _, chosen = name.partition(",")
        if metric.endswith("_stderr") or not chosen or not metric.strip():
            continue
        mean, error = _number(value), _number(metrics.get(f"{metric}_stderr,{chosen}"))
        if mean is None or math.isinf(mean):
            notes.append(f"{path}: `results.{task}.{name}` is {value!r:.40}, no number: left out")
            continue
        least, most = mean_range(metric)
        if not least - AGREE <= mean <= most + AGREE:
            raise InputError(f"{path}: `results.{task}.{name}` is {mean:g}; it must lie from {least:g} to {most:g}")
        if error is not None and error < 0:
            raise InputError(f"{path}: `results.{task}.{metric}_stderr,{chosen}` is {error:g}; it must be 0 or more")
        half, method = None, "none given"
        if error is not None and not math.isinf(error):
            half, method = 1.959964 * error, "the harness's standard error"
            method += ", cut at the metric's range" * (mean - half < least or mean + half > most)
        found[writable(metric if chosen == PLAIN else name)] = Score(
            mean=min(max(mean, least), most),
            low=None if half is None else max(least, mean - half),
            high=None if half is None else min(most, mean + half),
            n=n,
            method=method,
        )
    return found, notes
