"""Numbers as the page shows them: a value, its interval, and where both stand on a cell's scale."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Value:
    """A number with an optional interval, in the unit it is shown in."""

    mean: float
    low: float | None = None
    high: float | None = None
    digits: int = 1

    @property
    def text(self) -> str:
        return f"{self.mean:.{self.digits}f}".replace("-", "−")

    @property
    def range(self) -> str:
        if self.low is None or self.high is None:
            end, sign = (self.high, "≤") if self.low is None else (self.low, "≥")
            return "" if end is None else f"{sign} {end:.{self.digits}f}".replace("-", "−")
        return f"{self.low:.{self.digits}f} – {self.high:.{self.digits}f}".replace("-", "−")


@dataclass(frozen=True)
class Scale:
    """From a data range to percent of a cell's width; what lies outside is drawn at the edge."""

    low: float
    high: float

    def at(self, value: float) -> str:
        share = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.0
        return f"{100 * min(max(share, 0.0), 1.0):.2f}"

    def span(self, low: float, high: float) -> str:
        return f"{float(self.at(high)) - float(self.at(low)):.2f}"

    @property
    def low_text(self) -> str:
        return f"{self.low:g}"

    @property
    def high_text(self) -> str:
        return f"{self.high:g}"


def number(value: Any) -> float | None:
    """A finite float, or None for null, NaN and what is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def value(mean: Any, low: Any = None, high: Any = None, *, factor: float = 1.0, digits: int = 1) -> Value | None:
    """A Value, or None where there is no number to show. An interval with one end is open at the other."""
    middle, below, above = (None if x is None else x * factor for x in map(number, (mean, low, high)))
    return None if middle is None else Value(middle, below, above, digits)


def percent(part: float, whole: float, digits: int = 1) -> str:
    return f"{100 * part / whole:.{digits}f}\u202f%" if whole else "–"


def count(number_of: float) -> str:
    """12,345 with a narrow no-break space, as tables set it."""
    return f"{number_of:,.0f}".replace(",", "\u202f")


def floor(values: Sequence[float], step: float) -> float:
    """The largest multiple of `step` that no value is below."""
    return math.floor(min(values, default=0.0) / step + 1e-9) * step


def ceiling(values: Sequence[float], step: float) -> float:
    """The smallest multiple of `step` that holds all values."""
    return max(step, math.ceil(max(values, default=0.0) / step - 1e-9) * step)
