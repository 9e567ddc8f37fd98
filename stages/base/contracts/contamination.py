"""`data/evaluation/contamination/contamination.json`: whether the base model has seen the tests."""

from typing import Literal

from stages.base.contracts import Contract, Number

Verdict = Literal["clean", "contaminated", "undecided", "unknown"]
"""undecided: nothing was found by a test that found no planted set either; unknown: not tested, `reason` says why."""


class Ordering(Contract):
    """Does the model prefer the published order of a task's questions? (Oren et al. 2023)"""

    task: str
    examples: int
    p_value: Number
    t: Number
    differences: list[float]
    """Of each shard, log p in the published order minus the mean over shuffled ones, nats."""
    verdict: Verdict
    reason: str


class Planted(Contract):
    """The same test on a set that a probe has read so many times."""

    copies: int
    p_value: float
    t: Number


class Power(Contract):
    """What the ordering test can see: sets planted on purpose in the training of a small probe."""

    planted: list[Planted]
    """By number of copies; empty where there was nothing to plant, `reason` says why."""
    detects_from_copies: int | None
    reason: str


class Overlap(Contract):
    """Runs of words that a set of questions shares with the training text."""

    set: str
    """A task, or `test-instructions`: the judged prompts."""
    items: int
    ngram: int
    any_ngram: Number
    """Share of items with a run of `ngram` words."""
    share_ngram: int
    mean_share: Number
    """Mean share of an item's runs of `share_ngram` words."""
    dirty: Number
    """Share of items of which `dirty_share` or more is in the training text."""
    dirty_ids: list[str]
    verdict: Verdict
    reason: str


class SplitAccuracy(Contract):
    """A task's accuracy on all, clean and dirty questions; null where there are none."""

    task: str
    protocol: str
    all_questions: int
    all_acc: Number
    clean_questions: int
    clean_acc: Number
    dirty_questions: int
    dirty_acc: Number


class Contamination(Contract):
    model: str
    alpha: float
    """p below which a task counts as contaminated."""
    dirty_share: float
    ordering: list[Ordering]
    """One a task."""
    power: Power
    overlap: list[Overlap]
    accuracy: list[SplitAccuracy]
