"""Outcomes of an experiment as arrays: what each arm's run of each seed scored, item by item.

A table with the columns arm, seed, value and, where a run has more than one number, item; optionally cluster (the
group an item belongs to), compute (FLOPs, of a ladder's points) and predicted (what was forecast for the value).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.base.errors import InputError

NEEDED = ("arm", "seed", "value")
OPTIONAL = ("item", "cluster", "compute", "predicted", "metric")
MOST_MISSING = 0.05
"""Share of the items that may lack a value somewhere and be left out."""


@dataclass(frozen=True)
class Outcomes:
    """Columns of one length; item, cluster: "" where there is none. `values` are finite."""

    arm: np.ndarray
    seed: np.ndarray
    item: np.ndarray
    cluster: np.ndarray
    value: np.ndarray
    compute: np.ndarray | None
    predicted: np.ndarray | None

    def seeds(self, arm: str) -> list[str]:
        return ordered(self.seed[self.arm == arm])

    def only(self, kept: np.ndarray) -> "Outcomes":
        parts = (self.arm, self.seed, self.item, self.cluster, self.value, self.compute, self.predicted)
        return Outcomes(*(None if part is None else part[kept] for part in parts))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Tables:
    """One table [seeds, items] an arm, and each column's cluster; what was left out, as sentences."""

    tables: list[np.ndarray]
    clusters: list[np.ndarray | None]
    notes: list[str]


def ordered(labels: Sequence[Any] | np.ndarray) -> list[str]:
    """Distinct labels, numbers by size before words."""

    def key(label: str) -> tuple[bool, float, str]:
        try:
            return False, float(label), label
        except ValueError:
            return True, 0.0, label

    return sorted({str(label) for label in labels}, key=key)


def read_outcomes(table: Any, metric: str | None = None) -> Outcomes:
    """table: a pandas DataFrame, a pyarrow Table, rows as dicts, or a dict of columns. With a column `metric`, the rows
    of `metric`. Raises InputError naming the column or the run for a missing column, a value that is no finite number,
    or a cell that is given twice."""
    columns = _columns(table)
    if metric is not None and len({*columns.get("metric", [])}) > 1:
        kept = [i for i, name in enumerate(columns["metric"]) if name == metric]
        columns = {name: [values[i] for i in kept] for name, values in columns.items()}
    if absent := [name for name in NEEDED if name not in columns]:
        raise InputError(f"outcomes: no column `{absent[0]}`; they need {', '.join(NEEDED)}, and item if runs have any")
    if not columns["value"]:
        raise InputError("outcomes: no rows; run the experiment first")
    n = len(columns["value"])
    words = {name: _words(columns.get(name, [None] * n)) for name in ("arm", "seed", "item", "cluster")}

    def where(i: int) -> str:
        item = f", item {words['item'][i]}" if words["item"][i] else ""
        return f"arm {words['arm'][i]}, seed {words['seed'][i]}{item}"

    for name in ("arm", "seed"):
        if "" in words[name]:
            raise InputError(f"outcomes: a row has no {name} ({where(words[name].tolist().index(''))})")
    numbers = {
        name: _numbers(columns[name], name, where)
        for name in ("value", "compute", "predicted")
        if name in columns and not (name != "value" and all(_absent(x) for x in columns[name]))
    }
    cells = list(zip(words["arm"], words["seed"], words["item"], strict=True))
    if len(set(cells)) < n:
        seen: set[Any] = set()
        twice = next(i for i, cell in enumerate(cells) if cell in seen or seen.add(cell))  # type: ignore[func-returns-value]
        raise InputError(f"outcomes: {where(twice)} is given twice; a run counts once")
    return Outcomes(**words, **{name: numbers.get(name) for name in ("value", "compute", "predicted")})  # type: ignore[arg-type]


def _columns(table: Any) -> dict[str, list[Any]]:
    if hasattr(table, "column_names"):  # pyarrow
        return {name: table.column(name).to_pylist() for name in table.column_names}
    if hasattr(table, "columns") and hasattr(table, "to_dict"):  # pandas
        return {str(name): table[name].tolist() for name in table.columns}
    if isinstance(table, Mapping):
        return {name: list(values) for name, values in table.items()}
    rows = list(table)
    return {name: [row.get(name) for row in rows] for name in dict.fromkeys(key for row in rows for key in row)}


def _absent(value: Any) -> bool:
    return value is None or value is not value or str(value) in ("", "<NA>", "nan", "NaT")


def _words(values: Sequence[Any]) -> np.ndarray:
    def word(value: Any) -> str:
        if _absent(value):
            return ""
        return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)

    return np.array([word(value) for value in values], dtype=object)


def _numbers(values: Sequence[Any], name: str, where: Any) -> np.ndarray:
    found = np.empty(len(values))
    for i, value in enumerate(values):
        try:
            found[i] = float(value)
        except (TypeError, ValueError):
            raise InputError(f"outcomes: {where(i)}: {name} is {value!r}, not a number; rerun that seed") from None
        if not np.isfinite(found[i]):
            raise InputError(f"outcomes: {where(i)}: {name} is {found[i]:g}; rerun that seed or look why")
    return found


def cluster_means(outcomes: Outcomes) -> Outcomes:
    """A row for each arm, seed and cluster, its item the cluster, its value the mean of the cluster's items."""
    cells: dict[tuple[str, str, str], list[float]] = {}
    for cell in zip(outcomes.arm, outcomes.seed, outcomes.cluster, outcomes.value, strict=True):
        cells.setdefault(cell[:3], []).append(cell[3])
    arm, seed, item = (np.array(part, dtype=object) for part in zip(*cells, strict=True))
    means = np.array([np.mean(values) for values in cells.values()])
    return Outcomes(arm, seed, item, np.full(len(means), "", dtype=object), means, None, None)


def arm_tables(outcomes: Outcomes, arms: Sequence[str], *, pair_seeds: bool, pair_items: bool) -> Tables:
    """The arms' tables. Items without a value in some run are left out, of all arms where these are paired by item,
    with a note; more than MOST_MISSING of them are refused (InputError), as are arms paired by item that share none."""
    found = [_pivot(outcomes.only(outcomes.arm == arm)) for arm in arms]
    if pair_items:
        union = ordered([item for _, items in found for item in items])
        if not set(union).intersection(*(items for _, items in found)):
            raise InputError(
                f"outcomes: arms {' and '.join(arms)} share no item to be paired by; leave `item` out of `pair`"
            )
        found = [(_laid_out(values, items, union), union) for values, items in found]
    tables, clusters, notes = [], [], []
    together = [range(len(arms))] if pair_items else [[i] for i in range(len(arms))]
    for places in together:
        gaps = [(k, *np.argwhere(np.isnan(found[k][0]))[0]) for k in places if np.isnan(found[k][0]).any()]
        kept = ~np.logical_or.reduce([np.isnan(found[k][0]).any(0) for k in places])
        if gaps:
            k, seed, item = gaps[0]
            first = f"such as arm {arms[k]}, seed {outcomes.seeds(arms[k])[seed]}, item {found[k][1][item]}"
            said = f"{int((~kept).sum())} of {len(kept)} items lack a value in some run, {first}"
            if (~kept).sum() > MOST_MISSING * len(kept):
                raise InputError(f"outcomes: {said}; rerun those seeds")
            notes.append(f"{said}: they are left out.")
        for k in places:
            tables.append(found[k][0][:, kept])
            groups = _groups(outcomes, arms[k], found[k][1])
            clusters.append(None if groups is None else np.unique(groups[kept], return_inverse=True)[1])
    return Tables(tables, clusters, notes)


def _pivot(rows: Outcomes) -> tuple[np.ndarray, list[str]]:
    """([seeds, items] with NaN where there is none, the items)."""
    items = ordered(rows.item)
    row, column = ({name: i for i, name in enumerate(names)} for names in (ordered(rows.seed), items))
    values = np.full((len(row), len(column)), np.nan)
    values[[row[name] for name in rows.seed], [column[name] for name in rows.item]] = rows.value
    return values, items


def _laid_out(values: np.ndarray, items: Sequence[str], union: Sequence[str]) -> np.ndarray:
    place = {name: i for i, name in enumerate(union)}
    wide = np.full((len(values), len(union)), np.nan)
    wide[:, [place[name] for name in items]] = values
    return wide


def _groups(outcomes: Outcomes, arm: str, items: Sequence[str]) -> np.ndarray | None:
    """Of each item its cluster; an item without one stands alone. None where no item has any."""
    mine = outcomes.only(outcomes.arm == arm)
    cluster: dict[str, str] = {}
    for item, group in zip(mine.item, mine.cluster, strict=True):
        if cluster.setdefault(item, group) != group:
            raise InputError(f"outcomes: item {item} is in the clusters {cluster[item]} and {group}; it can be in one")
    if not any(cluster.values()):
        return None
    return np.array([f"c:{group}" if (group := cluster.get(item, "")) else f"i:{item}" for item in items])
