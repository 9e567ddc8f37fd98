"""Reward and truth over the distance from the SFT model: where they part, the reward model is over-optimised
(Gao et al. 2022, "Scaling Laws for Reward Model Overoptimization", figure 1)."""

from collections.abc import Mapping, Sequence
from typing import Any

from stages.publishing.html.charts import Axis, Plot

Point = tuple[str, float, float | None, float | None]  # what, KL in nats, reward model's reward, exact score
STYLES = {"best_of_n": "c2", "ppo": "c4"}


def points_of(best_of_n: Sequence[Mapping[str, Any]], ppo: Sequence[Mapping[str, Any]]) -> dict[str, list[Point]]:
    """By method: best-of-n for each n, PPO at each checkpoint; rows of `over_optimisation.json` and `steps.jsonl`."""
    chosen = [(f"n = {row['n']:.0f}", row["kl_bound"], row["reward"], row["exact_score"]) for row in best_of_n]
    moved, trained = 0.0, []
    for row in ppo:
        moved = row.get("kl", moved)  # measured when answers were last sampled
        if row.get("validation_reward") is not None:
            trained.append((f"step {row['step']}", moved, row["validation_reward"], row.get("validation_exact_score")))
    return {name: found for name, found in (("best_of_n", chosen), ("ppo", trained)) if found}


def over_optimisation_view(found: Mapping[str, Sequence[Point]]) -> dict[str, Any] | None:
    """A chart of the reward, one of the exact score, and the table behind them; None where nothing was measured."""
    if not found:
        return None
    charts = [
        {"title": title, "svg": svg}
        for title, at in (("By the reward model", 2), ("By the truth", 3))
        if (svg := _chart(found, at, title)) is not None
    ]
    return {
        "charts": charts,
        "key": [{"mark": "ln", "colour": STYLES[name], "label": name.replace("_", " ")} for name in found],
        "head": ["Method", "Where", "KL from SFT, nats", "Reward", "Exact score"],
        "rows": [
            [name, what, f"{moved:.2f}", *("–" if number is None else f"{number:.3f}" for number in numbers)]
            for name, points in found.items()
            for what, moved, *numbers in points
        ],
        "numeric": (2, 3, 4),
        "sentence": _sentence(found),
    }


def _chart(found: Mapping[str, Sequence[Point]], at: int, title: str) -> str | None:
    label = "mean reward" if at == 2 else "mean exact score"
    plot = Plot(Axis("KL from SFT, nats"), Axis(label), f"{title}: {label} over KL", width=360, height=230)
    drawn = False
    for name, points in found.items():
        known = [(one[1], float(number)) for one in points if isinstance(number := one[at], int | float)]
        if known:
            xs, ys = [x for x, _ in known], [y for _, y in known]
            plot.line(xs, ys, STYLES[name])
            plot.points(xs, ys, STYLES[name], radius=3)
            drawn = True
    return plot.svg() if drawn else None


def _sentence(found: Mapping[str, Sequence[Point]]) -> str:
    """Whether more reward was more truth, of best-of-n, whose points come from the same samples."""
    points = found.get("best_of_n", ())
    if len(points) < 2 or None in (points[0][3], points[-1][3]):
        return ""
    first, last = points[0], points[-1]
    assert first[2] is not None and last[2] is not None and first[3] is not None and last[3] is not None
    gained = last[3] - first[3]
    word = "loses" if gained < 0 else "gains"
    return (
        f"From one answer to the best of {len(points)}, the reward rises by {last[2] - first[2]:.2f} and the exact "
        f"score {word} {abs(gained):.2f}."
    )
