"""The scaling laws of the ladder: parametric, isoFLOP, LSTM against Transformer, and how they did on a withheld run."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import ConfigDict, Field

from stages.base.errors import InputError
from stages.base.params import Section
from stages.base.record import stage
from stages.base.seeds import derive
from stages.scaling.forecast import Forecast
from stages.scaling.isoflop import IsoflopFit, Minimum, fit_isoflop
from stages.scaling.law import Law, Optimum
from stages.scaling.parametric import Bootstrap, ParametricFit, Prior, bootstrap, fit_parametric, posterior
from stages.scaling.recipes import SharedExponents, share_exponents

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
FEWEST = 4  # Transformer runs without which not even the prior makes a law


def columns(points: Sequence[Mapping[str, Any]], count: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """N, D and loss of ladder points."""
    name = {"total": "n_params", "non_embedding": "n_nonembedding"}[count]
    values = np.array([[point[name], point["tokens"], point["loss"]] for point in points], dtype=np.float64)
    return values[:, 0], values[:, 1], values[:, 2]


def fit_law(points: Sequence[Mapping[str, Any]], params: FitParams, seed: int) -> tuple[ParametricFit, Bootstrap]:
    """The law of a few runs and its posterior draws."""
    given = params.prior
    alpha, beta, log_E = ((part.mean, part.sd) for part in (given.alpha, given.beta, given.log_E))
    prior = Prior(alpha, beta, log_E, given.noise)
    runs = columns(points, params.count)
    law = fit_parametric(*runs, huber_delta=params.huber_delta, prior=prior)
    draws = posterior(*runs, prior=prior, resamples=params.draws, seed=seed, huber_delta=params.huber_delta)
    return law, draws


def withheld_error(points: Sequence[Mapping[str, Any]], params: FitParams, seed: int) -> dict[str, Any]:
    """Refit without the runs of most compute and predict them: what the plan's own extrapolation may miss by."""
    ordered = sorted(points, key=lambda point: (point["flops"], point["key"]))
    kept, out = ordered[: -params.withhold], ordered[-params.withhold :]
    if len(kept) < FEWEST:
        return {"points": [], "mean_abs_error": None, "reason": f"{len(kept)} runs would be left, a law needs {FEWEST}"}
    law, draws = fit_law(kept, params, derive(seed, "withheld"))
    rows = []
    for point, n, d, loss in zip(out, *columns(out, params.count), strict=True):
        predicted = float(law.predict(n, d))
        forecast = Forecast(law, draws.draws, params.prior.noise, params.level, params.count)
        low, high = forecast.interval(n, d, derive(seed, point["key"]))
        rows.append(
            {"key": point["key"], "loss": float(loss), "predicted": predicted, "low": low, "high": high,
             "error": predicted / float(loss) - 1}
        )  # fmt: skip
    return {"points": rows, "mean_abs_error": float(np.mean([abs(row["error"]) for row in rows])), "reason": ""}


def describe(keys: Sequence[str], law: ParametricFit, draws: Bootstrap, level: float) -> dict[str, Any]:
    """The Transformer's law as JSON: values, intervals, residuals, and the draws that later intervals are made from."""
    return law.as_dict() | {
        "a": law.a,
        "b": law.b,
        "objective": law.objective,
        "n": law.n,
        "interval": {name: list(ends) for name, ends in draws.interval(level).items()},
        "residuals": dict(zip(keys, law.residuals, strict=True)),
        "residual_rms": float(np.sqrt(np.mean(np.square(law.residuals)))),
        "draws": draws.draws.tolist(),
    }


def analyse(points: Sequence[Mapping[str, Any]], params: FitParams, seed: int) -> dict[str, Any]:
    """Everything fit.json holds, from the ladder's points (each with its `key`). Raises InputError for too few."""
    transformers = [point for point in points if point["arch"] == "transformer"]
    recurrent = [point for point in points if point["arch"] == "lstm"]
    if len(transformers) < FEWEST:
        raise InputError(
            f"the ladder has {len(transformers)} Transformer points, a law needs {FEWEST}; add to `scaling.points`"
        )
    law, draws = fit_law(transformers, params, seed)
    sizes, _, losses = columns(transformers, params.count)
    valley = fit_isoflop([point["flops"] for point in transformers], sizes, losses)
    compared = None
    if recurrent:
        shared = share_exponents(
            law, draws, *columns(recurrent, params.count), params.prior.noise, params.level, derive(seed, "lstm")
        )
        compared = shared.law.as_dict() | {
            "shared_exponents": True,
            "n": len(recurrent),
            "ratio": shared.ratio,
            "ratio_interval": list(shared.ratio_interval),
            "ratios": dict(zip([point["key"] for point in recurrent], shared.ratios, strict=True)),
            "compute_multiplier": shared.compute_multiplier,
            "compute_multiplier_interval": list(shared.compute_multiplier_interval),
        }
    return {
        "count": params.count,
        "level": params.level,
        "noise": params.prior.noise,
        "prior": params.prior.model_dump(),
        "transformer": describe([point["key"] for point in transformers], law, draws, params.level),
        "lstm": compared,
        "withheld": withheld_error(transformers, params, seed),
        "isoflop": {
            "a": valley.a,
            "b": valley.b,
            "reason": valley.reason,
            "minima": [asdict(minimum) for minimum in valley.minima],
        },
        "points": list(points),
    }


def main() -> None:
    with stage("scaling.fit", FitParams, seed="run.seed") as run:
        keys = run.section("scaling.points", Points).names()
        points = [run.read_json(f"{LADDER}/{key}/point.json") | {"key": key} for key in keys]
        result = analyse(points, run.params, run.seed)
        run.write_json("fit.json", result)
        law = result["transformer"]
        numbers = {name: law[name] for name in ("A", "B", "E", "alpha", "beta", "a", "residual_rms")}
        if result["withheld"]["mean_abs_error"] is not None:
            numbers["withheld_error"] = result["withheld"]["mean_abs_error"]
        if result["lstm"]:
            numbers["lstm_compute_multiplier"] = result["lstm"]["compute_multiplier"]
        run.write_json("metrics.json", numbers)


if __name__ == "__main__":
    main()
