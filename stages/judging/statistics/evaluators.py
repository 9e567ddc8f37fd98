"""AlpacaEval's evaluators table from any cross-annotations: annotators, some of them several times, on the same items.

Definitions of the official `analyze.py` (absolute scoring): two verdicts agree by 1 - |difference|; many verdicts on
one item are reduced to their mode, and where there are several modes agreement is averaged over them (the official code
draws one, always by the same seed).
"""

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from stages.base.errors import InputError
from stages.judging.statistics.columns import column, column_names, values

MIN_LENGTH_GAP = 30  # characters; closer pairs say nothing about a length preference

Row = dict[str, Any]
Votes = dict[Any, list[float]]  # item → its verdicts: 1, 2, or between


@dataclass(frozen=True)
class Evaluators:
    rows: list[Row]  # one an annotator, the closest to the gold annotators first
    problems: list[str] = field(default_factory=list)  # rows of the table that are in no number


def evaluators_table(crossannotations: Any, *, gold: str, min_length_gap: int = MIN_LENGTH_GAP) -> Evaluators:
    """One row an annotator, percentages as in AlpacaEval's `evaluators_leaderboard.csv`.

    crossannotations: columns annotator, item and preference (1 or 2, or between for a weighted verdict; 1.5 or 0 is a
    draw), a row a verdict; and, where known, len_1, len_2 (characters), lists_1, lists_2 (list items, `style.counts`),
    model (whose output is second), price (USD) and seconds. gold: the annotator that the others are measured against.

    agreement: of one verdict with the gold annotators' mode; of a gold verdict with the mode of the other gold ones.
    bias: error of an annotator's mode against the gold mode. variance: error of one of its verdicts against the mode
    of its others on the item (NaN for an annotator that judges nothing twice). prefers_longer, prefers_lists,
    prefers_first: share of decided verdicts where that can be told. spearman: of the models' win rates with gold's.

    Verdicts that are missing or out of bounds are left out, and named in `problems` by row. Raises InputError where
    the gold annotator has no verdict.
    """
    table = _columns(crossannotations)
    preference = np.where(table["preference"] == 0, 1.5, table["preference"])
    good = (preference >= 1) & (preference <= 2)
    problems = [
        f"row {row}: `{table['annotator'][row]}` on {table['item'][row]!r}: "
        + ("no verdict" if np.isnan(preference[row]) else f"verdict {preference[row]:g} isn't in 1..2")
        for row in np.flatnonzero(~good)
    ]
    votes: dict[str, Votes] = defaultdict(lambda: defaultdict(list))
    for row in np.flatnonzero(good):
        votes[table["annotator"][row]][table["item"][row]].append(float(preference[row]))
    if gold not in votes:
        raise InputError(
            f"crossannotations: no verdict of `{gold}`; annotators are {', '.join(sorted(votes)) or 'none'}"
        )
    rows = []
    for annotator in sorted(votes):
        mine = np.flatnonzero(good & (table["annotator"] == annotator))
        rows.append(
            {
                "annotator": annotator,
                **_accuracy(votes[annotator], votes[gold], itself=annotator == gold),
                **_leanings(table, preference, mine, min_length_gap),
                "spearman": _spearman(table, preference, mine, np.flatnonzero(good & (table["annotator"] == gold))),
                "price_per_1000": 1000 * _mean(table, "price", mine),
                "seconds_per_1000": 1000 * _mean(table, "seconds", mine),
                "n": len(mine),
                "missing": int((~good & (table["annotator"] == annotator)).sum()),
            }
        )
    rows.sort(
        key=lambda row: (-row["agreement"] if row["agreement"] == row["agreement"] else math.inf, row["annotator"])
    )
    return Evaluators(rows, problems)


def modes(verdicts: list[float]) -> list[float]:
    """The most frequent verdicts; for weighted ones, all different, the median, as in the official code."""
    values, counts = np.unique(verdicts, return_counts=True)
    if not np.isin(values, [1.0, 1.5, 2.0]).all():
        return [float(np.median(verdicts))]
    return values[counts == counts.max()].tolist()


def similarity(ones: list[float], others: list[float]) -> float:
    """1 - |difference|, averaged over both lists."""
    return float(np.mean([1 - abs(one - other) for one in ones for other in others]))


def _accuracy(mine: Votes, gold: Votes, itself: bool) -> dict[str, float]:
    shared = [item for item in mine if item in gold]
    repeated = [
        np.mean([similarity([v], modes(verdicts[:k] + verdicts[k + 1 :])) for k, v in enumerate(verdicts)])
        for verdicts in mine.values()
        if len(verdicts) > 1
    ]
    consistent = 100 * float(np.mean(repeated)) if repeated else math.nan
    if itself:
        return {"agreement": consistent, "bias": 0.0, "variance": 100 - consistent}
    agreement = [similarity(mine[item], modes(gold[item])) for item in shared]
    unbiased = [similarity(modes(mine[item]), modes(gold[item])) for item in shared]
    return {
        "agreement": 100 * float(np.mean(agreement)) if shared else math.nan,
        "bias": 100 * (1 - float(np.mean(unbiased))) if shared else math.nan,
        "variance": 100 - consistent,
    }


def _leanings(table: Mapping[str, np.ndarray], preference: np.ndarray, mine: np.ndarray, gap: int) -> Row:
    votes = preference[mine]
    decided, second = votes != 1.5, votes > 1.5

    def share(applies: np.ndarray, first_has_it: np.ndarray) -> float:
        used = decided & applies
        return 100 * float((second != first_has_it)[used].mean()) if used.any() else math.nan

    leanings = {"prefers_longer": math.nan, "prefers_lists": math.nan, "prefers_first": 100 * (2 - float(votes.mean()))}
    if "len_1" in table and "len_2" in table:
        difference = table["len_1"][mine] - table["len_2"][mine]
        leanings["prefers_longer"] = share(np.abs(difference) > gap, difference > 0)
    if "lists_1" in table and "lists_2" in table:
        has = table["lists_1"][mine] > 0, table["lists_2"][mine] > 0
        leanings["prefers_lists"] = share(has[0] ^ has[1], has[0])
    return leanings


def _spearman(table: Mapping[str, np.ndarray], preference: np.ndarray, mine: np.ndarray, gold: np.ndarray) -> float:
    if "model" not in table:
        return math.nan
    rates = []
    for rows in (mine, gold):
        names, codes = np.unique(table["model"][rows].astype(str), return_inverse=True)
        means = np.bincount(codes, preference[rows]) / np.bincount(codes)
        rates.append(dict(zip(names.tolist(), means.tolist(), strict=True)))
    shared = sorted(set(rates[0]) & set(rates[1]))
    if len(shared) < 3 or any(len({side[name] for name in shared}) == 1 for side in rates):
        return math.nan
    return float(spearmanr([rates[0][name] for name in shared], [rates[1][name] for name in shared]).statistic)


def _mean(table: Mapping[str, np.ndarray], name: str, rows: np.ndarray) -> float:
    values = table[name][rows] if name in table else np.full(1, np.nan)
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else math.nan


def _columns(source: Any) -> dict[str, np.ndarray]:
    there = column_names(source)
    table: dict[str, np.ndarray] = {}
    for name in ("annotator", "item", "model"):
        if name in there or name != "model":
            table[name] = np.fromiter(values(source, name, "crossannotations"), dtype=object)
    for name in ("preference", "len_1", "len_2", "lists_1", "lists_2", "price", "seconds"):
        if name in there or name == "preference":
            table[name] = column(source, name, np.float64, "crossannotations")
    return table


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
