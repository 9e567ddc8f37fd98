"""How much a metric varies between seeds and items, as the claims measured it that ran before."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from stages.base.errors import TrainyardError
from stages.base.files import atomic_path
from stages.base.params import read_params
from stages.experiment.declaration import Declaration
from stages.experiment.metrics import Metric

CLAIMS, KEPT, OUTCOMES = "claims", "noise.json", "outcomes.parquet"
FEWEST = 4  # degrees of freedom between seeds below which a variance is a guess


class Known(NamedTuple):
    """Variances of a contrast of two arms, pooled over earlier ones, in the metric's unit squared."""

    seed: float
    item: float
    residual: float
    items: int
    each: tuple[tuple[float, float, float], ...]
    """Seed, item and residual variance of every comparison: arms that are nearly alike differ less from item to item
    than arms that are not, so that no pooled number says what a claim can't see."""
    claims: tuple[str, ...]
    guess: str
    """Why they are no more than a guess; "" where they aren't."""


class Earlier:
    """The outcomes of a project's claims so far. What was computed of them is kept beside them, so that a check reads
    one small file."""

    def __init__(self, folder: Path) -> None:
        """folder: the project's store of experiments."""
        self._folder = folder
        try:
            kept = json.loads((folder / KEPT).read_bytes())
        except (FileNotFoundError, ValueError):
            kept = {}
        self._claims: dict[str, Any] = {}
        for path in sorted(folder.glob(f"{CLAIMS}/*/{OUTCOMES}")):
            name, stamp = path.parent.name, [path.stat().st_mtime_ns, path.stat().st_size]
            here = kept.get(name, {})
            self._claims[name] = here if here.get("stamp") == stamp else {"stamp": stamp, **_measure(path)}
        if self._claims != kept:
            with atomic_path(folder / KEPT) as temporary:
                temporary.write_text(json.dumps(self._claims), encoding="utf-8")

    def of(self, metric: str, declaration: Declaration) -> Known | None:
        """What other claims know of a metric: those of the same scale if there are any, else the rest, a guess."""
        pairing = "paired" if declaration.pair is None or "seed" in declaration.pair else "independent"
        found = {
            name: rows
            for name, claim in self._claims.items()
            if name != declaration.name and (rows := claim["metrics"].get(metric, {}).get(pairing))
        }
        same = {name: rows for name, rows in found.items() if self._claims[name]["scale"] == declaration.scale}
        rows = [row for some in (same or found).values() for row in some]
        weight = sum(row["weight"] for row in rows)
        if not weight:
            return None
        seed, item, residual = (
            sum(row["weight"] * row[part] for row in rows) / weight for part in ("seed", "item", "residual")
        )
        each = tuple((row["seed"], row["item"], row["residual"]) for row in rows)
        items = sorted(row["items"] for row in rows)[len(rows) // 2]
        guess = "" if same and weight >= FEWEST else "from few seeds" if same else "from another scale"
        return Known(seed, item, residual, items, each, tuple(same or found), guess)


def _measure(path: Path) -> dict[str, Any]:
    """Of every metric the variances of each arm against the first, with seeds paired and independent; no metrics where
    the file can't be read, as noise is no more than advice."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        scale = read_params(path.with_name("declaration.yaml")).get("scale") or []
    except TrainyardError:
        scale = []
    try:
        table = pq.read_table(path)
        names = table["metric"].unique().to_pylist()
    except (OSError, pa.ArrowException, KeyError):
        return {"scale": scale, "metrics": {}}
    return {"scale": scale, "metrics": {name: _contrasts(table, name) for name in names}}


def _contrasts(table: Any, metric: str) -> dict[str, list[dict[str, Any]]]:
    from stages.base.crossed import contrast
    from stages.experiment.statistics.outcomes import arm_tables, read_outcomes

    found: dict[str, list[dict[str, Any]]] = {"paired": [], "independent": []}
    try:
        outcomes = read_outcomes(table, metric)
    except TrainyardError:
        return found
    first, *others = dict.fromkeys(outcomes.arm.tolist())
    for other in others:
        for pairing, rows in found.items():
            try:
                tables = arm_tables(outcomes, [first, other], pair_seeds=pairing == "paired", pair_items=True)
                one = contrast(tables.tables, [-1.0, 1.0], pair_seeds=pairing == "paired", clusters=tables.clusters)
            except (TrainyardError, ValueError):
                continue
            if one.n_seeds > 1:
                parts = {"seed": one.seed_variance, "item": one.item_variance, "residual": one.residual_variance}
                rows.append(
                    {part: float(value or 0.0) for part, value in parts.items()}
                    | {"items": max(int(one.n_items), 1), "weight": int(one.n_seeds) - 1}
                )
    return found


def power_of(declaration: Declaration, metric: Metric, known: Known | None) -> tuple[str, list[str]]:
    """One line on the smallest difference that the seeds can see, and problems where it is above the margin."""
    from stages.experiment.power import Noise, hidden, visible_effect

    seeds, power = len(declaration.seed_values()), f"{declaration.power * 100:g} % power"
    rule, margin = declaration.parsed, declaration.margin
    wanted = rule.threshold if rule.analysis == "equivalence" else margin
    if rule.analysis in ("scaling", "predicted") or seeds < 2:
        return "", []
    if known is None:
        spreads = visible_effect(Noise(1.0), seeds, 1, declaration.alpha, declaration.power)
        return (
            f"power: the noise of `{metric.name}` was never measured; {seeds} seeds see, with {power}, a difference of "
            f"{spreads:.1f} times its own standard deviation between seeds"
        ), []
    noise = Noise(known.seed, known.item, known.residual)
    smallest = visible_effect(noise, seeds, known.items, declaration.alpha, declaration.power)
    items = f" × {known.items} {metric.item}s" if known.items > 1 else ""
    unit = " points" if metric.unit == "percent" else f" {metric.unit}" if metric.unit else ""
    source = ", ".join(known.claims[:3]) + (", …" if len(known.claims) > 3 else "")
    how = f"a guess, {known.guess}: {source}" if known.guess else f"noise of {source}"
    line = f"power: {seeds} seeds{items} see a difference of {smallest:.3g}{unit} with {power} ({how})"
    if wanted is None:
        return line, []
    plan = (known.items, declaration.alpha, declaration.power)
    quietest = min((Noise(*one) for one in known.each), key=lambda one: visible_effect(one, seeds, *plan))
    least = visible_effect(quietest, seeds, *plan)
    line += f"; {'half-width' if rule.analysis == 'equivalence' else 'margin'} {wanted:g} asked"
    if least < wanted < smallest:
        line += f", which the least noisy of {len(known.each)} comparisons shows ({least:.3g})"
    why = "" if known.guess else hidden(quietest, wanted, seeds, *plan)
    key = "rule" if rule.analysis == "equivalence" else "margin"
    several = f" (by the least noisy of {len(known.each)} comparisons)" if len(known.each) > 1 else ""
    return line, [f"`{key}`: {why}{several}"] if why else []
