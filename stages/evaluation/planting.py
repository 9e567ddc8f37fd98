"""Contamination made to order: a small model that has read known test sets a known number of times.

A clean verdict is worth what the test can see. The probe is trained from scratch on packed training rows with sets of
questions planted in their canonical order, each set with its own number of copies (Oren et al. 2023, §4.2), and with
random strings, the canaries, planted as often (Carlini et al. 2019). It is a model of its own, planted after dedup:
nothing else ever reads these rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
from pydantic import AfterValidator, Field

from stages.base.contracts.pack import Pack
from stages.base.errors import InputError
from stages.base.recipe import Recipe, Shape
from stages.base.seeds import derive
from stages.lm.build import LanguageModel, build_model
from stages.lm.chat import ChatTokenizer
from stages.lm.config import ModelConfig
from stages.lm.data import batch_rows
from stages.lm.device import device
from stages.lm.packed_training import Batches, PackedTraining
from stages.lm.rates import wsd


def _distinct(copies: list[int]) -> list[int]:
    if len(set(copies)) < len(copies):
        raise ValueError("each number of copies must stand once")
    return copies


class ProbeParams(Shape):
    """The probe's shape, and what it reads; it is trained by the recipe."""

    copies: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1), AfterValidator(_distinct)]
    """One planted set for each number of copies."""
    examples: Annotated[int, Field(ge=4)]
    """Questions in each set."""
    shuffled_copies: Annotated[int, Field(ge=0)]
    """Of one more set, each copy in another order: what the ordering test can't see and overlap can. 0: none."""
    canaries: Annotated[int, Field(ge=2)]
    """Random strings that those planted, one for each number of copies, are ranked among."""
    background_tokens: Annotated[int, Field(ge=0)]
    """Of ordinary training text among the sets."""


class TooFewQuestions(InputError):
    """There is nothing to plant, or not enough of it."""


@dataclass(frozen=True)
class PlantedSet:
    copies: int
    examples: tuple[str, ...]  # in canonical order
    shuffled: bool = False  # each copy in an order of its own


def disjoint_sets(examples: Sequence[str], copies: Sequence[int], size: int, seed: int) -> list[PlantedSet]:
    """One set for each number of copies, no example in two, in a seeded order: exchangeable by design."""
    distinct = sorted(set(examples))
    if len(distinct) < size * len(copies):
        raise TooFewQuestions(
            f"{len(distinct)} questions are too few for {len(copies)} planted sets of {size}; "
            "lower `evaluation.contamination.probe.examples`, or bring more instructions"
        )
    order = np.random.default_rng(derive(seed, "sets")).permutation(len(distinct))
    parts = (order[k * size : (k + 1) * size] for k in range(len(copies)))
    return [PlantedSet(count, tuple(distinct[i] for i in part)) for count, part in zip(copies, parts, strict=True)]


def planted_rows(background: np.ndarray, sets: Sequence[PlantedSet], tokenizer: ChatTokenizer, seed: int) -> np.ndarray:
    """Rows [n, width] of the background rows' and all copies' tokens, shuffled, cut anew, each row BOS-first; in the
    background's dtype.

    Copies start at any place of a row, so that no example always stands at the same position.
    """
    bos, width = tokenizer.prefix_id, background.shape[1]
    pieces = list(background.astype(np.int64))
    for number, planted in enumerate(sets):
        ids = [tokenizer.encode(example) for example in planted.examples]
        rng = np.random.default_rng(derive(seed, "copies", number))
        for _ in range(planted.copies):
            order = rng.permutation(len(ids)) if planted.shuffled else range(len(ids))
            pieces.append(np.array([bos, *(token for i in order for token in ids[i])], dtype=np.int64))
    order = np.random.default_rng(derive(seed, "pieces")).permutation(len(pieces))
    stream = np.concatenate([pieces[i] for i in order])
    count = -(-len(stream) // (width - 1))
    rows = np.full((count, width), tokenizer.pad_id, dtype=np.int64)
    rows[:, 0] = bos
    rows[:, 1:].flat[: len(stream)] = stream
    return rows.astype(background.dtype)


def planted_sets(examples: Sequence[str], params: ProbeParams, seed: int) -> list[PlantedSet]:
    """The sets that params ask for: one for each number of copies, and the shuffled one."""
    wanted = [*params.copies, *([params.shuffled_copies] if params.shuffled_copies else [])]
    sets = disjoint_sets(examples, wanted, params.examples, seed)
    return [replace(planted, shuffled=i >= len(params.copies)) for i, planted in enumerate(sets)]


def planted_canaries(copies: Sequence[int], strings: Sequence[str]) -> list[PlantedSet]:
    """The first strings, one for each number of copies."""
    return [PlantedSet(count, (string,)) for count, string in zip(copies, strings, strict=False)]


def sample_rows(rows: np.ndarray, tokens: int, seed: int) -> np.ndarray:
    """About `tokens` tokens of packed training rows, drawn without replacement (all, if there are fewer)."""
    count = min(len(rows), -(-tokens // rows.shape[1]))
    return np.array(rows[np.sort(np.random.default_rng(derive(seed, "background")).permutation(len(rows))[:count])])


def train_probe(rows: np.ndarray, pack: Pack, params: ProbeParams, recipe: Recipe, seed: int) -> LanguageModel:
    """A decoder that has read each row [n, width] about once, in eval mode."""
    seq_len = rows.shape[1] - 1
    model = build_model(
        ModelConfig.of("transformer", params, recipe, pack.vocab_size, seq_len), derive(seed, "weights")
    ).to(device())
    batch = max(1, round(recipe.batch_tokens / seq_len))
    steps = -(-len(rows) // batch)
    warmup, cooldown = min(recipe.warmup_steps, steps // 2), max(1, round(recipe.cooldown * steps))

    def chosen(step: int) -> np.ndarray:
        return rows[batch_rows(derive(seed, "batches"), step, batch, len(rows))]

    batches = Batches(chosen, batch, seq_len, pack.pad_id, pack.bos_id)
    with PackedTraining(model, recipe, batches, steps) as training:
        training.train(
            lambda step: wsd(step, steps, warmup, cooldown), steps, name="evaluation.contamination.probe", facts={}
        )
    return model.eval()
