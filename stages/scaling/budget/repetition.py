"""What repeated tokens are worth (Muennighoff et al. 2023, "Scaling Data-Constrained Language Models", equation 5)."""

from dataclasses import dataclass

import numpy as np

from stages.base.contracts.pack import Pack
from stages.base.errors import InputError

DATA_DECAY = 15.387756  # R*_D of appendix A, fitted on 182 runs of 7 M to 9 B parameters, 1 to 500 epochs
BISECTIONS = 100
MOST_PASSES = 1e6


def worth(unique: np.ndarray | float, total: np.ndarray | float, decay: float) -> np.ndarray:
    """U + U·R*·(1 - exp(-R/R*)) with R = total/unique - 1: what `total`, of which `unique` differ, is worth in fresh
    ones. No more than U·(1 + R*), however often they are repeated; all of `total` where nothing is repeated.
    """
    u, seen = np.asarray(unique, dtype=np.float64), np.asarray(total, dtype=np.float64)
    repeats = np.maximum(seen / u - 1, 0.0)
    return np.minimum(seen, u) - u * decay * np.expm1(-repeats / decay)


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
    def of(cls, pack: Pack, decay: float) -> "Stream":
        """Of pack.json. Raises InputError if it doesn't say which sources the stream is made of."""
        sources = tuple((row.tokens, row.unique_tokens) for _, row in sorted(pack.train.sources.items()))
        if not sources or any(not 0 < unique <= seen for seen, unique in sources):
            raise InputError("data/tokens/pack/pack.json: sources of `train` without tokens; run tokens.pack again")
        return cls(float(pack.train.rows * pack.seq_len), sources, decay)

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
