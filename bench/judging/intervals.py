"""Whether intervals cover the truth: `python bench/judging/intervals.py [--models 2000]`. Some minutes on one core.

Simulated models of 20 to 800 comparisons with a known chance to win, from 0 to 1, and a known preference of the judge
for length. Verdicts are wins and losses, wins and losses with draws, or preferences between. Bars: every interval
covers in at least 93 % at each size and 94 to 98.5 % over the sizes, stays within 0..100 and holds the exact bounds
where a model wins or loses everything.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from stages.judging.statistics.arena import fit_bradley_terry  # noqa: E402  (the path is the project's root)
from stages.judging.statistics.intervals import rate_bounds  # noqa: E402
from stages.judging.statistics.length_control import fit  # noqa: E402

SIZES = (20, 30, 50, 100, 200, 400, 800)
VERDICTS = ("hard", "draws", "soft")
LEAST, AVERAGE = 93.0, (94.0, 98.5)


class Interval(NamedTuple):
    kind: str
    size: int
    truth: float
    low: float
    high: float

    @property
    def covers(self) -> bool:
        return self.low - 1e-9 <= self.truth <= self.high + 1e-9


def preferences(chance: np.ndarray, verdicts: str, generator: np.random.Generator) -> np.ndarray:
    """In 0..1 with these means."""
    if verdicts == "soft":
        return generator.beta(np.maximum(2 * chance, 1e-4), np.maximum(2 * (1 - chance), 1e-4))
    if verdicts == "draws":
        return (generator.random((2, len(chance))) < chance).mean(0)
    return (generator.random(len(chance)) < chance).astype(np.float64)


def one_model(size: int, verdicts: str, generator: np.random.Generator) -> Iterator[Interval]:
    """Intervals of one model's win rate and of its length-controlled rate, unless that is refused."""
    chance = float(generator.choice([0.0, 1.0, generator.random()], p=[0.02, 0.02, 0.96]))
    flat = preferences(np.full(size, chance), verdicts, generator)
    yield Interval("win rate", size, 100 * chance, *rate_bounds(flat))
    baseline = generator.integers(300, 900, size)
    output = np.maximum(1, baseline - generator.normal(200 * generator.normal(), 200, size).round())
    with np.errstate(divide="ignore"):
        logit = np.log(chance) - np.log1p(-chance) + generator.normal() * np.tanh((baseline - output) / 200)
    table = {"instruction_index": np.arange(size), "len_output": output, "len_baseline": baseline}
    table["preference"] = 1 + preferences(1 / (1 + np.exp(-logit)), verdicts, generator)
    fitted = fit(table)
    if not fitted.unidentified:
        yield Interval("length-controlled", size, 100 * chance, *fitted.interval())


def one_arena(size: int, models: int, verdicts: str, generator: np.random.Generator) -> Iterator[Interval]:
    """Intervals of Bradley–Terry strengths; each model has `size` battles in the mean."""
    strength = generator.normal(0, 1.5, models)
    strength -= strength.mean()
    count = size * models // 2
    a = generator.integers(0, models, count)
    b = (a + generator.integers(1, models, count)) % models
    won = preferences(1 / (1 + np.exp(strength[b] - strength[a])), verdicts, generator)
    names = np.array([f"model{k}" for k in range(models)])
    winner = np.where(won == 0.5, "tie", np.where(won > 0.5, "model_a", "model_b"))
    fitted = fit_bradley_terry({"model_a": names[a], "model_b": names[b], "winner": winner.tolist()})
    for name, bounds in fitted.intervals.items():
        kind = f"Bradley–Terry, {models} models"
        yield Interval(kind, size, float(strength[int(name.removeprefix("model"))]), *bounds)


def simulated(models: int, sizes: Sequence[int], seed: int) -> list[Interval]:
    """Intervals of so many models, evenly over sizes and kinds of verdicts; arenas have none of soft preferences."""
    generator = np.random.default_rng(seed)
    found: list[Interval] = []
    for size in sizes:
        for verdicts in VERDICTS:
            for _ in range(round(models / len(sizes) / len(VERDICTS))):
                found += one_model(size, verdicts, generator)
            if verdicts == "hard":
                for count in (2, 6):
                    for _ in range(round(models / len(sizes) / count)):
                        found += one_arena(size, count, verdicts, generator)
    return found


def coverage(found: Sequence[Interval]) -> dict[str, dict[int, float]]:
    """kind → size → percent of the intervals that cover."""
    told: dict[str, dict[int, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for one in found:
        told[one.kind][one.size].append(one.covers)
    return {kind: {size: 100 * float(np.mean(hits)) for size, hits in by.items()} for kind, by in told.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    found = simulated(options.models, SIZES, options.seed)
    print(f"coverage of 95 % intervals, {len(found):,} intervals of {options.models:,} models\n")
    print(f"| | {' | '.join(map(str, SIZES))} | mean |\n|{'---|' * (len(SIZES) + 2)}")
    failed = []
    for kind, by_size in coverage(found).items():
        mean = float(np.mean(list(by_size.values())))
        print(f"| {kind} | {' | '.join(f'{share:.1f}' for share in by_size.values())} | {mean:.1f} |")
        if min(by_size.values()) < LEAST or not AVERAGE[0] <= mean <= AVERAGE[1]:
            failed.append(kind)
    kinds = [one.kind for one in found]
    print(f"\nlength-controlled rates refused: {kinds.count('win rate') - kinds.count('length-controlled')}")
    outside = [one for one in found if "Terry" not in one.kind and not 0 <= one.low < one.high <= 100]
    print(f"outside 0..100, or of no width: {len(outside)}; short of a bar: {', '.join(failed) or 'none'}")
    return int(bool(failed or outside))


if __name__ == "__main__":
    sys.exit(main())
