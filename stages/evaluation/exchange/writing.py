"""Writing what we measured as the LM Evaluation Harness (0.4) does: its readers, and `reading`, take it."""

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from stages.base.contracts.evaluation import LOWER_IS_BETTER, Accuracy
from stages.base.files import write_json, write_jsonl
from stages.evaluation.exchange.reading import AS_TASK, PLAIN
from stages.evaluation.items import writable
from stages.evaluation.measure import Measured, Task
from stages.evaluation.run import ROLLING, Row
from stages.evaluation.scoring.requests import Choices, Generated, Rolling


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
    """A model's name as a folder's, as the harness has it; dots alone would name a folder that is there."""
    name = re.sub(r"[\"<>:/|\\?*\[\]]+", "__", model)
    return name if name.strip(".") else "__"


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
