"""Sequences of different lengths laid end to end in one row: no padding, and what several begin with is read once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class Segment(NamedTuple):
    """Tokens `start` … `end` of a row. Each sees the row's tokens `prefix_start` … `prefix_end`, which stand before it,
    and those of its own segment up to itself; nothing else."""

    start: int
    end: int
    prefix_start: int = 0
    prefix_end: int = 0

    @property
    def prefix(self) -> int:
        return self.prefix_end - self.prefix_start


@dataclass(frozen=True)
class Layout:
    """How a row of T tokens is to be read: its segments cover it, in order.

    A segment's prefix is a whole segment without a prefix of its own: the beginning that several sequences share.
    """

    segments: tuple[Segment, ...]
    positions: Tensor  # [T] of each token in its sequence

    @classmethod
    def of(cls, segments: Sequence[Segment], device: torch.device | None = None) -> "Layout":
        places = [torch.arange(one.prefix, one.prefix + one.end - one.start, device=device) for one in segments]
        return cls(tuple(segments), torch.cat(places))

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence."""
        return max(one.prefix + one.end - one.start for one in self.segments)
