"""The engine beside lm-evaluation-harness, number by number: largest difference of log-likelihoods, and accuracies.

    python bench/evaluation/parity_loglik.py <model folder> … [--tasks …] [--count 25] [--json FILE]

`wikitext` is rolling: windows of the whole context, without the BOS that the harness would score where a tokenizer adds
one. A context that is too long for a model loses its beginning on both sides. The harness sums in float32, which is
already 1e-7 of a long text's nats.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from asked import TASKS, asked, wikitext
from sides import run


def compare(folder: str, tasks: list[str], count: int, table: Path | None) -> list[dict[str, Any]]:
    """A row a task; each side reads them all in one process."""
    questions = {task: [] if task == "wikitext" else asked(task, count, table) for task in tasks}
    requests: list[dict[str, Any]] = []
    owners: list[str] = []
    for task, ones in questions.items():
        lines = [{"context": one.context, "continuations": one.continuations} for one in ones]
        lines = [{"text": text} for text in wikitext(count)] if task == "wikitext" else lines
        requests, owners = requests + lines, owners + [task] * len(lines)
    ours, theirs = (run(side, folder, requests, batch=1).answers for side in ("ours", "harness"))
    rows = []
    for task, ones in questions.items():
        pairs = [(a, b) for a, b, owner in zip(ours, theirs, owners, strict=True) if owner == task]
        values = [np.concatenate([pair[side]["nats"] for pair in pairs]) for side in (0, 1)]
        apart = np.abs(values[0] - values[1])
        row: dict[str, Any] = {"model": Path(folder).name, "task": task, "values": len(apart)}
        row |= {"largest_difference": float(apart.max()), "relative": float((apart / np.abs(values[1])).max())}
        row["greedy_equal"] = all(a.get("greedy") == b.get("greedy") for a, b in pairs)
        if ones and len(ones[0].continuations) > 1:
            for side, name in enumerate(("ours", "harness")):
                right = [
                    int(np.argmax(pair[side]["nats"])) == one.answer for pair, one in zip(pairs, ones, strict=True)
                ]
                row[f"accuracy_{name}"] = float(np.mean(right))
        rows.append(row)
    return rows


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
        for row in compare(folder, options.tasks, options.count, options.questions):
            rows.append(row)
            print("  ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{v}" for k, v in row.items()), flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
