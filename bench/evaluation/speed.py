"""Questions a second of the engine beside lm-evaluation-harness: same model, questions and threads (one each).

    python bench/evaluation/speed.py <model folder> … [--tasks mmlu mmlu_cloze] [--count 25] [--subjects 4] [--runs 3]
                                     [--batch 8] [--small] [--json FILE]

The two alternate; medians. `--count` questions of each subject: MMLU has 246 a subject on average, and the more there
are, the less the examples before them cost. `--small`: 5 questions, one run.
"""

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from asked import Asked, asked
from sides import Run, run


def measure(folder: str, questions: list[Asked], task: str, runs: int, batch: int) -> dict[str, Any]:
    requests = [{"context": one.context, "continuations": one.continuations} for one in questions]
    found: dict[str, list[Run]] = {"ours": [], "harness": []}
    for _ in range(runs):
        for side, results in found.items():
            results.append(run(side, folder, requests, batch))
    ours, theirs = found["ours"], found["harness"]

    def ratio(name: str, above: Sequence[Run], below: Sequence[Run]) -> float:
        return statistics.median(getattr(one, name) for one in above) / statistics.median(
            getattr(one, name) for one in below
        )

    apart = [
        abs(a - b)
        for one, other in zip(ours[0].answers, theirs[0].answers, strict=True)
        for a, b in zip(one["nats"], other["nats"], strict=True)
    ]
    return {
        "model": Path(folder).name,
        "task": task,
        "questions": len(questions),
        "ours_per_s": len(questions) / statistics.median(one.seconds for one in ours),
        "harness_per_s": len(questions) / statistics.median(one.seconds for one in theirs),
        "times_wall": ratio("seconds", theirs, ours),
        "times_cpu": ratio("cpu", theirs, ours),
        "start_wall": ratio("ready", ours, theirs),
        "start_cpu": ratio("ready_cpu", ours, theirs),
        "largest_difference": max(apart),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--tasks", nargs="+", default=["mmlu", "mmlu_cloze"])
    parser.add_argument("--count", type=int, default=25)
    parser.add_argument("--subjects", type=int, default=4)
    parser.add_argument("--questions", type=Path, help="a questions.parquet: the tasks own and own_cloze")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    count, runs = (5, 1) if options.small else (options.count, options.runs)
    rows = []
    for folder in options.folders:
        for task in options.tasks:
            questions = asked(task, count, options.questions, options.subjects)
            rows.append(measure(folder, questions, task, runs, options.batch))
            print("  ".join(f"{key} {v:.3g}" if isinstance(v, float) else f"{v}" for key, v in rows[-1].items()))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
