"""Muon for the matrices of the blocks, AdamW for everything else, in one optimizer with one state.

Muon (Jordan et al. 2024): the momentum of a matrix is replaced by the nearest semi-orthogonal matrix, approximated by
five Newton–Schulz steps. AdamW: Loshchilov & Hutter 2019.
"""

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn

_QUINTIC = (
    3.4445,
    -4.7750,
    2.0315,
)  # Jordan et al. 2024: the steepest slope at zero


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """Newton–Schulz: UVᵀ of each matrix [..., m, n] = USVᵀ, with singular values between about .7 and 1.2."""
    a, b, c = _QUINTIC
    x = matrices.bfloat16() if matrices.is_cuda else matrices.float()
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return (x.mT if tall else x).to(matrices.dtype)


class MuonAdamW(torch.optim.Optimizer):
    """Groups carry kind "muon" or "adamw"; `lr` is the group's own. All state is tensors, so it resumes bitwise."""

    def __init__(self, groups: list[dict[str, Any]]) -> None:
        defaults = {"lr": 0.0, "weight_decay": 0.0, "momentum": 0.95, "betas": (0.9, 0.95), "eps": 1e-10}
        super().__init__(groups, defaults)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if parameters and group["kind"] == "muon":
                self._muon(group, parameters)
            elif parameters:
                self._adamw(group, parameters)

    def _muon(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        by_shape: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["momentum"] = torch.zeros_like(parameter)
            buffer, gradient = state["momentum"], parameter.grad
            assert gradient is not None
            buffer.lerp_(gradient, 1.0 - group["momentum"])
            update = gradient.lerp(buffer, group["momentum"])  # Nesterov
            splits = getattr(parameter, "splits", (parameter.shape[0],))
            for block, part in zip(parameter.split(splits), update.split(splits), strict=True):
                by_shape[tuple(part.shape)].append((block, part))
            if group["weight_decay"]:
                parameter.mul_(1.0 - group["lr"] * group["weight_decay"])
        for (rows, columns), blocks in by_shape.items():
            updates = orthogonalise(torch.stack([part for _, part in blocks]))
            scale = max(1.0, rows / columns) ** 0.5
            torch._foreach_add_([block for block, _ in blocks], list(updates.unbind()), alpha=-group["lr"] * scale)

    def _adamw(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        first_beta, second_beta = group["betas"]
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["step"] = torch.zeros((), dtype=torch.float64)
                state["mean"], state["square"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
            state["step"] += 1
            count = state["step"].item()
            gradient = parameter.grad
            assert gradient is not None
            state["mean"].lerp_(gradient, 1.0 - first_beta)
            state["square"].mul_(second_beta).addcmul_(gradient, gradient, value=1.0 - second_beta)
            if group["weight_decay"]:
                parameter.mul_(1.0 - group["lr"] * group["weight_decay"])
            scale = (1.0 - second_beta**count) ** 0.5
            denominator = state["square"].sqrt().div_(scale).add_(group["eps"])
            parameter.addcdiv_(state["mean"], denominator, value=-group["lr"] / (1.0 - first_beta**count))


def build_optimizer(
    model: nn.Module,
    lr: float,
    *,
    kind: str = "muon",
    adam_lr: float | None = None,
    weight_decay: float = 0.0,
    betas: tuple[float, float] = (0.9, 0.95),
) -> MuonAdamW:
    """Optimizer over all trainable parameters of `model`.

    kind "muon": block matrices by Muon at `lr`, everything else (embedding, head, norms, biases, value heads) by AdamW
    at `adam_lr` (default lr / 2; a good pair for small models is .02 and .01). kind "adamw": all by AdamW at `lr`.
    Weight decay applies to matrices of the blocks only. Each group keeps its peak in "peak_lr" for the schedule.
    """
    matrices: list[Tensor] = []
    rest: list[Tensor] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            inside = parameter.ndim == 2 and ("layers." in name or "lstm." in name) and "_norm" not in name
            (matrices if inside else rest).append(parameter)
    adam = lr if kind == "adamw" else (lr / 2 if adam_lr is None else adam_lr)
    groups: list[dict[str, Any]] = [
        {"params": matrices, "kind": kind, "lr": lr, "weight_decay": weight_decay, "betas": betas},
        {"params": rest, "kind": "adamw", "lr": adam, "weight_decay": 0.0, "betas": betas},
    ]
    groups = [group for group in groups if group["params"]]
    for group in groups:
        group["peak_lr"] = group["lr"]
    return MuonAdamW(groups)


def set_lr(optimizer: torch.optim.Optimizer, multiplier: float) -> float:
    """Set every group to multiplier × its peak; returns the first group's rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * multiplier
    return optimizer.param_groups[0]["lr"]
