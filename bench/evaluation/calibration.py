"""How often the 95 % intervals of calibration error and of bits per byte hold the truth, on simulated models:
`python bench/evaluation/calibration.py [--small]`. About two minutes of one core.
"""

import argparse

import numpy as np
from scipy.stats import norm

from stages.evaluation.calibration import bin_numbers, expected_error
from stages.evaluation.perplexity import Loss, bits_interval

MANY = 200_000  # predictions that the truth is taken from


def predictions(random: np.random.Generator, groups: int, each: int, off: float, common: float):
    """Confidences, whether they come true (as often as said, less `off`), and the group of each; `common`: standard
    deviation of what a group misses by."""
    owners = np.repeat(np.arange(groups), each)
    confidence = random.beta(3, 2, groups * each)
    rate = confidence - off + random.normal(0, common, groups)[owners]
    return confidence, random.random(groups * each) < rate, owners


def true_error(off: float, common: float) -> float:
    """Of the same model with any number of predictions, in 15 bins; rates outside 0..1 are cut there."""
    confidence = np.random.default_rng(0).beta(3, 2, MANY)
    if common:
        spread = norm.ppf((np.arange(50) + 0.5) / 50) * common
        rate = np.clip(confidence[:, None] - off + spread, 0, 1).mean(1)
    else:
        rate = np.clip(confidence - off, 0, 1)
    number = bin_numbers(confidence)
    return float(np.abs(np.bincount(number, weights=confidence - rate)).sum() / MANY)


def calibration(draws: int) -> None:
    print("| predictions | groups | off by | truth | mean ECE | by chance | interval holds it, % | groups ignored, % |")
    print("|---|---|---|---|---|---|---|---|")
    for groups, each, common in ((100, 1, 0), (200, 1, 0), (1000, 1, 0), (15, 100, 0.08), (31, 200, 0.08)):
        for off in (0.0, 0.03, 0.1):
            random = np.random.default_rng(1)
            truth = true_error(off, common)
            held, ignored, error, chance = [], [], [], []
            for _ in range(draws):
                confidence, hit, owners = predictions(random, groups, each, off, common)
                found, plain = expected_error(confidence, hit, owners), expected_error(confidence, hit)
                held.append(found.low <= truth <= found.high)
                ignored.append(plain.low <= truth <= plain.high)
                error.append(found.ece)
                chance.append(found.by_chance)
            print(
                f"| {groups * each} | {groups} | {off} | {truth:.3f} | {np.mean(error):.3f} | {np.mean(chance):.3f} "
                f"| {100 * np.mean(held):.0f} | {100 * np.mean(ignored):.0f} |",
                flush=True,
            )


def bits(draws: int) -> None:
    print("\n| documents | interval of bits per byte holds the truth, % |\n|---|---|")
    for documents in (10, 30, 100):
        random = np.random.default_rng(2)
        held = []
        for _ in range(10 * draws):
            sizes = random.integers(200, 4000, documents)
            nats = sizes * random.normal(1.5, 0.4, documents) * np.log(2)
            losses = [Loss(float(cost), 1, int(size)) for cost, size in zip(nats, sizes, strict=True)]
            found = bits_interval(losses)
            held.append(found.low <= 1.5 <= found.high)
        print(f"| {documents} | {100 * np.mean(held):.1f} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="20 draws of each instead of 100")
    count = 20 if parser.parse_args().small else 100
    calibration(count)
    bits(count)
