"""Was a test set in the training data? A model that has read it prefers its examples in the published order.

Oren et al. 2023, "Proving Test Set Contamination in Black-Box Language Models", §3.2 (the sharded likelihood comparison
test). The examples must be exchangeable: published in an order that carries no information (seeded, or by hash). Sorted
examples look contaminated to any model that can read (`exchangeability.py` looks for that).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias, cast

import numpy as np
from scipy.special import stdtr

from stages.base.errors import InputError
from stages.base.seeds import derive
from stages.evaluation.perplexity import prefixed_windows
from stages.lm.build import LanguageModel
from stages.lm.chat import ChatTokenizer
from stages.lm.scoring import sequence_logprobs

Ordering: TypeAlias = Sequence[str]
One: TypeAlias = Callable[[Ordering], float]
Many: TypeAlias = Callable[[Sequence[Ordering]], Sequence[float]]


@dataclass(frozen=True)
class OrderingTest:
    """p_value: of "the canonical order is no likelier than others", one-sided; t with shards - 1 degrees of freedom.

    differences[i]: log p(shard i in canonical order) − mean over permutations of log p(shard i shuffled), in nats.
    """

    p_value: float
    t: float
    differences: tuple[float, ...]
    canonical: tuple[float, ...]
    shuffled: tuple[float, ...]
    permutations: int

    @property
    def shards(self) -> int:
        return len(self.differences)


def ordering_test(
    logprob: One | Many,
    examples: Sequence[str],
    shards: int,
    permutations: int,
    seed: int,
    *,
    batched: bool = False,
    blocks: Sequence[str] | None = None,
) -> OrderingTest:
    """Cut the examples into contiguous shards; in each, compare the given order with shuffled ones; t-test over shards.

    blocks[i] names the group of example i, in a file that is grouped (by subject): examples then change places only
    with neighbours of their own group.

    logprob(ordering) is the log-likelihood (nats) of the examples read in that order; with `batched` it takes a list of
    orderings (one shard's: canonical first) and returns a list. The variance has shards - 1 in the denominator; the
    authors' code divides by shards, which makes p slightly too small.

    Raises InputError if there are fewer than two shards of at least two examples, or no permutations.
    """
    if shards < 2 or permutations < 1 or len(examples) < 2 * shards:
        raise InputError(
            f"ordering test: {len(examples)} examples in {shards} shards with {permutations} permutations; it needs "
            "two shards, two examples in each, and a permutation"
        )
    many = cast(Many, logprob) if batched else one_by_one(cast(One, logprob))
    canonical, shuffled = [], []
    for index, places in enumerate(np.array_split(np.arange(len(examples)), shards)):
        shard = [examples[i] for i in places]
        rng = np.random.default_rng(derive(seed, "shard", index))
        own = None if blocks is None else [blocks[i] for i in places]
        orders = [shuffled_order(rng, len(shard), own) for _ in range(permutations)]
        values = many([shard, *([shard[i] for i in order] for order in orders)])
        canonical.append(float(values[0]))
        shuffled.append(float(np.mean(values[1:])))
    differences = np.array(canonical) - np.array(shuffled)
    t, p_value = one_sided_t(differences)
    return OrderingTest(p_value, t, tuple(differences.tolist()), tuple(canonical), tuple(shuffled), permutations)


def shuffled_order(rng: np.random.Generator, size: int, blocks: Sequence[str] | None) -> np.ndarray:
    """A random order of 0 .. size - 1; with `blocks` each stretch of equal ones is shuffled by itself."""
    if blocks is None:
        return rng.permutation(size)
    starts = [i for i in range(size) if i == 0 or blocks[i] != blocks[i - 1]]
    return np.concatenate([start + rng.permutation(end - start) for start, end in pairwise([*starts, size])])


def one_by_one(logprob: One) -> Many:
    return lambda orderings: [logprob(ordering) for ordering in orderings]


def one_sided_t(differences: np.ndarray) -> tuple[float, float]:
    """t and p of "the mean is not above zero"; equal differences decide by their sign, zeros say nothing (p = 1)."""
    mean, error = float(differences.mean()), float(differences.std(ddof=1)) / len(differences) ** 0.5
    if error == 0.0:
        return (float("inf"), 0.0) if mean > 0 else (float("-inf") if mean < 0 else 0.0, 1.0)
    t = mean / error
    return t, float(stdtr(len(differences) - 1, -t))


def model_logprob(model: LanguageModel, tokenizer: ChatTokenizer) -> Many:
    """A batched `logprob` for `ordering_test`: each example encoded by itself, so that every order has the same tokens,
    the orderings read in windows that overlap by half (as in the authors' code)."""
    limit = model.config.max_seq_len

    def logprob(orderings: Sequence[Ordering]) -> list[float]:
        pieces = {example: tokenizer.encode(example) for ordering in orderings for example in ordering}
        sequences, owners = [], []
        for index, ordering in enumerate(orderings):
            ids = [token for example in ordering for token in pieces[example]]
            parts = prefixed_windows(ids, tokenizer.prefix_id, limit, limit // 2)
            sequences += parts
            owners += [index] * len(parts)
        totals = [0.0] * len(orderings)
        for owner, value in zip(owners, sequence_logprobs(model, sequences), strict=True):
            totals[owner] += value
        return totals

    return logprob
