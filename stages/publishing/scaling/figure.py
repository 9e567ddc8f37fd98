"""The scaling section: the ladder, the law fitted to it, and the loss it predicted beside the one reached."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stages.publishing.html.charts import Axis, Plot, Shape, compact
from stages.publishing.html.numbers import count, number
from stages.publishing.scaling.tables import LAW, between

Point = Mapping[str, Any]  # of fit.json's `points`


@dataclass(frozen=True)
class Target:
    """The planned run: what was predicted before it and what it reached."""

    N: float  # as the law counts parameters
    D: float
    flops: float  # attention counted
    predicted: float
    low: float
    high: float
    reached: float

    @classmethod
    def of(cls, plan: Mapping[str, Any], reached: float) -> "Target":
        """From plan.json."""
        planned = next(row for row in plan["alternatives"] if row["name"] == "as planned")
        low, high = plan["interval"]
        return cls(planned["n"], planned["tokens"], plan["planned_flops"], plan["predicted_loss"], low, high, reached)

    @property
    def compute(self) -> float:
        """What the law counts."""
        return 6 * self.N * self.D

    @property
    def inside(self) -> bool:
        return self.low <= self.reached <= self.high

    def draw(self, plot: Plot) -> None:
        """The prediction with its interval, and the loss reached, on a plot of loss against 6·N·D."""
        words = f"predicted {self.predicted:.3f}, {self.low:.3f} to {self.high:.3f}"
        plot.interval(self.compute, self.low, self.high, "c3", words)
        plot.points([self.compute], [self.predicted], "c3", "square", [words], radius=4)
        plot.points([self.compute], [self.reached], "c1", "circle", [f"reached {self.reached:.3f}"], radius=6)


def predict(law: Mapping[str, float], n: float, d: float) -> float:
    """L(N, D) = E + A·N^-α + B·D^-β (Hoffmann et al. 2022, equation 2)."""
    return law["E"] + law["A"] * n ** -law["alpha"] + law["B"] * d ** -law["beta"]


def frontier(law: Mapping[str, float], flops: float) -> float:
    """The least loss the law allows for C = 6·N·D (equation 4)."""
    alpha, beta = law["alpha"], law["beta"]
    n = (alpha * law["A"] / (beta * law["B"])) ** (1 / (alpha + beta)) * (flops / 6) ** (beta / (alpha + beta))
    return predict(law, n, flops / 6 / n)


def in_pipeline(points: Sequence[Point], keys: Sequence[str]) -> list[Point]:
    """Points of the ladder that stand in params.yaml, by compute."""
    return sorted(
        (point for point in points if point["key"] in set(keys)), key=lambda point: (point["flops"], point["key"])
    )


def size(point: Point, counted: str) -> float:
    return float(point["n_params" if counted == "total" else "n_nonembedding"])


def compute_chart(fit: Mapping[str, Any], points: Sequence[Point], target: Target) -> str:
    """Loss against 6·N·D, which the law counts: both families, their frontiers, the prediction and the result."""
    plot = Plot(
        Axis("training compute as 6·N·D, FLOPs", log=True),
        Axis("validation loss, nats per token"),
        "Validation loss of the ladder by training compute, with the fitted law and the planned run",
        width=640,
        height=420,
    )
    spent = {point["key"]: 6 * size(point, fit["count"]) * point["tokens"] for point in points}
    low, high = min([*spent.values(), target.compute]), max([*spent.values(), target.compute])
    grid = [low * (high / low) ** (i / 60) for i in range(61)]
    families: list[tuple[str, str, Shape]] = [("transformer", "c2", "circle"), ("lstm", "c4", "square")]
    for arch, style, shape in families:
        members = [point for point in points if point["arch"] == arch]
        if fit[arch] and members:
            least = [frontier(fit[arch], flops) for flops in grid]
            plot.line(grid, least, f"{style} dashed", f"least loss of a {arch} at this compute")
        plot.points(
            [spent[point["key"]] for point in members],
            [point["loss"] for point in members],
            style,
            shape,
            [_note(point) for point in members],
            radius=4.5,
        )
    target.draw(plot)
    return plot.svg()


def _note(point: Point) -> str:
    sizes = f"{compact(point['n_params'])} parameters, {compact(point['tokens'])} tokens"
    return f"{point['key']}: {sizes}, loss {point['loss']:.3f}"


def residual_chart(fit: Mapping[str, Any], points: Sequence[Point]) -> str:
    """Reached against fitted loss; withheld runs with the interval predicted without them."""
    plot = Plot(
        Axis("loss of the fitted law"),
        Axis("loss reached"),
        "Loss reached against loss of the fitted law",
        width=420,
        height=320,
    )
    law = fit["transformer"]
    members = [point for point in points if point["arch"] == "transformer"]
    fitted = [predict(law, size(point, fit["count"]), point["tokens"]) for point in members]
    plot.points(fitted, [point["loss"] for point in members], "c2", "circle", [_note(point) for point in members])
    plot.diagonal("ident")
    known = {point["key"] for point in points}
    for row in fit["withheld"]["points"]:
        if row["key"] in known:
            plot.points(
                [row["predicted"]], [row["loss"]], "c1", "circle", [f"{row['key']}, predicted without it"], radius=5
            )
    return plot.svg()


def law_facts(fit: Mapping[str, Any]) -> list[tuple[str, str]]:
    law = fit["transformer"]
    shown = [(label, f"{law[name]:.3g}{between(*law['interval'].get(name, (None, None)))}") for name, label in LAW]
    shown.append(("root mean square residual", f"{100 * law['residual_rms']:.2f} % of the loss"))
    if fit["withheld"]["mean_abs_error"] is not None:
        shown.append(("error on withheld largest run(s)", f"{100 * fit['withheld']['mean_abs_error']:.2f} %"))
    else:
        shown.append(("error on withheld runs", fit["withheld"]["reason"]))
    if fit["lstm"]:
        low, high = fit["lstm"]["compute_multiplier_interval"]
        times = f"{fit['lstm']['compute_multiplier']:.3g} ×{between(low, high)}"
        shown.append(("compute an LSTM needs for the same loss", times))
    return shown


def notes(fit: Mapping[str, Any]) -> list[str]:
    alpha, beta = fit["prior"]["alpha"], fit["prior"]["beta"]
    found = [
        f"{fit['transformer']['n']} Transformer runs cannot identify five parameters alone: the exponents lean on "
        f"priors (α {alpha['mean']:g} ± {alpha['sd']:g}, β {beta['mean']:g} ± {beta['sd']:g}) stated in params.yaml; "
        f"N counts {fit['count'].replace('_', '-')} parameters."
    ]
    if fit["isoflop"]["reason"]:
        found.append(f"The isoFLOP method gave no exponent: {fit['isoflop']['reason']}.")
    elif number(fit["isoflop"]["a"]) is not None:
        found.append(f"The isoFLOP method, on the same runs, gives a = {fit['isoflop']['a']:.3f}.")
    return found


def points_table(points: Sequence[Point]) -> dict[str, Any]:
    rows = [
        [
            point["key"],
            point["arch"],
            compact(point["n_params"]),
            compact(point["tokens"]),
            compact(point["flops"]),
            f"{point['loss']:.4f}",
            f"{point['bpb']:.4f}",
        ]
        for point in points
    ]
    head = ["Point", "Architecture", "Parameters", "Tokens", "FLOPs", "Loss", "Bits per byte"]
    return {"head": head, "rows": rows}


def scaling_view(
    fit: Mapping[str, Any], keys: Sequence[str], target: Target, plan: Sequence[tuple[str, str]], level: float
) -> dict[str, Any]:
    points = in_pipeline(fit["points"], keys)
    transformers = sum(point["arch"] == "transformer" for point in points)
    error = target.reached / target.predicted - 1
    where = "inside" if target.inside else "outside"
    reach = target.flops / max((point["flops"] for point in points), default=math.nan)
    return {
        "intro": (
            f"Before the real run, {count(transformers)} small Transformers and {count(len(points) - transformers)} "
            f"LSTMs were trained. The law fitted to them predicted a loss of {target.predicted:.3f} at {reach:.1f} × "
            f"the compute of the largest of them ({100 * level:g} % interval {target.low:.3f} to {target.high:.3f}). "
            f"The run reached {target.reached:.3f}: {where} the interval, {100 * abs(error):.1f} % "
            f"{'above' if error > 0 else 'below'} the prediction."
        ),
        "main": compute_chart(fit, points, target),
        "key": [
            {"mark": "", "colour": "c2", "label": "Transformer"},
            {"mark": "sq", "colour": "c4", "label": "LSTM"},
            {"mark": "dash", "colour": "c0", "label": "least loss at that compute, by the law"},
            {"mark": "sq", "colour": "c3", "label": "predicted, with interval"},
            {"mark": "", "colour": "c1", "label": "reached"},
        ],
        "caption": "Points above a dashed line are models that are too small or too large for their compute.",
        "residuals": residual_chart(fit, points),
        "residuals_caption": (
            "On the dotted line the law is exact. Red: runs of most compute, against the prediction of a law fitted "
            "without them."
        ),
        "law": law_facts(fit),
        "plan": list(plan),
        "notes": notes(fit),
        "points": points_table(points),
    }
