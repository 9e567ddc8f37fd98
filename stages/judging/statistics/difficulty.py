"""Instruction difficulty fitted on one's own models: one number an instruction, shared by all models.

AlpacaEval's difficulties come from a joint regression over all models of its leaderboard (notebook
`instruction_difficulty`): logit P(m wins on i) = w_m · tanh(Δ_mi / std(Δ_m)) + b_m + γ_i. Here γ has a normal prior
where the notebook has an L1 penalty at a cross-validated C; it is what makes few models safe.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from stages.base.errors import InputError
from stages.judging.statistics.length_design import prepare
from stages.judging.statistics.logistic import SEPARATION_RIDGE, sigmoid

PRIOR_PRECISION = 1.0  # of γ, in 1/logit²


def fit_difficulty(annotations: Mapping[str, Any], prior_precision: float = PRIOR_PRECISION) -> dict[str, np.ndarray]:
    """Columns instruction_index and instruction_difficulty (mean 0), as `length_control.fit` takes them.

    annotations: model → its rows, as for `length_control.fit`; models may lack instructions.

    A length weight and a bias a model and a number an instruction are fitted together by Newton steps; the
    instructions' block of the Hessian is diagonal, so a step costs models³ + models² · instructions. A model against
    itself says nothing and is left out. Raises InputError for fewer than 2 models.
    """
    designs = [design for rows in annotations.values() if not (design := prepare(rows)).by_definition]
    if len(designs) < 2:
        raise InputError(f"difficulty: {len(designs)} models; at least 2 are needed to tell instructions from models")
    index = np.unique(np.concatenate([design.index for design in designs]))
    m, n = len(designs), len(index)
    x, y, there = np.zeros((m, n)), np.zeros((m, n)), np.zeros((m, n))
    for k, design in enumerate(designs):
        place = np.searchsorted(index, design.index)
        x[k, place], y[k, place], there[k, place] = design.x[:, 0], design.y, 1.0

    weight, bias, gamma = np.zeros(m), np.zeros(m), np.zeros(n)
    for _ in range(200):
        p = sigmoid(weight[:, None] * x + bias[:, None] + gamma)
        residual, v = there * (y - p), there * p * (1 - p)
        on_models = np.concatenate([(residual * x).sum(1), residual.sum(1)]) - SEPARATION_RIDGE * np.r_[weight, bias]
        on_instructions = residual.sum(0) - prior_precision * gamma
        diagonal = v.sum(0) + prior_precision
        cross = np.vstack([v * x, v])  # [2m, n]
        models = np.diag(np.concatenate([(v * x * x).sum(1), v.sum(1)]) + SEPARATION_RIDGE)
        rows = np.arange(m)
        models[rows, m + rows] = models[m + rows, rows] = (v * x).sum(1)
        schur = models - (cross / diagonal) @ cross.T
        step = np.linalg.solve(schur, on_models - (cross / diagonal) @ on_instructions)
        step_instructions = (on_instructions - cross.T @ step) / diagonal
        largest = max(np.abs(step).max(), np.abs(step_instructions).max())
        scale = min(1.0, 2 / largest) if largest > 0 else 1.0
        weight, bias = weight + scale * step[:m], bias + scale * step[m:]
        gamma = gamma + scale * step_instructions
        if largest < 1e-8:
            return {"instruction_index": index, "instruction_difficulty": gamma - gamma.mean()}
    raise InputError("difficulty: the joint fit doesn't converge; look for extreme preferences")
