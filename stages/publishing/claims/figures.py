"""Numbers of a claim as its pages show them: as many digits as the spread between runs tells apart."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from stages.base.contracts.claim import Claim, Run, Summary, Verdict
from stages.publishing.html.charts import compact
from stages.publishing.html.numbers import count, number


def places(spreads: Iterable[float | None]) -> int:
    """Decimals with which the smallest of these spreads has two significant digits; 3 where there is none."""
    known = [abs(spread) for spread in spreads if spread is not None and spread]
    return min(6, max(0, 1 - math.floor(math.log10(min(known))))) if known else 3


def shown(value: float | None, decimals: int) -> str:
    """A number with so many decimals, a true minus and thin spaces between thousands; `–` for none."""
    if (known := number(value)) is None:
        return "–"
    if abs(known) >= 1e9:
        return compact(known).replace("-", "−")
    while known and not round(known, decimals) and decimals < 6:  # 0.0 would hide on which side of nothing it is
        decimals += 1
    text = count(known) if decimals == 0 else f"{known:,.{decimals}f}".replace(",", "\u202f")
    return text.replace("-", "−")


def signed(value: float | None, decimals: int) -> str:
    """The same with a plus."""
    text = shown(value, decimals)
    return f"+{text}" if value is not None and value > 0 and text != "–" else text


def between(low: float | None, high: float | None, decimals: int) -> str:
    """`1.2 to 3.4`; one end alone as `at least` or `at most`; empty for none."""
    if low is None or high is None:
        end, words = (high, "at most") if low is None else (low, "at least")
        return "" if end is None else f"{words} {shown(end, decimals)}"
    return f"{shown(low, decimals)} to {shown(high, decimals)}"


def probability(p: float | None) -> str:
    """`p = .031`, as statistics are printed."""
    if p is None:
        return ""
    return "p < .001" if p < 0.001 else f"p = {p:.3f}".replace("0.", ".", 1)


def metric_places(claim: Claim, metric: str) -> int:
    """Decimals of a metric: of the least standard deviation of an arm, else of the spread over all runs."""
    found = [arm.metrics[metric] for arm in claim.arms if metric in arm.metrics]
    if spreads := [one.sd for one in found if one.sd]:
        return places(spreads)
    values = [value for run in claim.runs if (value := run.values.get(metric)) is not None]
    return places([max(values) - min(values)]) if values else 3


def effect_places(verdict: Verdict) -> int:
    """Decimals of effects: of half of the narrowest interval."""
    widths = [(one.high - one.low) / 2 for one in verdict.comparisons if one.low is not None and one.high is not None]
    if verdict.low is not None and verdict.high is not None:
        widths.append((verdict.high - verdict.low) / 2)
    return places(widths or [verdict.effect])


def effect_value(claim: Claim, value: float | None) -> str:
    """An effect without its unit: differences carry a sign, multipliers of compute a `×`."""
    decimals = effect_places(claim.verdict)
    if is_multiplier(claim):
        return f"{shown(value, decimals)} ×" if value is not None else "–"
    return signed(value, decimals)


def is_multiplier(claim: Claim) -> bool:
    return claim.rule.startswith("multiplier(")


def effect_unit(claim: Claim) -> str:
    """Of differences of the metric; "" for slopes and multipliers, whose unit is another."""
    if claim.verdict.effect is None or claim.verdict.analysis in ("scaling", "trend"):
        return ""
    return "points" if claim.unit == "percent" else claim.unit


def summary_text(summary: Summary | None, decimals: int) -> str:
    """`83.9 ± 1.2`: mean and standard deviation between runs."""
    if summary is None or summary.mean is None:
        return "–"
    spread = f" ± {shown(summary.sd, decimals)}" if summary.sd is not None else ""
    return shown(summary.mean, decimals) + spread


def duration(seconds: float) -> str:
    """CPU time in a unit that can be read."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def sizes(claim: Claim) -> str:
    """`3 seeds × 360 items`, what the verdict uses; of a claim that has none yet, how many runs have ended."""
    if not claim.verdict.n_seeds:
        return f"{len(finished(claim))} of {len(claim.runs)} runs"
    seeds = f"{claim.verdict.n_seeds} seed{'s' * (claim.verdict.n_seeds != 1)}"
    return f"{seeds} × {count(claim.verdict.n_items)} items" if claim.verdict.n_items else seeds


def finished(claim: Claim) -> list[Run]:
    return [run for run in claim.runs if run.status == "finished"]


class SideBySide(NamedTuple):
    """A number of two sides as texts, with as many decimals as its interval, or its difference, calls for."""

    a: str
    b: str
    difference: str
    interval: str
    over: str  # what the interval is over
    decimals: int


def side_by_side(row: Mapping[str, Any]) -> SideBySide:
    """row: of what `trainyard compare` finds, with a number on both sides."""
    known = row["low"] is not None
    whole = not known and float(row["a"]).is_integer() and float(row["b"]).is_integer()
    decimals = 0 if whole else places([(row["high"] - row["low"]) / 2 if known else (row["difference"] or 0) / 5])
    over = [f"{row['seeds']} seeds"] * bool(row["seeds"])
    over += [f"{row['items']} {row['item']}s"] * bool(row["items"] and known)
    over += [f"{row['clusters']} groups"] * bool(row["clusters"])
    return SideBySide(
        a=shown(row["a"], decimals),
        b=shown(row["b"], decimals),
        difference=signed(row["difference"], decimals),
        interval=between(row["low"], row["high"], decimals) if known else "",
        over=", ".join(over),
        decimals=decimals,
    )
