"""`study.json`, and the `scaling.json` of `trainyard scaling fit`: everything that a scaling page shows.

Losses are nats per token, N parameters, D tokens, C FLOPs. A number that isn't known is null.
"""

import math
from typing import Literal, NamedTuple

from stages.base.contracts import Contract, Number


class Interval(NamedTuple):
    low: Number
    high: Number


class Measured(NamedTuple):
    """A number with its interval."""

    value: Number
    low: Number
    high: Number

    @property
    def interval(self) -> Interval:
        return Interval(self.low, self.high)


class Prior(NamedTuple):
    """Normal priors, (mean, standard deviation); `noise` is of log loss between seeds."""

    alpha: tuple[float, float]
    beta: tuple[float, float]
    log_E: tuple[float, float]
    noise: float


class Law(Contract):
    """L(N, D) = E + A·N^-alpha + B·D^-beta; the best N grows as C^a, and the least loss is E + k·C^-gamma."""

    A: float
    B: float
    E: float
    alpha: float
    beta: float
    a: float
    k: float
    gamma: float
    n: int
    """Runs that it was fitted to."""
    delta: float
    """Huber's, of log residuals."""
    residual_rms: float
    """Of log loss."""
    interval: dict[str, Interval]
    """Of A, B, E, alpha, beta and a."""
    prior: Prior | None
    """Null where the runs alone make the law."""


class Minimum(Contract):
    """One isoFLOP budget. Where it has no best size, `reason` says why."""

    C: float
    N: Number
    D: Number
    loss: Number
    curvature: Number
    """Of the parabola, loss per (log N)²."""
    reason: str
    tried: list[tuple[float, float]]
    """(N, loss) of its runs."""

    @property
    def accepted(self) -> bool:
        return not self.reason


class Isoflop(Contract):
    """N* = k·C^a over the budgets' best sizes; null, with the reason, where fewer than two have one."""

    method: Literal["parabola", "akima"]
    a: Number
    k: Number
    interval: Interval | None
    """Of a."""
    reason: str
    minima: list[Minimum]


class PowerLaw(Contract):
    """L(x) = floor + (scale / x)^exponent along the lower envelope; null, with the reason, where there is none."""

    x: Literal["C", "N", "D"]
    with_floor: bool
    n: int
    """Runs of the envelope."""
    exponent: Measured | None = None
    scale: Number = None
    floor: Measured | None = None
    rms: Number = None
    """Of the residuals of log loss."""
    reason: str = ""


class WithheldRun(Contract):
    run: str
    N: float
    D: float
    C: float
    loss: float
    predicted: Measured
    """By a law fitted without it; the interval is for one new run."""
    error: float
    """Predicted over reached, minus 1."""

    @property
    def inside(self) -> bool:
        low, high = self.predicted.interval
        return low is not None and high is not None and low <= self.loss <= high


class Withheld(Contract):
    """The test of a law: the runs of most compute, predicted from the others; none, with the reason, if too few."""

    runs: list[WithheldRun]
    reason: str

    @property
    def mean_abs_error(self) -> float | None:
        return math.fsum(abs(run.error) for run in self.runs) / len(self.runs) if self.runs else None


class Variant(Contract):
    """The same runs fitted otherwise; without a law, with the reason."""

    name: str
    n: int
    reason: str = ""
    alpha: Number = None
    beta: Number = None
    E: Number = None
    a: Number = None
    N: Number = None
    """Best at ten times the largest compute; `loss` is reached there."""
    tokens_per_parameter: Number = None
    loss: Number = None


class Choice(Contract):
    """What a budget of `reach` times the largest run's compute would buy, by one way of choosing N."""

    C: float
    reach: float
    name: str
    N: float
    D: float
    tokens_per_parameter: float
    N_interval: Interval | None
    tokens_per_parameter_interval: Interval | None
    loss: Measured


class Recipe(Contract):
    """One recipe's runs. What follows `reason` is of its law, null or empty without one."""

    name: str
    n: int
    largest: float
    """Most compute of a run."""
    isoflop: list[Isoflop]
    """By parabolas and by Akima's interpolant."""
    power_laws: list[PowerLaw]
    law: Law | None = None
    reason: str = ""
    """Why there is no law."""
    frontier: tuple[tuple[float, Measured], ...] = ()
    """The least loss that the law allows, over a grid of C = 6·N·D."""
    withheld: Withheld | None = None
    sensitivity: tuple[Variant, ...] = ()
    plan: tuple[Choice, ...] = ()


class Hypothesis(Contract):
    """Both recipes' laws, fitted together with shared or with separate exponents."""

    objective: float
    slopes: tuple[Measured, Measured]
    """gamma of the first recipe's least loss and of the second's."""
    intercepts: tuple[Measured, Measured]
    """log k."""
    multiplier: list[tuple[float, Measured]]
    """Compute of the first recipe, and how many times as much the second needs for its loss."""


class Joint(Contract):
    """Both recipes' laws fitted together: what is said follows `separate` if the exponents differ, else `shared`."""

    exponents_differ: bool
    difference: dict[Literal["alpha", "beta", "gamma"], Measured]
    """Second recipe minus the first; gamma is the exponent of the least loss."""
    shared: Hypothesis
    separate: Hypothesis
    low: float
    high: float
    """The least and the most compute that both were run at."""
    crossover: Measured | None
    """Compute at which they reach the same loss; null with shared exponents, where one is better everywhere."""

    @property
    def chosen(self) -> Hypothesis:
        return self.separate if self.exponents_differ else self.shared


class Factor(Contract):
    """A recipe with too few runs for a law: the first one's exponents and floor, and one factor."""

    ratio: Measured
    """Of the loss above the floor, second over first."""
    multiplier: Measured
    """Compute that it needs for the same loss."""


class Cells(Contract):
    """Runs of both recipes at equal N and D: the mean difference of log loss, second minus first."""

    n: int
    difference: Measured


class Rival(Contract):
    """A second recipe beside the first."""

    first: str
    second: str
    n: int
    cells: Cells | None
    joint: Joint | None = None
    factor: Factor | None = None
    reason: str = ""
    """Why there is no second law."""


class Cell(Contract):
    """Runs of equal N and D: the best value of what was tuned, if `reason` is empty."""

    N: float
    D: float
    tried: int
    """Distinct values."""
    value: Number
    reason: str


class Knob(Contract):
    """A learning rate or batch: its best value by scale, and its power law in N and D where the cells tell one."""

    recipe: str
    knob: Literal["lr", "batch"]
    cells: list[Cell]
    reason: str
    n_exponent: Measured | None
    d_exponent: Measured | None


class Aspect(Contract):
    """Width over depth: the residual of the law is a parabola over its logarithm; `best` is the lowest point."""

    recipe: str
    best: Measured | None
    cost: Measured | None
    """Share by which the loss rises at four times or a quarter of the best ratio."""
    shapes: int
    reason: str
    ratios: list[float]
    residuals: list[float]
    """Of log loss."""


class Run(Contract):
    run: str
    recipe: str
    N: float
    D: float
    C: float
    loss: float
    fitted: Number
    """By its recipe's law."""

    @property
    def residual(self) -> float | None:
        """Of log loss."""
        return math.log(self.loss / self.fitted) if self.fitted is not None else None


class Study(Contract):
    """data/scaling/fit/study.json"""

    level: float
    """Of intervals."""
    recipes: list[Recipe]
    """The one that is shown in full comes first."""
    rivals: list[Rival]
    knobs: list[Knob]
    aspects: list[Aspect]
    runs: list[Run]
    warnings: list[str]
