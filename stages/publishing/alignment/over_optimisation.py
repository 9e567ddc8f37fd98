"""Reward and truth over the distance from the SFT model: where they part, the reward model is over-optimised
(Gao et al. 2022, "Scaling Laws for Reward Model Overoptimization", figure 1)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from stages.publishing.html.charts import Axis, Plot

Method = Literal["best_of_n", "ppo"]
STYLES: dict[Method, str] = {"best_of_n": "c2", "ppo": "c4"}
FEWEST = 4  # points to fit two parameters to
FORMS: dict[Method, str] = {"best_of_n": "d (α − β d)", "ppo": "d (α − β log d)"}


@dataclass(frozen=True)
class Point:
    """where: of best-of-n its n, of PPO its step; kl from the SFT model, in nats per answer; reward: the reward model's
    mean; truth: the mean exact score, None where nothing is known."""

    where: str
    kl: float
    reward: float | None
    truth: float | None

    @property
    def distance(self) -> float:
        """d = √KL. An unbiased estimate of a small KL may be negative: no distance."""
        return math.sqrt(max(0.0, self.kl))


@dataclass(frozen=True)
class Fit:
    """Gao et al.'s form (eq. 1), by least squares on what is gained since the first point, where d = 0.

    Two parameters on a handful of points of one model: it describes these, and says nothing of other ones.
    """

    method: Method
    start: float
    alpha: float
    beta: float
    points: int
    r_squared: float

    def at(self, distance: float) -> float:
        if distance <= 0:
            return self.start
        bend = distance if self.method == "best_of_n" else math.log(distance)
        return self.start + distance * (self.alpha - self.beta * bend)


def points_of(
    best_of_n: Sequence[Mapping[str, Any]], ppo: Sequence[Mapping[str, Any]], start: Mapping[str, Any]
) -> dict[Method, list[Point]]:
    """By method: best-of-n for each n, PPO from the SFT model on at each checkpoint; of rows of
    `over_optimisation.json` and `steps.jsonl`, and PPO's `metrics.json`."""
    chosen = [Point(f"n = {row['n']:.0f}", row["kl_bound"], row["reward"], row["exact_score"]) for row in best_of_n]
    trained = []
    if start.get("validation_sft_reward") is not None:
        trained.append(Point("sft", 0.0, start["validation_sft_reward"], start.get("validation_sft_exact_score")))
    moved = 0.0
    for row in ppo:
        moved = row.get("kl", moved)  # of the answers last sampled, where the checkpoint's own isn't known
        if row.get("validation_reward") is not None:
            kl = row.get("validation_kl_to_sft")
            trained.append(
                Point(
                    f"step {row['step']}",
                    moved if kl is None else kl,
                    row["validation_reward"],
                    row.get("validation_exact_score"),
                )
            )
    found: dict[Method, list[Point]] = {"best_of_n": chosen, "ppo": trained}
    return {name: points for name, points in found.items() if points}


def fit(method: Method, points: Sequence[Point], what: Literal["reward", "truth"]) -> Fit | None:
    """None for fewer than FEWEST points, where the first isn't at d = 0, or fewer than two others are further."""
    known = [(one.distance, value) for one in points if (value := getattr(one, what)) is not None]
    if len(known) < FEWEST or known[0][0] > 0:
        return None
    start = known[0][1]
    d, gain = (np.array(values) for values in zip(*[(d, v - start) for d, v in known if d > 0], strict=True))
    if len(set(d)) < 2:
        return None
    bend = d if method == "best_of_n" else np.log(d)
    (alpha, beta), *_ = np.linalg.lstsq(np.stack([d, -d * bend], axis=1), gain, rcond=None)
    spread = float(((gain - gain.mean()) ** 2).sum())
    left = float(((d * (alpha - beta * bend) - gain) ** 2).sum())
    return Fit(method, start, float(alpha), float(beta), len(known), 1 - left / spread if spread else 1.0)


def over_optimisation_view(found: Mapping[Method, Sequence[Point]]) -> dict[str, Any] | None:
    """A chart of the reward, one of the exact score, both over √KL with what was fitted, and the table behind them;
    None where nothing was measured."""
    if not found:
        return None
    fits = {
        (name, what): fitted
        for name, points in found.items()
        for what in ("reward", "truth")
        if (fitted := fit(name, points, what)) is not None  # type: ignore[arg-type]
    }
    charts = [
        {"title": title, "svg": svg}
        for title, what in (("By the reward model", "reward"), ("By the truth", "truth"))
        if (svg := _chart(found, fits, what, title)) is not None
    ]
    return {
        "charts": charts,
        "key": [{"mark": "ln", "colour": STYLES[name], "label": name.replace("_", " ")} for name in found],
        "head": ["Method", "Where", "KL from SFT, nats", "Reward", "Exact score"],
        "rows": [
            [name, one.where, f"{one.kl:.2f}", *("–" if x is None else f"{x:.3f}" for x in (one.reward, one.truth))]
            for name, points in found.items()
            for one in points
        ],
        "numeric": (2, 3, 4),
        "fits": {
            "head": ["Method", "What", "Form", "α", "β", "Points", "R²"],
            "rows": [
                [
                    name, "reward" if what == "reward" else "exact score", FORMS[name],
                    *(f"{number:.3f}".replace("-", "−") for number in (one.alpha, one.beta)), str(one.points),
                    f"{one.r_squared:.2f}",
                ]
                for (name, what), one in fits.items()
            ],
            "numeric": (3, 4, 5, 6),
        },
        "sentence": _sentence(found.get("best_of_n", ())),
    }  # fmt: skip


def _chart(
    found: Mapping[Method, Sequence[Point]], fits: Mapping[tuple[Method, str], Fit], what: str, title: str
) -> str | None:
    label = "mean reward" if what == "reward" else "mean exact score"
    plot = Plot(Axis("√KL from SFT"), Axis(label), f"{title}: {label} over √KL", width=360, height=230)
    drawn = False
    for name, points in found.items():
        known = [(one, float(number)) for one in points if (number := getattr(one, what)) is not None]
        if not known:
            continue
        xs, ys = [one.distance for one, _ in known], [number for _, number in known]
        fitted = fits.get((name, what))
        if fitted is None:
            plot.line(xs, ys, STYLES[name])
        else:
            grid = np.linspace(0.0, max(xs), 60).tolist()
            plot.line(grid, [fitted.at(d) for d in grid], STYLES[name], "fitted")
        plot.points(xs, ys, STYLES[name], radius=3, notes=[one.where for one, _ in known])
        drawn = True
    return plot.svg() if drawn else None


def _sentence(points: Sequence[Point]) -> str:
    """Whether more reward was more truth, of best-of-n, whose points come from the same samples."""
    if len(points) < 2:
        return ""
    first, last = points[0], points[-1]
    if first.reward is None or last.reward is None or first.truth is None or last.truth is None:
        return ""
    gained = last.truth - first.truth
    word = "loses" if gained < 0 else "gains"
    return (
        f"From one answer to the best of {len(points)}, the reward rises by {last.reward - first.reward:.2f} and the "
        f"exact score {word} {abs(gained):.2f}."
    )
