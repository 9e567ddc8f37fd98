"""The scaling laws of the ladder: parametric, isoFLOP, LSTM against Transformer, and how they did on a withheld run."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from stages.base.artifacts import LADDER
from stages.base.contracts.fit import Fit, Law
from stages.base.contracts.point import Ladder, Point
from stages.base.contracts.study import Study
from stages.base.errors import InputError
from stages.base.params import Section
from stages.base.record import stage
from stages.scaling.laws.parametric import Options, Prior
from stages.scaling.study.study import FEWEST, fit_recipes, study
from stages.scaling.tables.ladders import table_of


class Normal(Section):
    mean: float
    """What is expected."""
    sd: Annotated[float, Field(gt=0)]
    """Standard deviation."""


class PriorParams(Section):
    """A ladder of a handful of points can't identify five parameters alone; these say what is known before it."""

    alpha: Normal
    """Exponent of N."""
    beta: Normal
    """Exponent of D."""
    log_E: Normal
    """Logarithm of the irreducible loss in nats per token."""
    noise: Annotated[float, Field(gt=0)]
    """Standard deviation of log loss between seeds."""


class FitParams(Section):
    huber_delta: Annotated[float, Field(gt=0)]
    """Residuals of log loss beyond it count linearly, not squared; at least twice the prior's noise is taken."""
    count: Literal["total", "non_embedding"]
    """Which parameters N counts."""
    prior: PriorParams
    draws: Annotated[int, Field(ge=50, le=5000)]
    """Laws drawn for the intervals."""
    level: Annotated[float, Field(gt=0.5, lt=1)]
    """Of intervals."""
    withhold: Annotated[int, Field(ge=1)]
    """How many runs of most compute are left out to measure the error of extrapolation."""


PARAMS: dict[str, type[Section]] = {"scaling.fit": FitParams}


def options(params: FitParams, seed: int) -> Options:
    given = params.prior
    alpha, beta, log_E = ((part.mean, part.sd) for part in (given.alpha, given.beta, given.log_E))
    prior = Prior(alpha, beta, log_E, given.noise)
    return Options(params.huber_delta, params.level, params.draws, prior, prior_below=None, seed=seed)


def analyse(points: Sequence[Point], params: FitParams, seed: int) -> tuple[Fit, Study]:
    """What the plan needs, and what the scaling page shows.

    Raises InputError for too few Transformers, or points that were trained by different recipes.
    """
    transformers = [point for point in points if point.arch == "transformer"]
    if len(transformers) < FEWEST:
        raise InputError(
            f"the ladder has {len(transformers)} Transformer points, a law needs {FEWEST}; add to `scaling.points`"
        )
    recipe = points[0].recipe
    if any(point.recipe != recipe for point in points):
        raise InputError("the ladder's points have different recipes; rerun the ladder")
    how, table = options(params, seed), table_of(points, params.count)
    fits = fit_recipes(table, how, params.withhold)
    found = fits["transformer"]
    if found.law is None:
        raise InputError(f"no law of the ladder: {found.reason}; change `scaling.points`")
    law = found.law.fit
    fit = Fit(
        law=Law(A=law.A, B=law.B, E=law.E, alpha=law.alpha, beta=law.beta),
        draws=found.law.draws.draws.tolist(),
        noise=found.law.noise,
        level=params.level,
        count=params.count,
        recipe=recipe,
        largest_flops=max(point.flops for point in transformers),
        withheld_error=found.withheld.mean_abs_error,
    )
    return fit, study(table, fits, how)


def metrics(fit: Fit, shown: Study) -> dict[str, float | None]:
    """The law's numbers, and how much compute each other recipe needs for the same loss, relative to the first."""
    law = next(view.law for view in shown.recipes if view.name == "transformer")
    numbers: dict[str, float | None] = {}
    if law:
        numbers |= {name: getattr(law, name) for name in ("A", "B", "E", "alpha", "beta", "a", "residual_rms")}
    if fit.withheld_error is not None:
        numbers["withheld_error"] = fit.withheld_error
    return numbers | {
        f"{rival.second}_compute_multiplier": rival.factor.multiplier.value for rival in shown.rivals if rival.factor
    }


def main() -> None:
    with stage("scaling.fit", FitParams, seed="run.seed") as run:
        keys = run.read_contract(f"{LADDER}/points.json", Ladder).points
        points = [run.read_contract(f"{LADDER}/{key}/point.json", Point) for key in keys]
        fit, shown = analyse(points, run.params, run.seed)
        run.write_contract("fit.json", fit)
        run.write_contract("study.json", shown)
        run.write_json("metrics.json", metrics(fit, shown))


if __name__ == "__main__":
    main()
