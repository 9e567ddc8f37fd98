"""Who learns most in the same time: ours, nanoGPT or nanochat?

`python bench/pretraining/equal_time.py --nanogpt DIR --nanochat DIR`

Validation bits per byte after `--budget` CPU seconds of training, one thread each, batches of 1,024 tokens in the same
order, the same tokenizer and text (`equal_time_rows`), models of the same depth, width and block weights, each with its
project's own optimizer and schedule (`equal_time_contestants`), in bf16 where the CPU multiplies it. The clock is the
process's CPU time, which other programs on the machine disturb less than wall time; compilation and validation are
outside it. A run's length is planned from its own measured steps, and planned again at every step, so that everyone's
cooldown ends with the budget.

Three rates each, a factor of two apart; where the best is an outer one, more on that side. Seed 1's loss on one
validation text chooses; seeds 1 to 3 at that rate are compared on another text: paired differences, t intervals.
Runs are processes of their own, two at a time, the contestants taking turns. Each leaves a JSON file in
`.trainyard/bench/equal_time/`; the same command goes on after a kill.
"""

import argparse
import contextlib
import gc
import json
import math
import os
import statistics
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from bench.pretraining import equal_time_rows  # noqa: E402  (the path is the project's root)
from stages.base.stats import paired_interval  # noqa: E402

FOLDER = ROOT / ".trainyard" / "bench" / "equal_time"
NAMES = ("ours", "nanogpt", "nanochat")
RATES = {  # the middle ones were the best of 250 to 400 steps (ours, nanochat), or are customary at this size
    "ours": (0.007, 0.014, 0.028),  # Muon's; the others in proportion
    "nanogpt": (0.0015, 0.003, 0.006),
    "nanochat": (0.00625, 0.0125, 0.025),  # Muon's; the others in proportion
}
COMMITS = {"nanogpt": "3adf61e", "nanochat": "92d63d4"}
SEEDS, MAX_RATES = (1, 2, 3), 5
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "TRAINYARD_DEVICE": "cpu",
    "TORCHINDUCTOR_CACHE_DIR": str(FOLDER / "inductor"),
}
WARM, TIMED = 5, 20  # steps before the clock starts, undone
Result = dict[str, Any]


def race(name: str, lr: float, seed: int, budget: float, peer: Path | None) -> Result:
    """One run: compile, train for `budget` CPU seconds, validate."""
    import torch

    from bench.pretraining.equal_time_contestants import BATCH_ROWS, BATCH_TOKENS, NanoChat, NanoGPT, Ours

    torch.set_num_threads(1)
    rows = equal_time_rows.load(FOLDER)
    kinds = {"nanogpt": NanoGPT, "nanochat": NanoChat}
    contestant = kinds[name](lr, seed, peer) if peer else Ours(lr, seed)
    order = rows.order(seed)

    def step(number: int, total: int) -> float:
        return contestant.step(torch.from_numpy(rows.batch(order, number, BATCH_ROWS)), rows.pad, number, total)

    before, wall, start = deepcopy(contestant.model.state_dict()), time.monotonic(), time.process_time()
    contestant.optimizer = contestant.new_optimizer()
    for number in range(WARM):
        step(number, 1000)
    warm, warm_wall = time.process_time() - start, time.monotonic() - wall
    start = time.process_time()
    for number in range(TIMED):
        step(number, 1000)
    one = (time.process_time() - start) / TIMED
    contestant.model.load_state_dict(before)
    contestant.optimizer = contestant.new_optimizer()
    gc.collect()

    losses: list[float] = []
    curve: list[tuple[int, float, float]] = []
    start, wall, elapsed = time.process_time(), time.monotonic(), 0.0
    while (left := round((budget - elapsed) / one)) > 0:
        losses.append(step(len(losses), len(losses) + left))
        elapsed = time.process_time() - start
        one = elapsed / len(losses) if len(losses) >= TIMED else one
        if len(losses) % 50 == 0:
            curve.append((len(losses), round(elapsed, 2), round(statistics.fmean(losses[-50:]), 4)))
    result: Result = {
        "name": name, "lr": lr, "seed": seed, "budget": budget, "steps": len(losses), "cpu": elapsed,
        "wall": time.monotonic() - wall, "tokens_per_second": len(losses) * BATCH_TOKENS / elapsed,
        "warm_cpu": warm, "warm_wall": warm_wall, "curve": curve, "torch": torch.__version__, **contestant.counts(),
        "epochs": len(losses) * BATCH_ROWS / len(rows.train),
    }  # fmt: skip
    for part in ("select", "report"):
        nats, count = contestant.nats(getattr(rows, part), (rows.pad, rows.bos))
        if count != rows.tokens[part]:
            raise SystemExit(f"{name}: {count} targets of {rows.tokens[part]} were counted in {part}")
        result[part] = nats / (math.log(2) * rows.bytes[part])
    return result


class Race:
    """All runs, two at a time; what is done already is read."""

    def __init__(self, budget: float, peers: dict[str, Path]) -> None:
        self.budget, self.peers, self.lanes = budget, peers, threading.Semaphore(2)

    def run(self, name: str, lr: float, seed: int) -> Result:
        path = FOLDER / f"{name}_{self.budget:g}s_lr{lr:g}_seed{seed}.json"
        if not path.is_file():
            command = [sys.executable, __file__, "--run", name, str(lr), str(seed), "--budget", str(self.budget)]
            if name in self.peers:
                command += [f"--{name}", str(self.peers[name])]
            with self.lanes:
                done = subprocess.run(command, env=os.environ | ENVIRONMENT, stdout=subprocess.PIPE, text=True)
            if done.returncode:
                sys.exit(f"{name} at {lr:g}, seed {seed}: failed ({done.returncode})")
            partial = path.with_suffix(".partial")
            partial.write_text(done.stdout.splitlines()[-1])
            partial.replace(path)
        result: Result = json.loads(path.read_text())
        print(
            f"{name} {lr:g} seed {seed}: {result['select']:.4f} {result['report']:.4f} bits a byte, "
            f"{result['steps']:,} steps in {result['cpu']:.1f} CPU s ({result['wall']:.0f} s), "
            f"{result['tokens_per_second']:,.0f} tokens/s, {result['epochs']:.2f} epochs; "
            f"{result['warm_wall']:.0f} s of warm-up",
            flush=True,
        )
        return result

    def contest(self, name: str) -> list[Result]:
        """Every run of a contestant: its rates, then the other seeds at the best of them (the last ones)."""
        low, middle, high = RATES[name]
        found = {lr: self.run(name, lr, SEEDS[0]) for lr in (middle, low, high)}

        def loss(lr: float) -> float:
            value = found[lr]["select"]
            return value if math.isfinite(value) else math.inf

        while len(found) < MAX_RATES and (best := min(found, key=loss)) in (min(found), max(found)):
            lr = best / 2 if best == min(found) else best * 2
            found[lr] = self.run(name, lr, SEEDS[0])
        best = min(found, key=loss)
        return [*found.values(), *(self.run(name, best, seed) for seed in SEEDS[1:])]


def table(runs: dict[str, list[Result]]) -> None:
    best = {name: [run for run in rows if run["lr"] == rows[-1]["lr"]] for name, rows in runs.items()}
    print("\n| | N (without embeddings) | rate | steps | tokens/s | CPU s | bits a byte, seeds | mean |")
    print("|---|---|---|---|---|---|---|---|")
    for name, rows in best.items():
        rows.sort(key=lambda row: row["seed"])
        values = [row["report"] for row in rows]
        steps, speed, cpu = ([row[key] for row in rows] for key in ("steps", "tokens_per_second", "cpu"))
        print(
            f"| {name} | {rows[0]['parameters']:,} ({rows[0]['without_embeddings']:,}) | {rows[0]['lr']:g} "
            f"| {min(steps):,}–{max(steps):,} | {statistics.median(speed):,.0f} | {statistics.median(cpu):.1f} "
            f"| {', '.join(f'{value:.4f}' for value in values)} | **{statistics.fmean(values):.4f}** |"
        )
    print("\nrates, seed 1, on the text for choosing")
    for name, rows in runs.items():
        swept = sorted((row["lr"], row["select"]) for row in rows if row["seed"] == SEEDS[0])
        edge = rows[-1]["lr"] in (swept[0][0], swept[-1][0])
        print(f"- {name}: " + ", ".join(f"{lr:g} {value:.4f}" for lr, value in swept) + (" (EDGE)" if edge else ""))
    print()
    for peer in NAMES[1:]:
        values = [[row["report"] for row in best[name]] for name in ("ours", peer)]
        found = paired_interval(*values)
        verdict = "lower" if found.high < 0 else "higher" if found.low > 0 else "no difference shown"
        print(f"ours - {peer}: {found.mean:+.4f} ({found.low:+.4f} to {found.high:+.4f}) bits a byte: {verdict}")
    shortest = min(run["steps"] for rows in runs.values() for run in rows)
    print(f"shortest run: {shortest:,} steps (bar: 1,000)")


def checked(name: str, folder: Path) -> Path:
    commit = subprocess.run(["git", "-C", folder, "rev-parse", "HEAD"], capture_output=True, text=True).stdout
    if not commit.startswith(COMMITS[name]):
        sys.exit(f"{folder} is at {commit[:7] or 'no commit'}; check out {name}'s {COMMITS[name]} there")
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--nanogpt", type=Path, help="a checkout of nanoGPT")
    parser.add_argument("--nanochat", type=Path, help="a checkout of nanochat")
    parser.add_argument("--budget", type=float, default=260.0, help="CPU seconds of training, each run")
    parser.add_argument("--run", nargs=3, metavar=("NAME", "RATE", "SEED"))
    arguments = parser.parse_args()
    peers = {name: path for name in COMMITS if (path := getattr(arguments, name))}
    if arguments.run:
        name, lr, seed = arguments.run
        with contextlib.redirect_stdout(sys.stderr):  # the peers talk
            result = race(name, float(lr), int(seed), arguments.budget, peers.get(name))
        print(json.dumps(result))
        return
    if len(peers) < len(COMMITS):
        parser.error("both --nanogpt and --nanochat are needed")
    peers = {name: checked(name, path) for name, path in peers.items()}
    if not (FOLDER / "rows.json").is_file():
        from bench.corpus.documents import documents

        equal_time_rows.make(FOLDER, documents(20_000))
    contest = Race(arguments.budget, peers)
    with ThreadPoolExecutor(len(NAMES)) as pool:
        table(dict(zip(NAMES, pool.map(contest.contest, NAMES), strict=True)))


if __name__ == "__main__":
    main()
