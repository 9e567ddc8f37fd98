"""Quantities so that they can be read: a run of minutes isn't told in days, and of one thing there are no `1 items`."""

UNITS = {  # smaller units for small runs: (how many make one, name), coarsest first
    "GPU-hours": ((1, "GPU-hours"), (60, "GPU-minutes"), (3600, "GPU-seconds")),
    "days": ((1, "days"), (24, "hours"), (1440, "minutes"), (86400, "seconds")),
    "USD": ((1, "USD"), (100, "US cents")),
    "MWh": ((1, "MWh"), (1e3, "kWh"), (1e6, "Wh")),
    "tCO2eq": ((1, "t CO₂eq"), (1e3, "kg CO₂eq"), (1e6, "g CO₂eq")),
}


def in_readable_unit(value: float, unit: str) -> tuple[float, str]:
    """The factor and the unit in which the value is at least 1, or else the finest; nothing is 0 of the coarsest."""
    ladder = UNITS.get(unit, ((1, unit),))
    return next(((factor, name) for factor, name in ladder if value * factor >= 1 or not value), ladder[-1])


def counted(n: int, noun: str) -> str:
    """`1 item`, `2 items`."""
    return f"{n} {noun}{'' if n == 1 else 's'}"
