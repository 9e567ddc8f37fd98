"""Low-rank adaptation (Hu et al. 2021): frozen matrices, and beside each a product of two thin ones that is learned.

A model with adapters is used as before: to generate and to be written, its matrices are the merged ones.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.base.errors import ParamError
from stages.lm.transformer import Block, Decoder


class LoraLinear(nn.Module):
    """x → x Wᵀ + scale · (x Aᵀ) Bᵀ, where W [out, in] is frozen.

    A [rank, in] is random and B [out, rank] zero at first, so that nothing changes before the first step (section 4.1).
    """

    def __init__(self, linear: nn.Linear, rank: int, alpha: float, generator: torch.Generator) -> None:
        super().__init__()
        self.linear, self.scale = linear, alpha / rank
        size = linear.in_features
        down = torch.empty(rank, size).uniform_(-(size**-0.5), size**-0.5, generator=generator)
        self.down = nn.Parameter(down.to(linear.weight.device))
        self.up = nn.Parameter(torch.zeros(linear.out_features, rank, device=linear.weight.device))

    @property
    def weight(self) -> Tensor:
        """The merged matrix."""
        return self.linear.weight + self.scale * (self.up @ self.down)

    @property
    def bias(self) -> Tensor | None:
        return self.linear.bias

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) + self.scale * F.linear(F.linear(x, self.down), self.up)


MATRICES = (("self_attn", "qkv_proj"), ("self_attn", "o_proj"), ("mlp", "gate_up_proj"), ("mlp", "down_proj"))


def adapt(model: nn.Module, rank: int, alpha: float, seed: int) -> None:
    """Freeze all weights of a decoder and give each matrix of its blocks an adapter, all of them to be learned.

    Raises ParamError for a model without such matrices.
    """
    if not isinstance(model, Decoder):
        raise ParamError("low-rank adapters are for transformers; tune this model whole (`lora: null`)")
    generator = torch.Generator().manual_seed(seed % 2**63)
    model.requires_grad_(False)
    for block in model.layers:
        for part, name in MATRICES:
            home = getattr(block, part)
            setattr(home, name, LoraLinear(getattr(home, name), rank, alpha, generator))


def merge(model: nn.Module) -> None:
    """Fold the adapters into their matrices: a plain model again, all of it trainable."""
    for block in getattr(model, "layers", ()):
        for part, name in MATRICES if isinstance(block, Block) else ():
            adapter = getattr(getattr(block, part), name)
            if isinstance(adapter, LoraLinear):
                splits = getattr(adapter.linear.weight, "splits", None)
                with torch.no_grad():
                    adapter.linear.weight.copy_(adapter.weight)
                if splits is not None:
                    adapter.linear.weight.splits = splits  # type: ignore[attr-defined]
                setattr(getattr(block, part), name, adapter.linear)
    model.requires_grad_(True)
