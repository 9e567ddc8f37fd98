"""What a training run costs: FLOPs, GPU-hours, days, money, energy and CO2eq, each with the assumption behind it."""

import math
from dataclasses import dataclass, fields

from stages.base.errors import ParamError
from stages.base.readable import in_readable_unit
from stages.lm.accelerators import Accelerator, named
from stages.lm.config import training_flops

REPORTING_THRESHOLD = 1e26  # FLOPs; US Executive Order 14110 (2023, since revoked), the lecture's scrutiny line
EU_SYSTEMIC_RISK = 1e25  # FLOPs; EU AI Act, article 51(2)
HOURS_PER_DAY = 24.0
FEWEST = 1e3  # parameters, or tokens: fewer are a number of millions or billions
MOST_PUE = 10.0
MOST_KG_PER_KWH = 3.0  # lignite emits about 1.2


@dataclass(frozen=True)
class Assumptions:
    """Everything an estimate supposes. Ranges are (low, high).

    `mfu`: model FLOPs utilisation over *billed* hours. 22 published runs lie between 14 and 48 %; the range here holds
    19 of them (bench/scaling/plan.py lists all). `tflops` (achieved, per GPU), if given, replaces peak × MFU. `pue` ×
    `kg_per_kwh` = .42 kg of CO2eq per kWh of board power is what Meta's Llama 2 to 3.1 model cards imply (.41-.43).
    """

    mfu: tuple[float, float] = (0.22, 0.44)
    tflops: float | None = None
    usd_per_gpu_hour: float | None = None
    people: float = 0.0
    usd_per_person: float = 500_000.0
    pue: float = 1.1
    kg_per_kwh: float = 0.38


@dataclass(frozen=True)
class Attention:
    """What the FLOPs of attention depend on: layers, query heads × head size, and tokens of context."""

    n_layer: int
    width: int
    context: int


@dataclass(frozen=True)
class Quantity:
    """A figure with its range and the sentence that says where it comes from."""

    value: float
    low: float
    high: float
    unit: str
    assumption: str

    def __float__(self) -> float:
        return self.value


@dataclass(frozen=True)
class Cost:
    flops: Quantity
    tokens_per_parameter: Quantity
    gpu_hours: Quantity
    days: Quantity
    rent_usd: Quantity
    people_usd: Quantity
    usd: Quantity
    energy_mwh: Quantity
    tco2eq: Quantity
    thresholds: tuple[str, ...]

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        out: dict[str, object] = {"thresholds": list(self.thresholds)}
        for field in fields(self):
            quantity = getattr(self, field.name)
            if isinstance(quantity, Quantity):
                out[field.name] = {part.name: getattr(quantity, part.name) for part in fields(quantity)}
        return out


def estimate(
    params: float,
    tokens: float,
    *,
    gpus: int = 1,
    device: str | Accelerator = "h100",
    active_params: float | None = None,
    attention: Attention | None = None,
    assumptions: Assumptions | None = None,
) -> Cost:
    """Cost of training `params` parameters on `tokens` tokens with `gpus` devices.

    `active_params`: of a mixture of experts, the parameters one token uses (FLOPs follow these, not the total).
    Raises ParamError for a non-positive or non-finite number, active > total, more TFLOP/s than the device's peak, an
    unknown device, numbers in another unit (billions, grams, percent), or so large that what they cost is none.
    """
    given = assumptions or Assumptions()
    board = named(device) if isinstance(device, str) else device
    active = float(params if active_params is None else active_params)
    _check(float(params), float(tokens), gpus, active, given, attention)
    if given.tflops is not None and given.tflops > board.peak_tflops:
        raise ParamError(f"tflops {given.tflops:g} is above the {board.label}'s dense peak of {board.peak_tflops:g}")
    dense = training_flops(active) * float(tokens)
    shape = (attention.n_layer, attention.width, attention.context) if attention else ()
    compute = training_flops(active, *shape) * float(tokens)
    if given.tflops is not None:
        rates = [given.tflops] * 3
        speed = f"{given.tflops:g} TFLOP/s achieved ({given.tflops / board.peak_tflops:.0%} MFU) on one {board.label}"
    else:
        low, high = given.mfu
        rates = [board.peak_tflops * mfu for mfu in (math.sqrt(low * high), high, low)]
        speed = f"{board.label} at {low:.0%}-{high:.0%} of its dense {board.peak_tflops:g} TFLOP/s, over billed hours"
    hours = [compute / (rate * 1e12) / 3600 for rate in rates]  # middle, low, high
    days = [hour / gpus / HOURS_PER_DAY for hour in hours]
    price = board.usd_per_hour if given.usd_per_gpu_hour is None else given.usd_per_gpu_hour
    rent = [hour * price for hour in hours]
    salaries = float(given.people * given.usd_per_person)
    energy = [hour * board.power_w * given.pue / 1e6 for hour in hours]
    carbon = [mwh * given.kg_per_kwh for mwh in energy]  # kg/kWh = t/MWh
    people = (
        f"{given.people:g} people at ${given.usd_per_person:,.0f} for the project" if given.people else "not counted"
    )
    kind = "parameters" if active_params is None else "active parameters"
    counted = f"6 x {active:.4g} {kind} x {float(tokens):.4g} tokens"
    if attention:
        counted += f" = {dense:.4g}, and {compute / dense - 1:.1%} more for attention over {attention.context} tokens"
    cost = Cost(
        flops=_exactly(compute, "FLOPs", counted),
        tokens_per_parameter=_exactly(
            float(tokens) / active,
            "",
            f"of {active:.4g} {kind}; about 20 is compute-optimal (Hoffmann et al. 2022), more is cheaper to serve",
        ),
        gpu_hours=_between(hours, "GPU-hours", speed),
        days=_between(days, "days", f"{gpus} x {board.label}, without interruptions"),
        rent_usd=_between(rent, "USD", f"${price:g} per GPU-hour"),
        people_usd=_exactly(salaries, "USD", people),
        usd=_between([part + salaries for part in rent], "USD", "rent and people; no failed runs, ablations or data"),
        energy_mwh=_between(energy, "MWh", f"{board.power_w:g} W a board, PUE {given.pue:g}"),
        tco2eq=_between(carbon, "tCO2eq", f"{given.kg_per_kwh:g} kg per kWh (location-based); operation only"),
        thresholds=(
            _against(compute, REPORTING_THRESHOLD, "the reporting line of US Executive Order 14110, since revoked"),
            _against(compute, EU_SYSTEMIC_RISK, "the systemic-risk line of the EU AI Act"),
        ),
    )
    for field in fields(cost):
        quantity = getattr(cost, field.name)
        if isinstance(quantity, Quantity) and not math.isfinite(quantity.high):
            raise ParamError(f"{field.name} would be beyond any number; check {params:g} params and {tokens:g} tokens")
    return cost


def render(cost: Cost) -> str:
    """A table for the terminal; every line carries its assumption."""
    rows = [
        ("compute", cost.flops), ("tokens per parameter", cost.tokens_per_parameter), ("GPU-hours", cost.gpu_hours),
        ("wall time", cost.days), ("rent", cost.rent_usd), ("people", cost.people_usd), ("total", cost.usd),
        ("energy", cost.energy_mwh), ("emissions", cost.tco2eq),
    ]  # fmt: skip
    lines = [f"{name:<20} {_shown(quantity):<48} {quantity.assumption}" for name, quantity in rows]
    return "\n".join([*lines, *cost.thresholds]) + "\n"


def _exactly(value: float, unit: str, assumption: str) -> Quantity:
    return Quantity(value, value, value, unit, assumption)


def _between(ends: list[float], unit: str, assumption: str) -> Quantity:
    """`ends`: middle, low, high."""
    value, low, high = ends
    return Quantity(value, low, high, unit, assumption)


def _shown(quantity: Quantity) -> str:
    factor, unit = in_readable_unit(quantity.value, quantity.unit)
    text = _number(factor * quantity.value)
    if quantity.low != quantity.high:
        text += f" ({_number(factor * quantity.low)} to {_number(factor * quantity.high)})"
    return f"{text} {unit}".rstrip()


def _number(value: float) -> str:
    """Three significant digits, grouped; powers of ten where that is shorter."""
    if value == 0:
        return "0"
    if not 1e-3 <= abs(value) < 1e12:
        return f"{value:.3g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{round(value, 2 - math.floor(math.log10(abs(value)))):,.{digits}f}"


def _against(compute: float, line: float, name: str) -> str:
    ratio = compute / line
    return f"{ratio:.3g}x {name} ({line:.0e} FLOPs): {'above it' if ratio >= 1 else 'below it'}"


def _check(
    params: float, tokens: float, gpus: int, active: float, given: Assumptions, attention: Attention | None
) -> None:
    low, high = given.mfu
    positive = {"params": params, "tokens": tokens, "gpus": gpus, "active_params": active}
    positive |= {} if given.tflops is None else {"tflops": given.tflops}
    if attention:
        positive |= {"layers": attention.n_layer, "width": attention.width, "context": attention.context}
    for name, value in positive.items():
        if not (math.isfinite(value) and value > 0):
            raise ParamError(f"{name} must be a positive number, got {value!r}")
    for name, value in {"params": params, "tokens": tokens, "active_params": active}.items():
        if value < FEWEST:
            raise ParamError(f"{name} {value:g} make no language model; write them out, as 405e9 for 405 billion")
    if active > params:
        raise ParamError(f"active_params {active:g} exceed params {params:g}")
    if not 0 < low <= high <= 1:
        raise ParamError(f"mfu must be a range within (0, 1], got {low!r} to {high!r}")
    if not (math.isfinite(given.pue) and given.pue >= 1):
        raise ParamError(f"pue must be at least 1, the boards' own energy; got {given.pue!r}")
    if given.pue > MOST_PUE:
        raise ParamError(f"pue {given.pue:g} is a ratio of energies; 110 % is 1.1")
    if given.kg_per_kwh > MOST_KG_PER_KWH:
        raise ParamError(f"kg_per_kwh {given.kg_per_kwh:g} is more than any fuel emits; 380 g are 0.38 kg")
    for name in ("people", "usd_per_person", "kg_per_kwh", "usd_per_gpu_hour"):
        value = getattr(given, name) or 0.0
        if not (math.isfinite(value) and value >= 0):
            raise ParamError(f"{name} must not be negative, got {value!r}")
