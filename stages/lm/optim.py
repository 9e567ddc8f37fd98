"""Muon for the matrices of the blocks, AdamW for everything else, in one optimizer with one state.

Muon (Jordan et al. 2024): the momentum of a matrix is replaced by the nearest semi-orthogonal matrix, approximated by
four Newton–Schulz steps. AdamW: Loshchilov & Hutter 2019.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from stages.lm.build import LanguageModel
from stages.lm.device import compute_dtype
from stages.lm.distributed import local, rank, rows_of, strategy
from stages.lm.owners import from_owners, to_owners
from stages.lm.rates import Kind, Rates, transferred

if TYPE_CHECKING:
    from stages.base.recipe import Recipe

# The first, third, fourth and fifth step of Amsel et al. 2025, "The Polar Express" (published for five). They take
# singular values from .01 to 1 into .86 to 1.14; Jordan et al.'s fixed quintic needs five steps for .68 to 1.13.
_POLYNOMIALS = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)


def orthogonalise(matrices: Tensor) -> Tensor:
    """Newton–Schulz: UVᵀ of each matrix [..., m, n] = USVᵀ, but with singular values of .86 to 1.14 where S / |matrix|
    was over .01.
    """
    x = matrices.to(compute_dtype(matrices))
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (1.01 * x.norm(dim=(-2, -1), keepdim=True) + 1e-7).to(x.dtype)  # autocast takes norms in fp32
    for a, b, c in _POLYNOMIALS:
        gram = x @ x.mT
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return (x.mT if tall else x).to(matrices.dtype)


class MuonAdamW(torch.optim.Optimizer):
    """Groups carry kind "muon" or "adamw"; `lr` is the group's own. All state is tensors, so it resumes bitwise."""

    # Wrapped, they load torch's compiler, only to tell it to leave them alone: a second and more of each start.
    add_param_group = torch.optim.Optimizer.add_param_group.__wrapped__  # type: ignore[attr-defined]
    zero_grad = torch.optim.Optimizer.zero_grad.__wrapped__  # type: ignore[attr-defined]
    state_dict = torch.optim.Optimizer.state_dict.__wrapped__  # type: ignore[attr-defined]
    load_state_dict = torch.optim.Optimizer.load_state_dict.__wrapped__  # type: ignore[attr-defined]

    def __init__(self, groups: list[dict[str, Any]]) -> None:
        # By "fused" torch knows that a loaded `step` belongs on the parameter's device.
        defaults = {"lr": 0.0, "weight_decay": 0.0, "momentum": 0.95, "betas": (0.9, 0.95), "eps": 1e-10, "fused": True}
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
        updates, shapes = [], [parameter.shape for parameter in parameters]
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["momentum"] = torch.zeros_like(parameter)
            assert parameter.grad is not None
            buffer, gradient = local(state["momentum"]), local(parameter.grad)
            buffer.lerp_(gradient, 1.0 - group["momentum"])
            updates.append(gradient.lerp(buffer, group["momentum"]))  # Nesterov
        matrices = to_owners(updates, shapes)
        by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
        for index, matrix in matrices.items():
            for part in matrix.split(_splits(parameters[index])):
                by_shape[part.shape].append(part)
        for parts in by_shape.values():
            torch._foreach_copy_(parts, list(orthogonalise(torch.stack(parts)).unbind()))
        by_scale: dict[float, tuple[list[Tensor], list[Tensor]]] = defaultdict(lambda: ([], []))
        for parameter, update in zip(parameters, from_owners(matrices, updates, shapes), strict=True):
            held = local(parameter)
            if group["weight_decay"]:
                held.mul_(1.0 - group["lr"] * group["weight_decay"])
            for rows, scale in _held_parts(parameter):
                targets, values = by_scale[scale]
                targets.append(held[rows])
                values.append(update[rows])
        for scale, (targets, values) in by_scale.items():
            torch._foreach_add_(targets, values, alpha=-group["lr"] * scale)

    def _adamw(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        held, gradients, means, squares, steps = [], [], [], [], []
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["step"] = torch.zeros((), device=parameter.device)
                state["mean"], state["square"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
            assert parameter.grad is not None
            held.append(local(parameter))
            gradients.append(local(parameter.grad))
            means.append(local(state["mean"]))
            squares.append(local(state["square"]))
            steps.append(state["step"])
        first_beta, second_beta = group["betas"]
        # Fused: one pass over memory instead of five.
        adamw(
            held, gradients, means, squares, [], steps, fused=True, amsgrad=False, beta1=first_beta, beta2=second_beta,
            lr=group["lr"], weight_decay=group["weight_decay"], eps=group["eps"], maximize=False,
        )  # fmt: skip


def _splits(parameter: Tensor) -> tuple[int, ...]:
    """Rows of each matrix that a fused one is made of."""
    return getattr(parameter, "splits", (parameter.shape[0],))


def _held_parts(parameter: Tensor) -> Iterator[tuple[slice, float]]:
    """Of each part of a fused matrix, the rows that this process holds, counted from its first, and the update's scale
    √max(1, rows / columns) of the whole part.
    """
    first, last = rows_of(parameter.shape[0], rank()) if strategy() == "fsdp" else (0, parameter.shape[0])
    start = 0
    for rows in _splits(parameter):
        low, high = max(start, first), min(start + rows, last)
        if low < high:
            yield slice(low - first, high - first), max(1.0, rows / parameter.shape[1]) ** 0.5
        start += rows


def build_optimizer(
    model: nn.Module,
    rates: float | Rates,
    *,
    kind: Kind = "muon",
    weight_decay: float = 0.0,
    betas: tuple[float, float] = (0.9, 0.95),
) -> MuonAdamW:
    """Optimizer over all trainable parameters of `model`, at `rates` (a number: the same for all).

    kind "muon": block matrices by Muon, everything else by AdamW. kind "adamw": all by AdamW. Weight decay applies to
    matrices of the blocks only. Each group keeps its peak in "peak_lr" for the schedule.
    """
    peaks = rates if isinstance(rates, Rates) else Rates.uniform(rates)
    members: dict[str, list[Tensor]] = {"matrices": [], "embedding": [], "head": [], "rest": []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            members[_group(name, parameter)].append(parameter)
    groups: list[dict[str, Any]] = []
    for name, parameters in members.items():
        if parameters:
            own = {"params": parameters, "kind": "adamw", "weight_decay": 0.0, "betas": betas}
            if name == "matrices":
                own |= {"kind": kind, "weight_decay": weight_decay}
            peak = getattr(peaks, name)
            groups.append(own | {"lr": peak, "peak_lr": peak})
    return MuonAdamW(groups)


def _group(name: str, parameter: Tensor) -> str:
    if name.endswith("embed_tokens.weight"):
        return "embedding"
    if name.endswith("lm_head.weight"):
        return "head"
    inside = parameter.ndim == 2 and ("layers." in name or "lstm." in name) and "_norm" not in name
    return "matrices" if inside else "rest"


def set_lr(optimizer: torch.optim.Optimizer, multiplier: float) -> float:
    """Set every group to multiplier × its peak; returns the first group's rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * multiplier
    return optimizer.param_groups[0]["lr"]


def optimizer_for(model: LanguageModel, recipe: "Recipe", lr: float) -> MuonAdamW:
    """Of a ladder's point, and of the run it predicts. lr: of the matrices, at width 128."""
    config = model.config
    rates = transferred(lr, recipe.shares, recipe.optimizer, config.d_model, config.tie_embeddings)
    betas = (recipe.betas[0], recipe.betas[1])
    return build_optimizer(model, rates, kind=recipe.optimizer, weight_decay=recipe.weight_decay, betas=betas)
