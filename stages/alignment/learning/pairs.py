"""Preferences as pairs of exchanges, some held out from training."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from stages.alignment.data.records import Preference
from stages.alignment.learning.batches import Exchange, encode_exchange
from stages.base.errors import InputError
from stages.base.seeds import derive
from stages.lm.chat import ChatTokenizer


@dataclass(frozen=True)
class Pair:
    chosen: Exchange
    rejected: Exchange

    @property
    def same(self) -> bool:
        """Whether nothing can be learned: both answers are the same tokens."""
        return self.chosen.ids == self.rejected.ids

    @property
    def sides(self) -> tuple[Exchange, Exchange]:
        return self.chosen, self.rejected

    def __len__(self) -> int:
        return max(map(len, self.sides))


def that_fit(tokenizer: ChatTokenizer, preferences: Sequence[Preference], max_length: int) -> list[Preference]:
    """Those of which both exchanges have room in the model's context."""

    def fits(row: Preference, text: str) -> bool:
        return len(tokenizer.encode_example(row.asked, text)[0]) <= max_length

    return [row for row in preferences if fits(row, row.chosen) and fits(row, row.rejected)]


def encode_pairs(tokenizer: ChatTokenizer, preferences: Sequence[Preference], max_length: int) -> list[Pair]:
    """Raises InputError for an exchange longer than the model's context."""
    return [
        Pair(
            encode_exchange(tokenizer, row.asked, row.chosen, max_length),
            encode_exchange(tokenizer, row.asked, row.rejected, max_length),
        )
        for row in preferences
    ]


def hold_out(prompts: Sequence[str], share: float, seed: int) -> tuple[list[int], list[int]]:
    """Places of the pairs to train on, and of those of about `share` of the prompts, held out: all pairs of a prompt
    fall on one side, and on each side falls one. Raises InputError for a single prompt."""
    rank = {prompt: derive(seed, "held_out", prompt) / 2**63 for prompt in prompts}
    if len(rank) < 2:
        raise InputError(f"preferences: {len(rank)} prompt, of which none can be held out; add pairs of others")
    ordered = sorted(rank, key=rank.__getitem__)
    away = {prompt for prompt in ordered[1:-1] if rank[prompt] < share} | {ordered[0]}
    places = range(len(prompts))
    return [n for n in places if prompts[n] not in away], [n for n in places if prompts[n] in away]


def accuracy(margins: Sequence[float]) -> float:
    """Share of the pairs whose chosen answer is ahead; a draw is half of one."""
    return fmean(0.5 if margin == 0 else float(margin > 0) for margin in margins)
