"""How far a metric can be gamed: by asking for short or long answers, and by cutting answers off on purpose."""

from collections.abc import Mapping

import numpy as np

from stages.base.errors import InputError


def gameability(
    metric: Mapping[str, float], win_rate: Mapping[str, float], variants: Mapping[str, str], others: list[str]
) -> float:
    """AlpacaEval's gameability of a metric, in percent; lower is better (notebook `length_controlled`).

    The standard deviation between a model and its variant (asked to be verbose, or concise), relative to their mean,
    averaged over models; times the spread of the raw win rate over the spread of the metric, across `others`, so that
    squeezing a metric's range doesn't make it look robust. metric, win_rate: model → percent. variants: model → the
    name of its variant. Raises InputError for a name that isn't in the metric.
    """
    for name in [*variants, *variants.values(), *others]:
        if name not in metric or name not in win_rate:
            raise InputError(f"gameability: no rate for `{name}`")
    relative = []
    for model, variant in variants.items():
        pair = np.array([metric[model], metric[variant]])
        relative.append(pair.std(ddof=1) / pair.mean())
    raw_spread, spread = (np.std([values[name] for name in others], ddof=1) for values in (win_rate, metric))
    return 100 * float(np.mean(relative) * raw_spread / spread)
