"""Peak learning rates of a model's groups of weights, and how they carry over to other widths."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from stages.base.recipe import RateShares

WIDTH = 128  # at which a recipe states its rates

Kind = Literal["muon", "adamw"]


@dataclass(frozen=True)
class Rates:
    """matrices: of the blocks, by Muon or AdamW. The others, by AdamW: embedding (tied or not), head (untied), and
    rest (norms, biases, value heads).
    """

    matrices: float
    embedding: float
    head: float
    rest: float

    @classmethod
    def uniform(cls, matrices: float, others: float | None = None) -> "Rates":
        """One rate for everything that isn't a matrix of the blocks: `others`, or the same."""
        rate = matrices if others is None else others
        return cls(matrices, rate, rate, rate)


def transferred(lr: float, shares: "RateShares", kind: Kind, width: int, tied: bool) -> Rates:
    """Rates at `width` from those at 128, so that a step changes activations as much at any width (Yang et al. 2021,
    table 8: by Adam, weights that sum over the width ∝ 1 / width, those that don't at a constant rate). Muon's updates
    have unit spectral norm at any width. A tied embedding is a head, too, and takes the head's rule, but its logits
    still change more the wider the model: rates carry over where embeddings are untied.
    """
    narrower = WIDTH / width
    return Rates(
        matrices=lr if kind == "muon" else lr * narrower,
        embedding=lr * shares.embedding * (narrower if tied else 1.0),
        head=lr * shares.head * narrower,
        rest=lr * shares.rest,
    )


def wsd(step: int, total: int, warmup: int, cooldown: int, floor: float = 0.0) -> float:
    """Warm-up, stable, decay (Hu et al. 2024, MiniCPM): the multiplier for step 0 .. total - 1.

    Linear up over `warmup` steps, 1, then linearly towards `floor` over the last `cooldown` steps. Before the cooldown
    the schedule doesn't depend on `total`: one trunk serves many cooldowns.
    """
    rise = (step + 1) / (warmup + 1) if step < warmup else 1.0
    left = total - step
    fall = floor + (1.0 - floor) * left / (cooldown + 1) if left <= cooldown else 1.0
    return min(rise, fall)


def cosine(step: int, total: int, warmup: int, floor: float = 0.0) -> float:
    """Linear warm-up, then half a cosine from 1 to `floor` (Loshchilov & Hutter 2017)."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(total - warmup, 1)
    return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * progress))
