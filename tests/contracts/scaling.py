"""The ladder's points, the fit and the study, of runs that lie on a known law with a little noise."""

from functools import cache
from typing import Any

import numpy as np

from stages.base.contracts.fit import Fit
from stages.base.contracts.point import Point
from stages.base.contracts.study import Study
from stages.base.recipe import Recipe
from stages.scaling.fit import FitParams, analyse
from stages.scaling.laws.law import Law

LAW = Law(60.0, 2000.0, 1.5, 0.33, 0.5)
LSTM_RATIO = 1.25
SHAPES = ((1.5e5, 1.2e5), (1.5e5, 4e5), (3e5, 2.5e5), (3e5, 8e5), (5e5, 1.5e5), (5e5, 4e5), (1e6, 2e5))
RECIPE = Recipe(
    optimizer="muon", lr=0.02, shares={"embedding": 20.0, "head": 1.2, "rest": 0.5}, betas=[0.8, 0.95],
    weight_decay=0.0, clip=1.0, batch_tokens=2048, micro_rows=4, warmup_steps=10, cooldown=0.25,
    min_cooldown_steps=20, precision="fp32", document_mask=False, z_loss=0.0, compile="off", rope_theta=1e4,
    tie_embeddings=False, qk_norm=True, norm_eps=1e-6,
)  # fmt: skip


def point(**changes: Any) -> Point:
    values = {
        "key": "w64", "arch": "transformer", "n_params": 300_000, "n_nonembedding": 150_000, "tokens": 250_000,
        "flops": 4.5e11, "loss": 4.0, "bpb": 1.6, "train_loss": 4.0, "lr": RECIPE.lr, "steps": 122, "model": {},
        "recipe": RECIPE,
    }  # fmt: skip
    return Point.model_validate(values | changes)


def points(noise: float = 0.005, seed: int = 0) -> list[Point]:
    """Seven Transformers and three LSTMs, whose loss above the floor is LSTM_RATIO times as high."""
    rng = np.random.default_rng(seed)
    found = []
    for arch, ratio, shapes in (("transformer", 1.0, SHAPES), ("lstm", LSTM_RATIO, SHAPES[:3])):
        for n, d in shapes:
            clean = LAW.E + ratio * (float(LAW.predict(n, d)) - LAW.E)
            loss = clean * float(np.exp(noise * rng.standard_normal()))
            found.append(
                point(
                    key=f"{arch}_{n:.0f}_{d:.0f}", arch=arch, n_params=int(n), n_nonembedding=int(n / 2),
                    tokens=int(d), flops=6 * n * d, loss=loss, bpb=loss * 0.4,
                )
            )  # fmt: skip
    return found


def fit_params(**changes: Any) -> FitParams:
    normal = {"mean": 0.35, "sd": 0.1}
    values = {
        "huber_delta": 0.02,
        "count": "total",
        "prior": {"alpha": normal, "beta": normal, "log_E": {"mean": 0.4, "sd": 0.4}, "noise": 0.01},
        "draws": 100,
        "level": 0.9,
        "withhold": 1,
    }
    return FitParams.model_validate(values | changes)


@cache
def _analysed() -> tuple[Fit, Study]:
    return analyse(points(), fit_params(), seed=1)


def fit(**changes: Any) -> Fit:
    return _analysed()[0].model_copy(update=changes)


def study(**changes: Any) -> Study:
    """Of seven Transformers and three LSTMs."""
    return _analysed()[1].model_copy(update=changes)
