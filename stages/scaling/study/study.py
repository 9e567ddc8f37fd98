"""Everything that a scaling page shows of a table of runs: each recipe is fitted once, and described."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from stages.base.contracts import study as contract
from stages.base.contracts.study import Choice, Interval, Isoflop, Measured, Run, Study, Variant, WithheldRun
from stages.base.errors import InputError
from stages.base.progress import Progress
from stages.base.seeds import derive
from stages.scaling.laws.isoflop import Method, budgets, fit_isoflop, isoflop_exponents
from stages.scaling.laws.law import Law, Runs, envelope, fit_power_law
from stages.scaling.laws.parametric import FittedLaw, Options, ParametricFit, estimate, fit_law, fit_parametric
from stages.scaling.study.recipes import rival
from stages.scaling.study.tuning import aspect, knobs
from stages.scaling.tables.table import RunTable

FEWEST = 4  # runs without which not even a prior makes a law
WITHHELD = 0.15  # share of a recipe's runs, those of most compute
REACH = 10.0  # how far past the largest compute curves are drawn
TARGETS = (1.0, 10.0, 100.0)  # budgets of the plan, in units of the largest compute
RATIOS = (20.0, 150.0)  # tokens per parameter shown beside the best
GRID = 49
RESAMPLES = 100  # of isoFLOP tables
POWERS: tuple[Literal["C"], Literal["N"], Literal["D"]] = ("C", "N", "D")
TUNED = {"lr", "batch", "width", "depth"}
DELTAS = (1e-4, 1e-3, 1e-2, 1e-1)  # Huber's, tried beside the one that was chosen
TRIMMED = 0.02  # share of the runs left out as outliers


@dataclass(frozen=True)
class RecipeFit:
    """One recipe's runs with their law, or the reason why there is none."""

    runs: RunTable
    law: FittedLaw | None
    withheld: contract.Withheld
    reason: str = ""


def fit_recipes(table: RunTable, options: Options, withheld: int | None = None) -> dict[str, RecipeFit]:
    """The law of every recipe, by name: those with a law first, then by number of runs.

    `withheld`: how many runs of most compute test the law; by default 15 % of them.
    """
    found = {}
    for name in table.recipes:
        runs = table.of(name)
        found[name] = _fit_recipe(runs, options, withheld or max(1, round(WITHHELD * runs.loss.size)))
    return dict(sorted(found.items(), key=lambda item: item[1].law is None))


def study(table: RunTable, fits: Mapping[str, RecipeFit], options: Options) -> Study:
    """The first recipe is shown in full, and others are compared with it.

    Raises InputError if not even one law in one variable can be fitted, which takes three runs.
    """
    recipes = [_describe(name, fit, options) for name, fit in fits.items()]
    if not any(view.law or any(power.exponent for power in view.power_laws) for view in recipes):
        raise InputError(f"no law can be fitted: {recipes[0].reason or recipes[0].power_laws[0].reason}")
    laws: dict[str, Law] = {name: fit.law.fit for name, fit in fits.items() if fit.law}
    first, rivals = recipes[0].name, []
    if lead := fits[first].law:
        for name, other in list(fits.items())[1:]:
            second, view = rival(first, fits[first].runs, lead, name, other.runs, options)
            rivals.append(view)
            if second:
                laws.setdefault(name, second)
    tuned = {name: fit for name, fit in fits.items() if TUNED & set(fit.runs.extra)}
    return Study(
        level=options.level,
        recipes=recipes,
        rivals=rivals,
        knobs=[view for name, fit in tuned.items() for view in knobs(name, fit.runs, options.level)],
        aspects=[
            aspect(name, fit.runs, laws[name], options.level)
            for name, fit in tuned.items()
            if {"width", "depth"} <= set(fit.runs.extra) and name in laws
        ],
        runs=_runs(table, laws),
        warnings=list(table.warnings),
    )


def summary(result: Study) -> list[str]:
    """A few lines for a terminal."""
    lines = []
    for view in result.recipes:
        name, law = view.name or "runs", view.law
        if law is None or view.withheld is None:
            lines.append(f"{name}: {view.n} runs, no law in N and D: {view.reason}")
            continue
        ends = {key: f"({low:.4g} to {high:.4g})" for key, (low, high) in law.interval.items()}
        lines.append(
            f"{name}: {view.n} runs, L = {law.E:.4f} + {law.A:.4g} N^-{law.alpha:.4f} + {law.B:.4g} D^-{law.beta:.4f}"
        )
        if law.prior:
            lines.append(f"  with priors on its exponents and floor, as {law.n} runs are few")
        lines.append(f"  best N grows as C^{law.a:.3f} {ends['a']}; alpha {ends['alpha']}, beta {ends['beta']}")
        error = view.withheld.mean_abs_error
        told = view.withheld.reason if error is None else f"{100 * error:.2f} % mean error"
        lines.append(f"  withheld runs of most compute: {told}")
    return lines


def _fit_recipe(runs: RunTable, options: Options, withheld: int) -> RecipeFit:
    nothing = contract.Withheld(runs=[], reason="")
    if len(runs.loss) < FEWEST:
        return RecipeFit(runs, None, nothing, f"{len(runs.loss)} runs, a law needs {FEWEST}")
    try:
        law = fit_law(runs.runs(), options)
    except InputError as error:
        return RecipeFit(runs, None, nothing, str(error))
    return RecipeFit(runs, law, _withhold(runs, withheld, options))


def _withhold(table: RunTable, count: int, options: Options) -> contract.Withheld:
    """Refit without the `count` runs of most compute (equal ones by their name), and predict those."""
    order = sorted(range(len(table.loss)), key=lambda i: (table.C[i], table.run[i]))
    kept, out = order[:-count], order[-count:]
    if len(kept) < FEWEST:
        return contract.Withheld(runs=[], reason=f"{len(kept)} runs would be left, a law needs {FEWEST}")
    try:
        law = fit_law(table.rows(kept).runs(), options)
    except InputError as error:
        return contract.Withheld(runs=[], reason=str(error))
    runs = []
    for i in out:
        n, d, loss = float(table.N[i]), float(table.D[i]), float(table.loss[i])
        expected = law.new_run(n, d, options.level, derive(options.seed, f"{table.run[i]}:{i}"))
        runs.append(
            WithheldRun(
                run=table.name(i), N=n, D=d, C=float(table.C[i]), loss=loss, predicted=Measured(*expected),
                error=expected.value / loss - 1,
            )
        )  # fmt: skip
    return contract.Withheld(runs=runs, reason="")


def _describe(name: str, fit: RecipeFit, options: Options) -> contract.Recipe:
    table, law, level = fit.runs, fit.law, options.level
    isoflop = [_isoflop(table, method, options) for method in ("parabola", "akima")]
    view = contract.Recipe(
        name=name,
        n=len(table.loss),
        largest=float(table.C.max()),
        isoflop=isoflop,
        power_laws=[_power_law(table, x, floor, options) for x in POWERS for floor in (False, True)],
        reason=fit.reason,
    )
    if law is None:
        return view
    return view.model_copy(
        update={
            "law": _law(law, level),
            "frontier": tuple(_frontier(law, 6 * table.N * table.D, level)),
            "withheld": fit.withheld,
            "sensitivity": tuple(_sensitivity(table, law)),
            "plan": tuple(_plan(law, float(table.C.max()), isoflop[0], level)),
        }
    )


def _law(law: FittedLaw, level: float) -> contract.Law:
    fit = law.fit
    k, gamma = fit.frontier
    return contract.Law(
        A=fit.A, B=fit.B, E=fit.E, alpha=fit.alpha, beta=fit.beta, a=fit.a, k=k, gamma=gamma, n=fit.n,
        delta=fit.delta, residual_rms=fit.rms,
        interval={name: Interval(*ends) for name, ends in law.draws.interval(level).items()},
        prior=None if law.prior is None else contract.Prior(*law.prior),
    )  # fmt: skip


def _frontier(law: FittedLaw, C: np.ndarray, level: float) -> Iterator[tuple[float, Measured]]:
    """The least loss at each C = 6·N·D, with its interval, from the least run's to ten times the largest one's."""
    tails = law.draws.tails(level)
    for c in np.geomspace(C.min(), REACH * C.max(), GRID).tolist():
        drawn = law.draws.predict(*law.draws.optimum(c).T)
        yield c, Measured(*estimate(float(law.fit.predict(*law.fit.optimum(c))), drawn, tails))


def _isoflop(table: RunTable, method: Method, options: Options) -> Isoflop:
    fit = fit_isoflop(table.C, table.N, table.loss, method=method)
    interval = None
    if not fit.reason:
        draws = isoflop_exponents(table.C, table.N, table.loss, method=method, resamples=RESAMPLES, seed=options.seed)
        if draws.size:
            interval = Interval(*np.quantile(draws, [(1 - options.level) / 2, (1 + options.level) / 2]).tolist())
    group, minima = budgets(table.C), []
    for number, found in enumerate(fit.minima):
        rows = group == number
        tried = list(zip(table.N[rows].tolist(), table.loss[rows].tolist(), strict=True))
        minima.append(
            contract.Minimum(
                C=found.C, N=found.N, D=found.D, loss=found.loss, curvature=found.curvature, reason=found.reason,
                tried=tried,
            )
        )  # fmt: skip
    return Isoflop(method=method, a=fit.a, k=fit.k, interval=interval, reason=fit.reason, minima=minima)


def _power_law(table: RunTable, x: Literal["C", "N", "D"], floor: bool, options: Options) -> contract.PowerLaw:
    column = getattr(table, x)
    rows = envelope(column, table.loss)
    view = contract.PowerLaw(x=x, with_floor=floor, n=int(rows.size))
    try:
        law = fit_power_law(
            column[rows], table.loss[rows], floor=floor, huber_delta=options.huber_delta, level=options.level,
            seed=derive(options.seed, "power law", x),
        )  # fmt: skip
    except InputError as error:
        return view.model_copy(update={"reason": str(error)})
    exponent, lowest = (Measured(getattr(law, name), *law.interval[name]) for name in ("exponent", "floor"))
    return view.model_copy(update={"exponent": exponent, "scale": law.scale, "floor": lowest, "rms": law.rms})


def _sensitivity(table: RunTable, law: FittedLaw) -> Iterator[Variant]:
    """The fit itself first, then each choice changed alone."""
    target = REACH * float(table.C.max())
    fit, runs, prior = law.fit, table.runs(), law.prior
    with Progress(None, "refitting the law", unit="variants") as bar:
        yield _variant(f"as fitted (δ = {fit.delta:g})", target, fit.n, fit)
        for name, chosen, how in _variants(fit, runs, prior is not None, prior.noise if prior else 0.0, table):
            bar.advance()
            try:
                other = fit_parametric(*chosen, prior=prior, **({"huber_delta": fit.delta} | how))
            except InputError as error:
                yield Variant(name=name, n=chosen.loss.size, reason=str(error))
            else:
                yield _variant(name, target, chosen.loss.size, other)


def _variants(
    fit: ParametricFit, runs: Runs, has_prior: bool, noise: float, table: RunTable
) -> Iterator[tuple[str, Runs, dict]]:
    """What each is called, the runs it is fitted to, and how."""
    for delta in DELTAS:
        # With a prior, δ stays above its noise: below, the prior outweighs the runs.
        if not np.isclose(delta, fit.delta) and delta > noise:
            yield f"δ = {delta:g}", runs, {"huber_delta": delta}
    if not has_prior:
        yield "least absolute deviations", runs, {"estimator": "lad"}
    yield "residuals in nats, not in log loss", runs, {"residual": "linear"}
    out = max(1, round(TRIMMED * runs.loss.size))
    for badness, one, many in (
        (runs.loss, "highest loss", "highest losses"),
        (np.abs(fit.residuals), "largest residual", "largest residuals"),
    ):
        kept = np.sort(np.argsort(badness, kind="stable")[:-out])
        name = f"without the {one}" if out == 1 else f"without the {out} {many}"
        yield name, Runs(*(column[kept] for column in runs)), {}
    if "N_nonembedding" in table.extra:
        yield "N without embeddings", runs._replace(N=table.extra["N_nonembedding"]), {}


def _variant(name: str, C: float, n: int, fit: ParametricFit) -> Variant:
    best = fit.optimum(C)
    return Variant(
        name=name, n=n, alpha=fit.alpha, beta=fit.beta, E=fit.E, a=fit.a, N=best.N,
        tokens_per_parameter=best.tokens_per_parameter, loss=float(fit.predict(*best)),
    )  # fmt: skip


def _plan(law: FittedLaw, largest: float, isoflop: Isoflop, level: float) -> Iterator[Choice]:
    """What budgets would buy: the best size by the law and by the isoFLOP minima, and two fixed ratios."""
    for reach in TARGETS:
        C = reach * largest
        size = law.best_size(C, level)
        choices: list[tuple[str, float, Interval | None]] = [("law", size.value, Interval(size.low, size.high))]
        if isoflop.a is not None and isoflop.k is not None:
            choices.append(("isoFLOP minima", isoflop.k * C**isoflop.a, None))
        choices += [(f"{ratio:g} tokens per parameter", (C / (6 * ratio)) ** 0.5, None) for ratio in RATIOS]
        for name, n, between in choices:
            d = C / (6 * n)
            ratios = between and Interval(*(_tokens_per_parameter(C, end) for end in reversed(between)))
            yield Choice(
                C=C, reach=reach, name=name, N=n, D=d, tokens_per_parameter=d / n, N_interval=between,
                tokens_per_parameter_interval=ratios, loss=Measured(*law.draws.loss(n, d, level)),
            )  # fmt: skip


def _tokens_per_parameter(C: float, N: float | None) -> float:
    """Of N parameters that spend C = 6·N·D; an interval's end can be NaN, or too small or large to square."""
    return C / 6 / N / N if N and N > 0 else float("nan")


def _runs(table: RunTable, laws: Mapping[str, Law]) -> list[Run]:
    rows = []
    for i, recipe in enumerate(table.recipe):
        n, d, c, loss = (float(column[i]) for column in (table.N, table.D, table.C, table.loss))
        fitted = float(laws[recipe].predict(n, d)) if recipe in laws else None
        rows.append(Run(run=table.name(i), recipe=recipe, N=n, D=d, C=c, loss=loss, fitted=fitted))
    return rows
