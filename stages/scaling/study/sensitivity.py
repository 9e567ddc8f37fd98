"""How much a law's conclusions owe to choices: Huber's δ, the estimator, outliers, which parameters N counts."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from stages.base.errors import InputError
from stages.base.progress import Progress
from stages.scaling.laws.parametric import ParametricFit, Prior, fit_parametric
from stages.scaling.laws.runs import Runs

DELTAS = (1e-4, 1e-3, 1e-2, 1e-1)
TRIMMED = 0.02  # share of the runs left out as outliers


@dataclass(frozen=True)
class Variant:
    """One other way to fit the same runs; `fit` None where it couldn't be, for `reason`."""

    name: str
    n: int
    fit: ParametricFit | None
    reason: str = ""


def variants(
    runs: Runs, fit: ParametricFit, prior: Prior | None, non_embedding: np.ndarray | None = None
) -> list[Variant]:
    """The fit itself first, then each choice changed alone. `non_embedding`: N of the other convention.

    With a prior, δ stays above its noise: below, the prior outweighs the runs, and the fit would say what it says.
    """
    found = []
    with Progress(None, "refitting the law", unit="variants") as bar:
        for variant in _variants(runs, fit, prior, non_embedding):
            found.append(variant)
            bar.advance()
    return found


def _variants(
    runs: Runs, fit: ParametricFit, prior: Prior | None, non_embedding: np.ndarray | None
) -> Iterator[Variant]:
    yield Variant(f"as fitted (δ = {fit.delta:g})", fit.n, fit)
    for delta in DELTAS:
        if not np.isclose(delta, fit.delta) and (prior is None or delta > prior.noise):
            yield _refit(f"δ = {delta:g}", runs, prior, huber_delta=delta)
    if prior is None:
        yield _refit("least absolute deviations", runs, prior, huber_delta=fit.delta, estimator="lad")
    yield _refit("residuals in nats, not in log loss", runs, prior, huber_delta=fit.delta, residual="linear")
    out = max(1, round(TRIMMED * runs.loss.size))
    highest, largest = (
        ("highest loss", "largest residual") if out == 1 else (f"{out} highest losses", f"{out} largest residuals")
    )
    for name, badness in ((f"without the {highest}", runs.loss), (f"without the {largest}", np.abs(fit.residuals))):
        kept = np.sort(np.argsort(badness, kind="stable")[:-out])
        yield _refit(name, Runs(*(column[kept] for column in runs)), prior, huber_delta=fit.delta)
    if non_embedding is not None:
        yield _refit("N without embeddings", runs._replace(first=non_embedding), prior, huber_delta=fit.delta)


def _refit(name: str, runs: Runs, prior: Prior | None, **options: object) -> Variant:
    try:
        fit = fit_parametric(*runs, prior=prior, **options)  # type: ignore[arg-type]
    except InputError as error:
        return Variant(name, runs.loss.size, None, str(error))
    return Variant(name, runs.loss.size, fit)
