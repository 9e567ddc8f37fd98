"""Raw and length-controlled rankings under a planted length bias: `python bench/judging/planted_bias.py [--svg FILE]`.

The simulated annotators of params.yaml judge eight models of known exact score, over a fixed grid of length biases and
label noises, 30 annotator seeds a cell. Printed is the mean distance of a model's rank from the true one (0 to 4; 2.63
for a random order), with the standard error over seeds; then how often the intervals of win rates hold the true one, as
judged and as corrected by some known verdicts. About 5 minutes on one core.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from bench.judging.planted_world import Coverage, RankErrors, coverage, rank_errors, world  # noqa: E402
from stages.annotators.pool import PoolSettings  # noqa: E402  (the path is the project's root)

LENGTH_BIASES = (0.0, 0.5, 1.0, 2.0, 4.0)
LABEL_NOISES = (0.0, 0.1, 0.25)
SEEDS = range(30)
QUESTIONS = 150
POPULATION, LABELLED, DRAWS = 1500, 50, 30  # questions that 150 are drawn from, with known verdicts, draws a model


def cells() -> dict[tuple[float, float], PoolSettings]:
    """(length bias, label noise) → annotators; everything but those two is params.yaml's pool."""
    pool = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))["judging"]["judge"]["annotator"]["pool"]
    return {
        (bias, noise): PoolSettings(**(pool | {"length_bias": bias, "label_noise": noise}))
        for noise in LABEL_NOISES
        for bias in LENGTH_BIASES
    }


def grid() -> dict[tuple[float, float], RankErrors]:
    known = world(QUESTIONS, seed=0)
    return {cell: rank_errors(known, settings, SEEDS) for cell, settings in cells().items()}


def covered() -> dict[tuple[float, float], Coverage]:
    """Of intervals of win rates, with a known verdict on 50 of 150 questions."""
    known = world(POPULATION, seed=1)
    return {cell: coverage(known, settings, QUESTIONS, LABELLED, DRAWS, 0) for cell, settings in cells().items()}


def draw(found: dict[tuple[float, float], RankErrors]) -> str:
    from bench.judging.standalone import figure
    from stages.publishing.html.charts import Axis, Plot

    plots = []
    top = max(errors.raw.mean() + 1.96 * _error(errors.raw) for errors in found.values())
    for noise in LABEL_NOISES:
        title = f"{noise:.0%} of verdicts flipped"
        plot = Plot(Axis("length bias, logits"), Axis("mean rank error"), title, width=300, height=300)
        plot.y.take([0.0, top])
        for name, label, style, place in (
            ("raw", "win rate", "c1", (-2, -10, -4)),
            ("controlled", "length-controlled", "c2", (-1, 0, 30)),
        ):
            means, errors = ([f(getattr(found[b, noise], name)) for b in LENGTH_BIASES] for f in (np.mean, _error))
            plot.line(LENGTH_BIASES, means, style)
            plot.points(LENGTH_BIASES, means, style)
            for bias, mean, error in zip(LENGTH_BIASES, means, errors, strict=True):
                plot.interval(bias, mean - 1.96 * error, mean + 1.96 * error, style)
            at, dx, dy = place
            plot.text(LENGTH_BIASES[at], means[at], label, style, dx=dx, dy=dy, anchor="end")
        plots.append((title, plot))
    return figure(plots)


def _error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / len(values) ** 0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--svg", type=Path, help="where to draw the table")
    arguments = parser.parse_args()
    found = grid()
    print(f"mean rank error over {len(SEEDS)} annotator seeds (standard error)\n")
    print("| label noise | length bias | win rate | length-controlled | seeds where control is better, equal, worse |")
    print("|---|---|---|---|---|")
    for (bias, noise), errors in found.items():
        better, worse = (errors.controlled < errors.raw).sum(), (errors.controlled > errors.raw).sum()
        print(
            f"| {noise:g} | {bias:g} | {errors.raw.mean():.2f} ({_error(errors.raw):.2f}) "
            f"| {errors.controlled.mean():.2f} ({_error(errors.controlled):.2f}) "
            f"| {better}, {len(SEEDS) - better - worse}, {worse} |"
        )
    print(f"\ncoverage of 95 % intervals of win rates, {LABELLED} of {QUESTIONS} verdicts known, %\n")
    print("| label noise | length bias | the judge's own | corrected |\n|---|---|---|---|")
    for (bias, noise), shares in covered().items():
        print(f"| {noise:g} | {bias:g} | {shares.naive:.0f} | {shares.corrected:.1f} |")
    if arguments.svg:
        arguments.svg.write_text(draw(found), encoding="utf-8")


if __name__ == "__main__":
    main()
