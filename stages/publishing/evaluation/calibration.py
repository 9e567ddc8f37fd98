"""Do probabilities mean what they say, before and after alignment? Reliability diagrams and their summaries."""

from collections.abc import Mapping
from typing import Any

from stages.base.contracts.evaluation import Calibration
from stages.publishing.evaluation.tasks import Evaluations, all_tasks, named, protocol_name, protocols_of
from stages.publishing.evaluation.texts import key_of, style
from stages.publishing.html.charts import Axis, Plot
from stages.publishing.html.numbers import count

MOST_CHARTS, MOST_ROWS = 6, 120


def calibration_view(evaluations: Evaluations) -> dict[str, Any] | None:
    """A reliability diagram each task and protocol and each text; one table of all; None where none was measured."""
    found = {name: by_model for name, by_model in _measured(evaluations).items() if by_model}
    if not found:
        return None
    rows = [[name, *_row(model, one)] for name, by_model in found.items() for model, one in by_model.items()]
    numeric = [2, 3, 4, 5, 6, 7]
    return {
        "charts": [
            {"title": name, "svg": _chart(name, by_model, [*evaluations])}
            for name, by_model in [*found.items()][:MOST_CHARTS]
        ],
        "left_out": max(0, len(found) - MOST_CHARTS),
        "key": key_of(evaluations),
        "table": {"head": HEAD, "rows": rows[:MOST_ROWS], "numeric": numeric},
        "bins": {
            "head": ["What", "Model", "Probability given", "Share right", "Predictions"],
            "rows": [
                [name, model, f"{one.confidence:.3f}", f"{one.accuracy:.3f}", count(one.count)]
                for name, by_model in [*found.items()][:MOST_CHARTS]
                for model, calibration in by_model.items()
                for one in calibration.bins
            ],
            "numeric": [2, 3, 4],
        },
        "methods": [*dict.fromkeys(one.method for by_model in found.values() for one in by_model.values())],
        "sentence": _sentence(found),
    }


HEAD = [
    "What",
    "Model",
    "Calibration error (ECE)",
    "By chance",
    "Brier score",
    "Mean confidence",
    "Share right",
    "Entropy, nats",
]


def _measured(evaluations: Evaluations) -> dict[str, dict[str, Calibration]]:
    """By what was predicted: model → its calibration."""
    found: dict[str, dict[str, Calibration]] = {}
    for task in all_tasks(evaluations):
        for protocol in protocols_of(evaluations, task):
            name = f"{named(task)}, {protocol_name(protocol)}"
            for model, one in evaluations.items():
                result = one.tasks[task].protocols.get(protocol) if task in one.tasks else None
                if result and result.calibration and result.calibration.bins:
                    found.setdefault(name, {})[model] = result.calibration
    for model, one in evaluations.items():
        for text, loss in one.texts.items():
            if loss.next_token and loss.next_token.bins:
                found.setdefault(f"{named(text)}, next token", {})[model] = loss.next_token
    return found


def _row(model: str, one: Calibration) -> list[str]:
    error = "–" if one.ece is None else f"{one.ece:.3f}"
    if one.low is not None and one.high is not None:
        error += f" ({one.low:.3f} – {one.high:.3f})"
    said = ["–" if number is None else f"{number:.3f}" for number in (one.by_chance, one.brier, *_means(one))]
    return [model, error, *said, "–" if one.entropy is None else f"{one.entropy:.2f}"]


def _means(one: Calibration) -> tuple[float | None, float | None]:
    """Mean confidence and share right, over all predictions."""
    total = sum(each.count for each in one.bins)
    if not total:
        return None, None
    confidence = sum(each.confidence * each.count for each in one.bins) / total
    return confidence, sum(each.accuracy * each.count for each in one.bins) / total


def _chart(name: str, by_model: Mapping[str, Calibration], models: list[str]) -> str:
    plot = Plot(
        Axis("probability given to the prediction", low=0.0, high=1.0),
        Axis("share right", low=0.0, high=1.0),
        f"reliability of {name}: share right by the probability given",
        width=380,
        height=340,
        pad=0.02,
    )
    plot.line([0, 1], [0, 1], "ident")
    for model, one in by_model.items():
        look = style(models.index(model))
        bins = [each for each in one.bins if each.count]
        most = max((each.count for each in bins), default=1)
        plot.line([each.confidence for each in bins], [each.accuracy for each in bins], look, model)
        for each in bins:
            told = f"{model}: {count(each.count)} given {each.confidence:.2f}, {each.accuracy:.2f} right"
            radius = round(2 + 4 * (each.count / most) ** 0.5, 1)
            plot.points([each.confidence], [each.accuracy], look.split()[0], notes=[told], radius=radius)
    return plot.svg()


def _sentence(found: Mapping[str, Mapping[str, Calibration]]) -> str:
    """Which model is furthest from what it says."""
    known = [
        (one.ece, model, name, one)
        for name, by_model in found.items()
        for model, one in by_model.items()
        if one.ece is not None
    ]
    if not known:
        return ""
    error, model, name, one = max(known, key=lambda row: row[0])
    confidence, right = _means(one)
    if confidence is None or right is None:
        return ""
    side = "surer than it should be" if confidence > right else "less sure than it might be"
    return (
        f"Furthest from its word is {model} on {name}: it gives {100 * confidence:.0f}\u202f% on average and is right "
        f"in {100 * right:.0f}\u202f% ({side}, ECE {error:.3f})."
    )
