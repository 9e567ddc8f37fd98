"""Learning-rate multipliers: pure functions of the step."""

import math


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
