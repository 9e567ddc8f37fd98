"""The engine beside lm-evaluation-harness, number by number: largest difference of log-likelihoods, and accuracies.

    python bench/evaluation/parity_loglik.py <model folder> … [--tasks …] [--count 25] [--json FILE]

`wikitext` is rolling: windows of the whole context. A model whose tokenizer adds BOS is not compared there, as the
harness scores that BOS too. A context that is too long for a model loses its beginning on both sides.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from asked import TASKS, asked, wikitext
from sides import run


def compare(folder: str, task: str, count: int, table: Path | None) -> dict[str, Any]:
    questions = [] if task == "wikitext" else asked(task, count, table)
    requests: list[dict[str, Any]] = [{"context": one.context, "continuations": one.continuations} for one in questions]
    if task == "wikitext":
        requests = [{"text": text} for text in wikitext(count)]
    ours, theirs = (run(side, folder, requests, batch=1).answers for side in ("ours", "harness"))
    values = [np.concatenate([one["nats"] for one in answers]) for answers in (ours, theirs)]
    row: dict[str, Any] = {"model": Path(folder).name, "task": task, "values": len(values[0])}
    row["largest_difference"] = float(np.abs(values[0] - values[1]).max())
    row["relative"] = float((np.abs(values[0] - values[1]) / np.abs(values[1])).max())
    row["greedy_equal"] = all(a.get("greedy") == b.get("greedy") for a, b in zip(ours, theirs, strict=True))
    for name, answers in (("ours", ours), ("harness", theirs)):
        if questions and len(questions[0].continuations) > 1:
            right = [int(np.argmax(a["nats"])) == one.answer for a, one in zip(answers, questions, strict=True)]
            row[f"accuracy_{name}"] = float(np.mean(right))
    return row


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--tasks", nargs="+", default=[*TASKS, "wikitext"])
    parser.add_argument("--count", type=int, default=25)
    parser.add_argument("--questions", type=Path, help="a questions.parquet: the tasks own and own_cloze")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    for folder in options.folders:
        for task in options.tasks:
            rows.append(compare(folder, task, options.count, options.questions))
            print(
                "  ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{v}" for k, v in rows[-1].items()), flush=True
            )
            if options.json:
                options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
