"""The similarity filter of Self-Instruct beside rouge-score: the same decisions, and how many pairs a second.

`python bench/alignment/novelty.py [--pool 175] [--candidates 400]`

Instructions are the seed tasks of Self-Instruct and Alpaca's, from `posttraining/` of TRAINYARD_REFERENCE; a candidate
is compared with the whole pool. CPU seconds on one thread, taking turns, medians of 3. Bar: 40 times as many pairs.
"""

import argparse
import gzip
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PEER = os.environ.get("TRAINYARD_PEERS_PYTHON", str(ROOT / ".venv-peers" / "bin" / "python"))
REFERENCE = Path(os.environ.get("TRAINYARD_REFERENCE", ROOT.parent / "shared" / "reference")) / "posttraining"
THEIRS = """
import json, sys, time
from rouge_score import rouge_scorer, scoring
scorer = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)
job = json.load(sys.stdin)
pool = [scorer._tokenizer.tokenize(text) for text in job["pool"]]
began = time.process_time()
found = []
for text in job["candidates"]:
    words = scorer._tokenizer.tokenize(text)
    found.append(max(rouge_scorer._score_lcs(words, other).fmeasure for other in pool))
print(json.dumps({"seconds": time.process_time() - began, "closest": found}))
"""


def texts() -> tuple[list[str], list[str]]:
    with gzip.open(REFERENCE / "alpaca" / "seed_tasks.jsonl.gz", "rt", encoding="utf-8") as lines:
        seeds = [json.loads(line)["instruction"] for line in lines]
    with gzip.open(REFERENCE / "alpaca" / "alpaca_1k.json.gz", "rt", encoding="utf-8") as file:
        return seeds, [row["instruction"] for row in json.load(file)]


def ours(pool: list[str], candidates: list[str]) -> tuple[float, list[float]]:
    from stages.alignment.writing.novelty import Novelty

    novelty = Novelty(pool, 0.7, 1, 1000)
    began = time.process_time()
    found = [novelty.closest(text) for text in candidates]
    return time.process_time() - began, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pool", type=int, default=175)
    parser.add_argument("--candidates", type=int, default=400)
    options = parser.parse_args()
    seeds, others = texts()
    # Candidates that are near the pool, too: its own texts with a word or two changed.
    near = [" ".join(["please", *text.split()[: -1 - n % 6]]) for n, text in enumerate(seeds)]
    pool, candidates = seeds[: options.pool], [*near, *others][: options.candidates]
    turns: dict[str, list[float]] = {"ours": [], "rouge-score": []}
    for _ in range(3):
        seconds, mine = ours(pool, candidates)
        turns["ours"].append(seconds)
        job = json.dumps({"pool": pool, "candidates": candidates})
        done = subprocess.run([PEER, "-c", THEIRS], input=job, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        turns["rouge-score"].append(found["seconds"])
    differ = sum((a > 0.7) != (b > 0.7) for a, b in zip(mine, found["closest"], strict=True))
    away = max(abs(a - b) for a, b in zip(mine, found["closest"], strict=True))
    pairs = len(pool) * len(candidates)
    rate = {name: pairs / statistics.median(seconds) for name, seconds in turns.items()}
    refused = sum(value > 0.7 for value in mine)
    print(f"{pairs} pairs, {refused} candidates refused, {differ} decided otherwise, scores within {away:.1e}")
    for name, one in rate.items():
        print(f"{name}: {one:,.0f} pairs/s")
    ratio = rate["ours"] / rate["rouge-score"]
    print(f"ratio {ratio:.0f} (bar 40)")
    sys.exit(0 if ratio >= 40 and not differ else 1)


if __name__ == "__main__":
    main()
