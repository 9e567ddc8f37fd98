"""Epochs that give a mixture's parts the shares asked for (the mixture weights of Raffel et al. 2020, section 3.4)."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from stages.base.errors import ParamError


class Group(NamedTuple):
    """Training documents of one source and domain."""

    source: str
    domain: str


def fill(epochs: Sequence[float], sizes: Sequence[int], target: float, cap: float) -> list[float]:
    """Epochs in the proportions given, none above `cap`, whose reading (epochs × size) comes to `target`.

    Where even `cap` for all is less than the target, that is what all get.
    """
    filled = [0.0] * len(epochs)
    remaining = target
    open_parts = sorted(range(len(epochs)), key=lambda part: epochs[part])
    while open_parts:
        reading = sum(epochs[part] * sizes[part] for part in open_parts)
        factor = remaining / reading if reading else 0.0
        if epochs[open_parts[-1]] * factor <= cap:
            for part in open_parts:
                filled[part] = epochs[part] * factor
            break
        full = open_parts.pop()  # the part of most epochs meets the cap first
        filled[full] = cap
        remaining -= cap * sizes[full]
    return filled


def balance(
    epochs: Mapping[Group, float], sizes: Mapping[Group, int], shares: Mapping[str, float], cap: float
) -> dict[Group, float]:
    """Epochs of each group, `cap` at most, scaled so that the domains in `shares` have those shares of the bytes read.

    The whole reading stays what it is without shares, and the other domains divide the rest as before. A domain that
    would have to be read more than `cap` times falls short. Raises ParamError for a domain without training
    text, and for shares below 1 that leave no domain for the rest.
    """
    epochs = {group: min(value, cap) for group, value in epochs.items()}
    if not shares:
        return epochs
    groups = sorted(group for group in epochs if epochs[group] * sizes[group] > 0)
    total = sum(epochs[group] * sizes[group] for group in groups)
    present = sorted({group.domain for group in groups})
    for domain in sorted(set(shares) - set(present)):
        raise ParamError(
            f"params.yaml: `corpus.mix.shares.{domain}`: no training text has this domain; "
            f"there are {', '.join(present)}"
        )
    rest = max(0.0, 1.0 - sum(shares.values()))
    if set(present) <= set(shares) and rest > 1e-6:
        raise ParamError(
            f"params.yaml: `corpus.mix.shares` names every domain and comes to {1 - rest:g}: raise the shares to 1, or "
            "leave a domain out"
        )
    parts = [([group for group in groups if group.domain == name], share) for name, share in sorted(shares.items())]
    parts.append(([group for group in groups if group.domain not in shares], rest))
    # A group without training text has no share to fill, but documents that validate.
    result = {group: 0.0 if sizes[group] else value for group, value in epochs.items()}
    for members, share in parts:
        filled = fill([epochs[one] for one in members], [sizes[one] for one in members], share * total, cap)
        result |= dict(zip(members, filled, strict=True))
    return result


def reached(epochs: Mapping[Group, float], sizes: Mapping[Group, int]) -> dict[str, float]:
    """Each domain's share of the bytes read."""
    reading: dict[str, float] = {}
    for group in sorted(epochs):
        reading[group.domain] = reading.get(group.domain, 0.0) + float(np.float32(epochs[group])) * sizes[group]
    total = sum(reading.values())
    return {domain: bytes_read / total if total else 0.0 for domain, bytes_read in reading.items()}
