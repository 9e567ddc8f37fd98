"""The packed training stream: how often a run of so many tokens reads each source, and what those tokens are worth."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.base.errors import InputError
from stages.scaling.repetition import DATA_DECAY, worth

BISECTIONS = 100
MOST_PASSES = 1e6


@dataclass(frozen=True)
class Stream:
    """`tokens`: of one pass. `sources`: (tokens in one pass, different ones among them) of each source.

    A law fitted on the head of the stream holds the price of what repeats within one pass, so only further passes are
    discounted, each source by how often it has been read by then.
    """

    tokens: float
    sources: tuple[tuple[float, float], ...]
    decay: float = DATA_DECAY

    @classmethod
    def of(cls, pack: Mapping[str, Any], decay: float) -> "Stream":
        """Of pack.json. Raises InputError if it doesn't say which sources the stream is made of."""
        sources = tuple((row["tokens"], row["unique_tokens"]) for _, row in sorted(pack["train"]["sources"].items()))
        if not sources or any(not 0 < unique <= seen for seen, unique in sources):
            raise InputError("data/tokens/pack/pack.json: sources of `train` without tokens; run tokens.pack again")
        return cls(float(pack["train"]["rows"] * pack["seq_len"]), sources, decay)

    @property
    def unique(self) -> float:
        return sum(unique for _, unique in self.sources)

    def scaled(self, factor: float) -> "Stream":
        """So many times as much different data, in the same proportions."""
        sources = tuple((seen * factor, unique * factor) for seen, unique in self.sources)
        return Stream(self.tokens * factor, sources, self.decay)

    def fresh(self, total: np.ndarray | float) -> np.ndarray:
        """What `total` tokens read are worth, in tokens of the first pass."""
        read = np.asarray(total, dtype=np.float64)
        passes = np.maximum(read / self.tokens, 1.0)
        one_pass = sum(seen for seen, _ in self.sources)
        gained = sum(
            seen / one_pass * worth(unique, passes * seen, self.decay) / worth(unique, seen, self.decay)
            for seen, unique in self.sources
        )
        return np.minimum(read, self.tokens) * gained

    def read(self, fresh: np.ndarray | float) -> np.ndarray:
        """Tokens to read that are worth so many fresh ones; infinite where repeating the stream can't reach that."""
        wanted = np.asarray(fresh, dtype=np.float64)
        low, high = np.log(np.minimum(wanted, self.tokens)), np.full(wanted.shape, np.log(self.tokens * MOST_PASSES))
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            enough = self.fresh(np.exp(middle)) >= wanted
            low, high = np.where(enough, low, middle), np.where(enough, middle, high)
        reachable = self.fresh(np.full(wanted.shape, self.tokens * MOST_PASSES)) >= wanted
        return np.where(wanted <= self.tokens, wanted, np.where(reachable, np.exp(high), np.inf))
