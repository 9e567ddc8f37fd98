"""The scaling laws of the ladder: parametric, isoFLOP, LSTM against Transformer, and how they did on a withheld run."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import ConfigDict, Field

from stages.base.errors import InputError
from stages.base.params import Section
from stages.base.record import stage
from stages.base.seeds import derive
from stages.scaling.laws.estimate import Belief, Options, believe
from stages.scaling.laws.isoflop import IsoflopFit, Minimum, fit_isoflop
from stages.scaling.laws.law import Law, Optimum
from stages.scaling.laws.parametric import Bootstrap, ParametricFit, Prior, bootstrap, fit_parametric, posterior
from stages.scaling.laws.shared_exponents import SharedExponents, share_exponents
from stages.scaling.study.study import FEWEST, describe, isoflop_view, study, withheld_view
from stages.scaling.study.withheld import withhold
from stages.scaling.tables.table import RunTable

__all__ = [
    "Bootstrap",
    "IsoflopFit",
    "Law",
    "Minimum",
    "Optimum",
    "ParametricFit",
    "Prior",
    "SharedExponents",
    "bootstrap",
    "fit_isoflop",
    "fit_parametric",
    "posterior",
    "share_exponents",
]


class Normal(Section):
    mean: float
    sd: Annotated[float, Field(gt=0)]


class PriorParams(Section):
    """A ladder of a handful of points can't identify five parameters alone; these say what is known before it."""

    alpha: Normal
    beta: Normal
    log_E: Normal  # of the irreducible loss, nats per token
    noise: Annotated[float, Field(gt=0)]  # standard deviation of log loss between seeds


class FitParams(Section):
    huber_delta: Annotated[float, Field(gt=0)]
    count: Literal["total", "non_embedding"]  # which N the law is in
    prior: PriorParams
    draws: Annotated[int, Field(ge=50, le=5000)]
    level: Annotated[float, Field(gt=0.5, lt=1)]
    withhold: Annotated[int, Field(ge=1)]  # the runs of most compute, left out to measure the error of extrapolation


class Points(Section):
    """Only the keys are read here: the ladder stage checks what is in them."""

    model_config = ConfigDict(extra="allow", frozen=True)

    def names(self) -> list[str]:
        return sorted(self.model_extra or {})


PARAMS: dict[str, type[Section]] = {"scaling.fit": FitParams, "scaling.points": Points}
LADDER = "data/scaling/ladder"


def table_of(points: Sequence[Mapping[str, Any]], count: str) -> RunTable:
    """The ladder as a table of runs: recipes are architectures, C counts attention too."""
    other = {"total": "n_nonembedding", "non_embedding": "n_params"}[count]
    size = {"total": "n_params", "non_embedding": "n_nonembedding"}[count]
    names = (size, "tokens", "flops", "loss", other)
    n, d, c, loss, n_other = np.array([[point[name] for name in names] for point in points], dtype=np.float64).T
    extra = {"N_nonembedding": n_other} if count == "total" else {}
    recipes, keys = (tuple(point[name] for point in points) for name in ("arch", "key"))
    return RunTable(n, d, c, loss, recipes, keys, extra, tuple(range(len(points))))


def options(params: FitParams, seed: int) -> Options:
    given = params.prior
    alpha, beta, log_E = ((part.mean, part.sd) for part in (given.alpha, given.beta, given.log_E))
    prior = Prior(alpha, beta, log_E, given.noise)
    return Options(params.huber_delta, params.level, params.draws, prior, prior_below=None, seed=seed)


def analyse(points: Sequence[Mapping[str, Any]], params: FitParams, seed: int) -> dict[str, Any]:
    """Everything fit.json holds, from the ladder's points (each with its `key`). Raises InputError for too few."""
    transformers = [point for point in points if point["arch"] == "transformer"]
    if len(transformers) < FEWEST:
        raise InputError(
            f"the ladder has {len(transformers)} Transformer points, a law needs {FEWEST}; add to `scaling.points`"
        )
    how = options(params, seed)
    table = table_of(points, params.count)
    first = table.of("transformer")
    belief = believe(first.runs(), how)
    held = withheld_view(first, withhold(first, params.withhold, FEWEST, how))
    law = describe(belief, params.level) | {
        "residuals": dict(zip(first.run, belief.fit.residuals, strict=True)),
        "draws": belief.draws.draws.tolist(),
    }
    return {
        "count": params.count,
        "level": params.level,
        "noise": belief.noise,
        "prior": params.prior.model_dump(),
        "transformer": law,
        "lstm": recurrent(table.of("lstm"), belief, params, seed) if "lstm" in table.recipes else None,
        "withheld": held | {"points": [row | {"key": row["run"]} for row in held["points"]]},
        "isoflop": isoflop_view(fit_isoflop(first.C, first.N, first.loss)),
        "points": list(points),
    }


def recurrent(table: RunTable, belief: Belief, params: FitParams, seed: int) -> dict[str, Any]:
    """The LSTM's law: the Transformer's exponents and E, and one factor."""
    apart = derive(seed, "rival", "lstm")
    shared = share_exponents(belief.fit, belief.draws, *table.runs(), belief.noise, params.level, apart)
    return shared.law.as_dict() | {
        "shared_exponents": True,
        "n": len(table.loss),
        "ratio": shared.ratio,
        "ratio_interval": list(shared.ratio_interval),
        "ratios": dict(zip(table.run, shared.ratios, strict=True)),
        "compute_multiplier": shared.compute_multiplier,
        "compute_multiplier_interval": list(shared.compute_multiplier_interval),
    }


def main() -> None:
    with stage("scaling.fit", FitParams, seed="run.seed") as run:
        keys = run.section("scaling.points", Points).names()
        points = [run.read_json(f"{LADDER}/{key}/point.json") | {"key": key} for key in keys]
        result = analyse(points, run.params, run.seed)
        run.write_json("fit.json", result)
        table = table_of(points, run.params.count)
        run.write_json("study.json", study(table, options(run.params, run.seed), run.params.withhold))
        law = result["transformer"]
        numbers = {name: law[name] for name in ("A", "B", "E", "alpha", "beta", "a", "residual_rms")}
        if result["withheld"]["mean_abs_error"] is not None:
            numbers["withheld_error"] = result["withheld"]["mean_abs_error"]
        if result["lstm"]:
            numbers["lstm_compute_multiplier"] = result["lstm"]["compute_multiplier"]
        run.write_json("metrics.json", numbers)


if __name__ == "__main__":
    main()
