"""Two recipes compared: do their exponents differ, how much compute does one save, and where do they cross?

Both have laws of their own where both have runs enough; else the second one's runs give one factor on the first law.
"""

from dataclasses import dataclass

import numpy as np

from stages.base.contracts.study import Cells, Factor, Hypothesis, Joint, Measured, Rival
from stages.base.errors import InputError
from stages.base.seeds import derive
from stages.base.stats import paired_interval
from stages.scaling.laws.law import NAMES, Law, Runs, frontiers
from stages.scaling.laws.parametric import (
    CELLS,
    Bootstrap,
    Estimate,
    FittedLaw,
    Options,
    Tails,
    estimate,
    fit_parametric,
    of_resamples,
)
from stages.scaling.laws.solver import DATA, FLOOR, SIZE, Problem, polish
from stages.scaling.tables.table import RunTable

FEWEST = 6  # runs of a recipe for a law of its own beside another's
SAME = 0.02  # N and D that differ by less, relatively, are one cell
GRID = 25
SHARED = ("a1", "b1", "e", "alpha1", "beta1", "a2", "b2")
SEPARATE = (*SHARED, "alpha2", "beta2")
TERM = {"a": SIZE, "alpha": SIZE, "b": DATA, "beta": DATA, "e": FLOOR}


def rival(
    first: str, one: RunTable, lead: FittedLaw, second: str, two: RunTable, options: Options
) -> tuple[Law | None, Rival]:
    """The second recipe against the first, whose law is `lead`; its own law, or None with a reason in the view."""
    seed = derive(options.seed, "rival", second)
    view = Rival(first=first, second=second, n=len(two.loss), cells=_cells(one, two, options.level))
    reason = ""
    if lead.prior is None and len(two.loss) >= FEWEST:
        try:
            found = compare(
                one.runs(), two.runs(), huber_delta=options.huber_delta, level=options.level, seed=seed,
                resamples=options.draws,
            )  # fmt: skip
        except InputError as error:
            reason = str(error)
        else:
            return found.chosen.second, view.model_copy(update={"joint": _joint(found)})
    try:
        shared = share_exponents(lead.fit, lead.draws, two.runs(), lead.noise, options.level, seed)
    except InputError as error:
        return None, view.model_copy(update={"reason": reason or str(error)})
    factor = Factor(ratio=Measured(*shared.ratio), multiplier=Measured(*shared.multiplier))
    return shared.law, view.model_copy(update={"reason": reason, "factor": factor})


@dataclass(frozen=True)
class SharedExponents:
    """The second recipe's law: E, α and β of the first, A and B times `ratio`.

    `multiplier`: how many times the compute the second recipe needs for the same loss, each at its own
    compute-optimal size; along that path L - E falls as C^(-αβ/(α+β)), so it is ratio^((α+β)/αβ).
    """

    law: Law
    ratio: Estimate
    multiplier: Estimate


def share_exponents(law: Law, draws: Bootstrap, runs: Runs, noise: float, level: float, seed: int) -> SharedExponents:
    """Fit the one number `ratio` = (L - E) / (A·N^-α + B·D^-β), the geometric mean over runs.

    Its interval carries the first law's draws, the runs resampled with replacement, and `noise` (standard deviation of
    log loss between seeds). Raises InputError if a loss lies at or below E, where a ratio has no meaning.
    """
    N, D, loss = runs
    if loss.size == 0:
        raise InputError("the second recipe has no runs")
    if (loss <= law.E).any():
        raise InputError(f"a run of the second recipe has loss {loss.min():.4g}, not above the fitted E = {law.E:.4g}")
    ratios = (loss - law.E) / (law.A * N**-law.alpha + law.B * D**-law.beta)
    ratio = float(np.exp(np.log(ratios).mean()))
    rng = np.random.default_rng(seed)
    sampled, multipliers = [], []
    for A, B, E, alpha, beta in draws.draws:
        rows = rng.integers(0, loss.size, loss.size)
        noisy = loss[rows] * np.exp(noise * rng.standard_normal(loss.size))
        above = np.maximum(noisy - E, 1e-3 * noisy)
        value = float(np.exp(np.log(above / (A * N[rows] ** -alpha + B * D[rows] ** -beta)).mean()))
        sampled.append(value)
        multipliers.append(value ** ((alpha + beta) / (alpha * beta)))
    power = (law.alpha + law.beta) / (law.alpha * law.beta)
    tails = Tails((1 - level) / 2, corrected=False)
    return SharedExponents(
        Law(law.A * ratio, law.B * ratio, law.E, law.alpha, law.beta),
        estimate(ratio, np.array(sampled), tails),
        estimate(ratio**power, np.array(multipliers), tails),
    )


@dataclass(frozen=True)
class Pair:
    """The laws of both recipes, E in common, under one hypothesis."""

    first: Law
    second: Law
    objective: float
    draws: np.ndarray  # (resamples, 2, 5): A, B, E, alpha, beta
    tails: Tails

    def multiplier(self, C: float) -> Estimate:
        """Compute the second recipe needs for the loss that the first reaches at C, each at its best size, over C."""
        (k1, g1), (k2, g2) = self._frontiers()
        values = (k2 / k1) ** (1 / g2) * float(C) ** (g1 / g2 - 1)
        return self._estimate(values)

    def slope(self, which: int) -> Estimate:
        """γ of the least loss E + k·C^-γ."""
        return self._estimate(self._frontiers()[which][1])

    def intercept(self, which: int) -> Estimate:
        """log k of the least loss E + k·C^-γ."""
        return self._estimate(np.log(self._frontiers()[which][0]))

    def crossover(self) -> Estimate:
        """log10 of the compute at which both reach the same loss."""
        (k1, g1), (k2, g2) = self._frontiers()
        with np.errstate(divide="ignore", invalid="ignore"):
            return self._estimate(np.log10(k2 / k1) / (g2 - g1))

    def difference(self, name: str) -> Estimate:
        """Second minus first: of `alpha`, `beta`, or of `gamma`, the exponent of the least loss."""
        if name == "gamma":
            (_, g1), (_, g2) = self._frontiers()
            return self._estimate(g2 - g1)
        column = NAMES.index(name)
        both = self._both()
        return self._estimate(both[:, 1, column] - both[:, 0, column])

    def _both(self) -> np.ndarray:
        """The fit in row 0, then its draws: (1 + resamples, 2, 5)."""
        fit = [[getattr(law, name) for name in NAMES] for law in (self.first, self.second)]
        return np.concatenate([np.array([fit]), self.draws])

    def _frontiers(self) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
        both = self._both()
        return frontiers(both[:, 0]), frontiers(both[:, 1])

    def _estimate(self, values: np.ndarray) -> Estimate:
        return estimate(float(values[0]), values[1:], self.tails)


@dataclass(frozen=True)
class Comparison:
    """`separate` is the pair to read if `exponents_differ`, else `shared`."""

    shared: Pair
    separate: Pair
    exponents_differ: bool
    low: float  # the compute that both were run at
    high: float

    @property
    def chosen(self) -> Pair:
        return self.separate if self.exponents_differ else self.shared


def compare(
    first: Runs, second: Runs, *, huber_delta: float = 1e-3, resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> Comparison:
    """Both recipes' laws fitted together, with shared and with separate exponents.

    E is a property of the text, so both share it. The exponents are said to differ if the interval of the difference
    of α or of β, each at (1 + level) / 2 as there are two, leaves out 0. Intervals resample each recipe's runs.
    Raises InputError as `fit_parametric` does, for either recipe.
    """
    alone = []
    for number, runs in enumerate((first, second), 1):
        try:
            alone.append(fit_parametric(*runs, huber_delta=huber_delta))
        except InputError as error:
            raise InputError(f"recipe {number}: {error}") from None
    shared = _fit(first, second, alone, SHARED, huber_delta, resamples, level, seed)
    separate = _fit(first, second, alone, SEPARATE, huber_delta, resamples, level, seed)
    n = first.loss.size + second.loss.size
    strict = Pair(separate.first, separate.second, 0.0, separate.draws, of_resamples((1 + level) / 2, n, len(SEPARATE)))
    gaps = [strict.difference(name) for name in ("alpha", "beta")]
    compute = [6 * runs.N * runs.D for runs in (first, second)]
    return Comparison(
        shared,
        separate,
        any(gap.low > 0 or gap.high < 0 for gap in gaps),
        float(max(c.min() for c in compute)),
        float(min(c.max() for c in compute)),
    )


def _fit(
    first: Runs,
    second: Runs,
    alone: list,
    names: tuple[str, ...],
    delta: float,
    resamples: int,
    level: float,
    seed: int,
) -> Pair:
    x, y, z = (np.log(np.concatenate(columns)) for columns in zip(first, second, strict=True))
    is_second = np.repeat([0.0, 1.0], [first.loss.size, second.loss.size])
    centre = float(x.mean()), float(y.mean())
    size, data = centre[0] - x, centre[1] - y
    along = {"a": np.ones_like(x), "b": np.ones_like(x), "e": np.ones_like(x), "alpha": size, "beta": data}
    shares_exponents = "alpha2" not in names
    rows = []
    for name in names:
        stem, own = name.rstrip("12"), name[-1]
        everywhere = stem == "e" or (shares_exponents and stem in ("alpha", "beta"))
        mask = np.ones_like(x) if everywhere else (is_second if own == "2" else 1 - is_second)
        rows.append(mask * along[stem])
    none = np.zeros(len(names))
    terms = tuple(TERM[name.rstrip("12")] for name in names)
    problem = Problem(np.stack(rows), terms, z, delta, True, none, none)
    starts = np.array([_start(alone, lead, names, centre) for lead in (0, 1)])
    theta, value = polish(starts, problem, iterations=2000, tolerance=1e-14)
    best = theta[int(np.argmin(value))]
    counts = _resample(first.loss.size, second.loss.size, resamples, seed)
    drawn, together = [], max(1, CELLS // z.size)
    for start in range(0, resamples, together):
        block = counts[start : start + together]
        drawn.append(polish(np.repeat(best[None], len(block), 0), problem, block, iterations=150, tolerance=1e-9)[0])
    laws = _laws(best[None], names, centre)[0]
    one, two = (Law(*map(float, row)) for row in laws)
    return Pair(
        one,
        two,
        float(value.min()),
        _laws(np.concatenate(drawn), names, centre),
        of_resamples(level, z.size, len(names)),
    )


def _start(alone: list, lead: int, names: tuple[str, ...], centre: tuple[float, float]) -> list[float]:
    """From both recipes' own laws; what they share is the `lead`'s."""
    values = {"e": np.log(alone[lead].E)}
    for number, law in enumerate(alone, 1):
        shape = law if "alpha2" in names else alone[lead]
        values[f"a{number}"] = np.log(law.A) - law.alpha * centre[0]
        values[f"b{number}"] = np.log(law.B) - law.beta * centre[1]
        values[f"alpha{number}"], values[f"beta{number}"] = shape.alpha, shape.beta
    return [float(values[name]) for name in names]


def _resample(first: int, second: int, resamples: int, seed: int) -> np.ndarray:
    """How often each run is drawn, (resamples, first + second); each recipe keeps its number of runs."""
    rng = np.random.default_rng(seed)
    parts = []
    for size in (first, second):
        drawn = rng.integers(0, size, (resamples, size))
        counts = np.zeros((resamples, size))
        np.add.at(counts, (np.arange(resamples)[:, None], drawn), 1.0)
        parts.append(counts)
    return np.concatenate(parts, axis=1)


def _laws(theta: np.ndarray, names: tuple[str, ...], centre: tuple[float, float]) -> np.ndarray:
    """(batch, 2, 5): A, B, E, α, β of both recipes."""
    column = dict(zip(names, theta.T, strict=True))
    laws = []
    for number in "12":
        alpha, beta = (column.get(f"{stem}{number}", column[f"{stem}1"]) for stem in ("alpha", "beta"))
        A = np.exp(column[f"a{number}"] + alpha * centre[0])
        B = np.exp(column[f"b{number}"] + beta * centre[1])
        laws.append(np.stack([A, B, np.exp(column["e"]), alpha, beta], axis=-1))
    return np.stack(laws, axis=1)


def _joint(found: Comparison) -> Joint:
    """Both hypotheses; multipliers on a grid from the least compute that both were run at to ten times the most."""
    grid = np.geomspace(found.low, 10 * max(found.high, found.low), GRID)
    crossover = None
    if found.exponents_differ:
        crossover = Measured(*(float(10.0 ** min(max(value, -300), 300)) for value in found.separate.crossover()))
    return Joint(
        exponents_differ=found.exponents_differ,
        difference={name: Measured(*found.separate.difference(name)) for name in ("alpha", "beta", "gamma")},
        shared=_hypothesis(found.shared, grid),
        separate=_hypothesis(found.separate, grid),
        low=found.low,
        high=found.high,
        crossover=crossover,
    )


def _hypothesis(pair: Pair, grid: np.ndarray) -> Hypothesis:
    return Hypothesis(
        objective=pair.objective,
        slopes=(Measured(*pair.slope(0)), Measured(*pair.slope(1))),
        intercepts=(Measured(*pair.intercept(0)), Measured(*pair.intercept(1))),
        multiplier=[(float(C), Measured(*pair.multiplier(C))) for C in grid],
    )


def _cells(one: RunTable, two: RunTable, level: float) -> Cells | None:
    """Runs of both at equal N and D: the mean difference of log loss, second minus first, over cells."""
    means: list[dict[tuple[float, float], list[float]]] = [{}, {}]
    for where, runs in zip(means, (one, two), strict=True):
        for n, d, loss in zip(runs.N, runs.D, runs.loss, strict=True):
            cell = (round(np.log(n) / SAME), round(np.log(d) / SAME))
            where.setdefault(cell, []).append(float(np.log(loss)))
    common = sorted(set(means[0]) & set(means[1]))
    if len(common) < 2:
        return None
    a, b = ([float(np.mean(where[cell])) for cell in common] for where in means)
    return Cells(n=len(common), difference=Measured(*paired_interval(b, a, level)))
