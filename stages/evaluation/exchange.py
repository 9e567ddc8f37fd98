"""The files of the LM Evaluation Harness (0.4): what it measured joins our tables, and what we measured its readers.

A run of it is `results_<date>.json` and, with --log_samples, one `samples_<task>_<date>.jsonl` a task: a line a
document and filter, with the prompt, the replies and the metrics.
"""

import hashlib
import json
import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from stages.base.contracts.evaluation import LOWER_IS_BETTER, Accuracy, Score
from stages.base.errors import InputError
from stages.base.files import json_lines, read_json, write_json, write_jsonl
from stages.evaluation.items import writable
from stages.evaluation.measure import Measured, Task
from stages.evaluation.protocols.protocol import Answer
from stages.evaluation.results import accuracy
from stages.evaluation.run import ROLLING, Row
from stages.evaluation.scoring.requests import Choices, Generated, Likelihood, Rolling
from stages.evaluation.tasks.item import Item

AS_TASK = "task"  # the protocol that asks as the harness does
PLAIN = "none"  # the harness's name of the filter that does nothing
AGREE = 1e-6  # between a task's score in results.json and the mean of its samples
TAIL = 60  # characters at the end of a prompt by which an item is looked up


# ----------------------------------------------------------------------------------------------------- reading


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
    if not isinstance(whole, dict) or not isinstance(whole.get("results"), dict):
        raise InputError(f"{results}: no `results`; give a results_*.json of the LM Evaluation Harness")
    model = _model_name(whole, results)
    files = {sample_task(path): path for path in samples}
    if unknown := [task for task in files if task not in whole["results"]]:
        raise InputError(f"{files[unknown[0]]}: {results} has no task `{unknown[0]}`; give the results of the same run")
    found: dict[str, Measured] = {}
    scores: dict[str, dict[str, Score]] = {}
    shots: dict[str, int] = {}
    asked_as: dict[str, tuple[str, str]] = {}
    notes: list[str] = []
    for task, metrics in whole["results"].items():
        key, protocol = asked_as[task] = _asked_as(task, (whole.get("configs") or {}).get(task))
        said = (whole.get("n-shot") or {}).get(task)
        shots[task] = said if isinstance(said, int) else 0
        if task in files:
            rows, paired = _rows(files[task], key, tasks.get(key), shots[task])
            rows = [replace(row, protocol=protocol) for row in rows]
            measured = Measured(rows, {}, accuracy(rows))
            _check(files[task], metrics, measured.accuracy)
            found[task] = measured
            if key in tasks and paired < len(rows):
                notes.append(f"{files[task]}: {len(rows) - paired} of {len(rows)} documents are none of our items")
        elif own := _scores(metrics, (whole.get("n-samples") or {}).get(task)):
            scores[task] = own
    return Imported(model, found, scores, shots, asked_as, notes)


def sample_task(path: Path) -> str:
    """`samples_<task>_<date>.jsonl` → the task, as the harness's own readers take it."""
    name = path.name
    if not name.startswith("samples_") or name.count("_") < 2:
        raise InputError(f"{path}: give files named samples_<task>_<date>.jsonl, as the harness names them")
    return name[name.find("_") + 1 : name.rfind("_")]


def _asked_as(name: str, config: Any) -> tuple[str, str]:
    """Our task and protocol: as `write_harness` noted them; of the harness's own files its task and `task`."""
    noted = config.get("metadata") if isinstance(config, Mapping) else None
    if isinstance(noted, Mapping) and isinstance(noted.get("protocol"), str):
        return str(noted.get("task", name)), noted["protocol"]
    return name, AS_TASK


def _model_name(whole: Mapping[str, Any], path: Path) -> str:
    config = whole.get("config")
    arguments = config.get("model_args") if isinstance(config, Mapping) else None
    if isinstance(arguments, str):
        arguments = dict(part.split("=", 1) for part in arguments.split(",") if "=" in part)
    named = whole.get("model_name") or (arguments or {}).get("pretrained") or (arguments or {}).get("model")
    return str(named) if named else path.parent.name or path.stem


def _rows(path: Path, key: str, task: Task | None, shots: int) -> tuple[list[Row], int]:
    """Rows in the order of the documents, and how many of them are items of ours."""
    documents: dict[int, list[tuple[int, Mapping[str, Any]]]] = defaultdict(list)
    for line, sample in json_lines(path):
        if not isinstance(sample, dict) or not isinstance(sample.get("doc_id"), int):
            raise InputError(f"{path}:{line}: no `doc_id`; this is no file of samples")
        documents[sample["doc_id"]].append((line, sample))
    known = _Known(task.asked if task is not None else ())
    rows, paired = [], 0
    for place, lines in sorted(documents.items()):
        line, sample = lines[0]
        sent = _arguments(path, line, sample)
        item = known.find(place, sent[0][0], sample.get("doc"))
        paired += item is not None
        if item is None:
            item = _foreign(key, place, sample)
        rows.append(_row(path, lines, sent, item, shots))
    return rows, paired


class _Known:
    """Our items by what their prompts end with."""

    def __init__(self, items: Sequence[Item]) -> None:
        self._items = items
        self._by_id = {item.id: item for item in items}
        self._by_tail: dict[str, list[Item]] = defaultdict(list)
        for item in items:
            if item.prompt:
                self._by_tail[item.prompt[-TAIL:]].append(item)

    def find(self, place: int, context: str, doc: Any) -> Item | None:
        """The item that the document names, as exported ones do; the item at that place of the split if the context
        ends with its prompt; else the one whose does."""
        if isinstance(doc, Mapping) and isinstance(doc.get("id"), str) and doc["id"] in self._by_id:
            return self._by_id[doc["id"]]
        if place < len(self._items) and (own := self._items[place]).prompt and context.endswith(own.prompt):
            return own
        for length in range(1, TAIL + 1) if len(context) < TAIL else (TAIL,):
            for item in self._by_tail.get(context[-length:], ()):
                if context.endswith(item.prompt):
                    return item
        return None


def _foreign(key: str, place: int, sample: Mapping[str, Any]) -> Item:
    """Of a document that only the harness knows; equal for every run of it."""
    own = str(sample.get("doc_hash") or hashlib.sha256(json.dumps(sample.get("doc")).encode()).hexdigest())
    target = str(sample.get("target", ""))
    return Item(f"{place}-{own[:16]}", key, key, "test", "", targets=(target,))


def _arguments(path: Path, line: int, sample: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(Context, continuation) of each request, the second one empty where text is generated."""
    given = sample.get("arguments")
    try:
        if isinstance(given, Mapping):
            pairs = [list(one.values()) for _, one in sorted(given.items(), key=lambda pair: _number(pair[0]))]
        else:
            pairs = [list(one) for one in given or ()]
        found = [(str(pair[0]), pair[1] if len(pair) > 1 and isinstance(pair[1], str) else "") for pair in pairs]
    except (AttributeError, IndexError, TypeError, ValueError):
        found = []
    if not found:
        raise InputError(f"{path}:{line}: no `arguments`; write samples with --log_samples of lm-eval 0.4")
    return found


def _number(name: str) -> int:
    return int(name.rpartition("_")[2])


def _row(
    path: Path, lines: Sequence[tuple[int, Mapping[str, Any]]], sent: Sequence[tuple[str, str]], item: Item, shots: int
) -> Row:
    scores: dict[str, float] = {}
    rolling: tuple[float, float] | None = None
    for line, sample in lines:
        suffix = "" if len(lines) == 1 else f",{sample.get('filter')}"
        for metric in sample.get("metrics") or ():
            value = sample.get(metric)
            if isinstance(value, list) and len(value) == 2:  # of a whole text: (log-likelihood, words or bytes)
                rolling = float(value[0]), float(value[1])
            elif isinstance(value, bool | int | float):
                if not math.isfinite(value):
                    raise InputError(f"{path}:{line}: `{metric}` is {value}, no score")
                scores[f"{metric}{suffix}"] = float(value)
    line, sample = lines[0]
    replies = sample.get("filtered_resps")
    if rolling is not None:
        raise InputError(f"{path}:{line}: scores of whole texts aren't imported item by item; leave this file out")
    if not scores:
        raise InputError(f"{path}:{line}: no metric has a number")
    found = _found(path, line, replies, sent)
    chosen = -1
    if item.choices and not isinstance(found, Generated | Rolling):
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


def _found(path: Path, line: int, replies: Any, sent: Sequence[tuple[str, str]]) -> tuple[Likelihood, ...] | Generated:
    """Numbers stand as texts in these files."""
    try:
        if isinstance(replies[0], str) and not sent[0][1]:
            return Generated(replies[0], 0, True)
        found = tuple(Likelihood(float(nats), 0, str(greedy) == "True") for nats, greedy in replies)
    except (TypeError, ValueError, IndexError, KeyError):
        raise InputError(f"{path}:{line}: `filtered_resps` are neither texts nor log-likelihoods") from None
    if any(math.isnan(one.nats) for one in found):
        raise InputError(f"{path}:{line}: a log-likelihood is no number: that model was broken")
    return found


def _check(path: Path, metrics: Mapping[str, Any], found: Accuracy) -> None:
    for name, score in found.scores.items():
        metric, _, chosen = name.partition(",")
        named = [key for key in metrics if key.partition(",")[0] == metric]
        said = metrics.get(f"{metric},{chosen}" if chosen or len(named) != 1 else named[0])
        if isinstance(said, int | float) and score.mean is not None and abs(said - score.mean) > AGREE * max(1.0, said):
            raise InputError(
                f"{path}: {name} over its samples is {score.mean:.6g}, the results say {said:.6g}; give samples and "
                "results of the same run"
            )


def _scores(metrics: Mapping[str, Any], counted: Any) -> dict[str, Score]:
    """Of a task without samples: the harness's own standard errors."""
    n = counted.get("effective") if isinstance(counted, Mapping) else metrics.get("sample_len")
    found = {}
    for name, value in metrics.items():
        metric, _, chosen = name.partition(",")
        if metric.endswith("_stderr") or not chosen or not isinstance(value, int | float):
            continue
        error = metrics.get(f"{metric}_stderr,{chosen}")
        half = 1.959964 * error if isinstance(error, int | float) else None
        found[metric if chosen == PLAIN else name] = Score(
            mean=value,
            low=None if half is None else value - half,
            high=None if half is None else value + half,
            n=n if isinstance(n, int) else 0,
            method="the harness's standard error" if half is not None else "none given",
        )
    return found


# ----------------------------------------------------------------------------------------------------- writing


@dataclass(frozen=True)
class Exported:
    """A task of a model as it goes into the harness's files."""

    task: Task | None
    protocol: str
    shots: int
    measured: Measured


def exported_name(task: str, protocol: str) -> str:
    """The harness knows no protocols: ours stands in the task's name, its own (`task`) does not."""
    return task if protocol in (AS_TASK, ROLLING) else f"{task}_{protocol}"


def write_harness(folder: Path, model: str, tasks: Mapping[str, Exported], now: datetime) -> list[Path]:
    """tasks: `exported_name` → what was measured. Below `folder`, a folder of the model with the harness's two kinds of
    files; their paths."""
    place = folder / sanitized(model)
    date = now.isoformat().replace(":", "-")
    paths = [place / f"results_{date}.json"]
    hashes = {}
    for name, one in tasks.items():
        lines = _samples(one)
        hashes[name] = _digest("".join(row["doc_hash"] + row["prompt_hash"] + row["target_hash"] for row in lines))
        paths.append(place / f"samples_{name}_{date}.jsonl")
        write_jsonl(paths[-1], lines)
    names = list(tasks)
    write_json(
        paths[0],
        {
            "results": {name: {"alias": name, **_metrics(one.measured.accuracy)} for name, one in tasks.items()},
            "group_subtasks": {name: [] for name in names},
            "configs": {name: _config(name, one) for name, one in tasks.items()},
            "versions": {name: _version(one) for name, one in tasks.items()},
            "n-shot": {name: one.shots for name, one in tasks.items()},
            "higher_is_better": {
                name: {
                    _metric(metric): _metric(metric) not in LOWER_IS_BETTER for metric in one.measured.accuracy.scores
                }
                for name, one in tasks.items()
            },
            "n-samples": {
                name: {"original": len(one.measured.rows), "effective": one.measured.accuracy.answered}
                for name, one in tasks.items()
            },
            "config": {"model": "trainyard", "model_args": {"pretrained": model}, "limit": None},
            "date": now.timestamp(),
            "model_source": "trainyard",
            "model_name": model,
            "model_name_sanitized": sanitized(model),
            "task_hashes": hashes,
        },
    )
    return paths


def sanitized(model: str) -> str:
    """A model's name as a folder's, as the harness has it."""
    return re.sub(r"[\"<>:/|\\?*\[\]]+", "__", model)


def _metric(name: str) -> str:
    return name.partition(",")[0]


def _filter(name: str) -> str:
    return name.partition(",")[2] or PLAIN


def _metrics(found: Accuracy) -> dict[str, Any]:
    values: dict[str, Any] = {"sample_len": found.answered}
    for name, score in found.scores.items():
        values[f"{_metric(name)},{_filter(name)}"] = score.mean
        known = score.low is not None and score.high is not None
        error = (score.high - score.low) / 2 / 1.959964 if known else "N/A"  # type: ignore[operator]
        values[f"{_metric(name)}_stderr,{_filter(name)}"] = error
    return values


def _config(name: str, one: Exported) -> dict[str, Any]:
    return {
        "task": name,
        "output_type": one.task.file.output_type if one.task is not None else "multiple_choice",
        "num_fewshot": one.shots,
        "metadata": {
            "version": _version(one),
            "task": one.task.key if one.task is not None else name,
            "protocol": one.protocol,
            "protocol_version": one.measured.accuracy.version,
        },
    }


def _version(one: Exported) -> Any:
    return one.task.file.metadata.get("version", 1.0) if one.task is not None else 1.0


def _samples(one: Exported) -> list[dict[str, Any]]:
    """A line for each item and filter, in the order of the items."""
    lines = []
    for place, row in enumerate(one.measured.rows):
        if row.found is None:
            continue
        metrics: dict[str, dict[str, Any]] = defaultdict(dict)
        for name, value in (row.answer.scores if row.answer else {}).items():
            metrics[_filter(name)][_metric(name)] = value
        for chosen, values in (metrics or {PLAIN: {}}).items():
            lines.append(_sample(place, row, chosen, values))
    return lines


def _sample(place: int, row: Row, chosen: str, values: Mapping[str, Any]) -> dict[str, Any]:
    item = row.item
    doc = {"id": item.id, "subject": item.subject, "question": writable(item.question), "choices": list(item.choices),
           "answer": item.answer, "target": writable(item.target if item.choices or item.targets else "")}  # fmt: skip
    if isinstance(row.found, Rolling):
        measured = {"bits_per_byte": [row.found.nats, row.found.bytes]}
        replies: list[Any] = [str(row.found.nats)]
        sent: list[list[Any]] = [[writable(row.prompt)]]
        values = measured
    elif isinstance(row.found, Generated):
        replies, sent = [writable(row.found.text)], [[writable(row.prompt), {}]]
    else:
        replies = [[str(one.nats), str(one.greedy)] for one in row.likelihoods]
        sent = [list(map(writable, pair)) for pair in _requests(row)]
    target = str(item.answer) if item.choices else doc["target"]
    return {
        "doc_id": place,
        "doc": doc,
        "target": target,
        "arguments": {
            f"gen_args_{number}": {f"arg_{at}": value for at, value in enumerate(pair)}
            for number, pair in enumerate(sent)
        },
        "resps": [[reply] for reply in replies],
        "filtered_resps": replies,
        "filter": chosen,
        "metrics": list(values),
        "doc_hash": _digest(json.dumps(doc, indent=2, ensure_ascii=False)),
        "prompt_hash": _digest(writable(row.prompt)),
        "target_hash": _digest(str(target)),
        **values,
    }


def _requests(row: Row) -> list[tuple[str, str]]:
    """(Context, continuation) of each likelihood; of an imported row what is known."""
    if not isinstance(row.request, Choices):
        texts = row.item.choices if len(row.item.choices) == len(row.likelihoods) else [""] * len(row.likelihoods)
        return [(row.prompt, text) for text in texts]
    contexts = row.request.contexts if len(row.request.contexts) > 1 else [row.prompt] * len(row.request.continuations)
    return list(zip(contexts, row.request.continuations, strict=True))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
